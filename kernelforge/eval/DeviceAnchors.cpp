#include "kernelforge/eval/DeviceAnchors.h"

#include "kernelforge/support/Log.h"

using namespace kernelforge;

/// How long one measurement takes.
static constexpr double usualSeconds = 0.004;

Expected<std::unique_ptr<DeviceAnchors>> DeviceAnchors::create(SessionOptions options) {
  std::unique_ptr<DeviceAnchors> anchors(new DeviceAnchors);
  KF_TRY(anchors->ceilings, DeviceCeilings::create(std::move(options)));
  KF_TRY(anchors->bytes, anchors->ceilings->uncached());
  anchors->all = {"copy_memory"};
  return anchors;
}

double DeviceAnchors::measure(std::string_view name, double part) {
  if (!has(name))
    return 0;
  const Expected<double> rate = ceilings->copy(bytes, usualSeconds * part);
  if (!rate) // whoever runs a kernel there sees it, too
    logger().debug("{}", rate.error().line());
  return rate ? *rate / 1e9 : 0;
}
