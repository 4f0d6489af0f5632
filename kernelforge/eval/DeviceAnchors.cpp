#include "kernelforge/eval/DeviceAnchors.h"

#include "kernelforge/support/Log.h"

using namespace kernelforge;

/// How long one measurement takes.
static constexpr double usualSeconds = 0.004;

Expected<std::unique_ptr<DeviceAnchors>> DeviceAnchors::create(SessionOptions options) {
  std::unique_ptr<DeviceAnchors> anchors(new DeviceAnchors);
  KF_TRY(anchors->ceilings, DeviceCeilings::create(std::move(options)));
  KF_TRY(anchors->bytes, anchors->ceilings->uncached());
  const Expected<double> arithmetic = anchors->ceilings->multiplyAdds(0);
  if (arithmetic)
    anchors->all = {"fma_f32"};
  else if (arithmetic.error().kind != ErrorKind::Unusable)
    return tl::unexpected(arithmetic.error());
  anchors->all.emplace_back("copy_memory");
  return anchors;
}

double DeviceAnchors::measure(std::string_view name, double part) {
  if (!has(name))
    return 0;
  const double seconds = usualSeconds * part;
  const Expected<double> rate =
      name == "fma_f32" ? ceilings->multiplyAdds(seconds) : ceilings->copy(bytes, seconds);
  if (!rate) // whoever runs a kernel there sees it, too
    logger().debug("{}", rate.error().line());
  return rate ? *rate / 1e9 : 0;
}
