#include "kernelforge/backend/webgpu/WordMerge.h"

#include <algorithm>
#include <array>

namespace kernelforge::webgpu {

namespace {

constexpr const char *kernel = R"(
struct Merge { to_word: u32, from_word: u32, mask: u32, value: u32, copies: u32 }
@group(0) @binding(0) var<storage, read_write> target_words: array<u32>;
@group(0) @binding(1) var<storage, read_write> source_words: array<u32>;
@group(0) @binding(2) var<uniform> merge: Merge;

@compute @workgroup_size(1) fn merge_word() {
  var bits: u32 = merge.value;
  if (merge.copies != 0u) { bits = source_words[merge.from_word]; }
  target_words[merge.to_word] = (target_words[merge.to_word] & ~merge.mask) | (bits & merge.mask);
}
)";

struct Uniform {
  uint32_t to, from, mask, value, copies;
};
constexpr uint64_t slotBytes = 256;

/// The least piece of a buffer around a word that can be bound.
WGPUBindGroupEntry window(uint32_t binding, WGPUBuffer buffer, uint64_t offset,
                          uint64_t alignment) {
  WGPUBindGroupEntry entry = WGPU_BIND_GROUP_ENTRY_INIT;
  entry.binding = binding;
  entry.buffer = buffer;
  entry.offset = offset / alignment * alignment;
  entry.size = offset - entry.offset + 4;
  return entry;
}

} // namespace

uint32_t byteMask(int begin, int end) {
  uint32_t mask = 0;
  for (int byte = begin; byte < end; ++byte)
    mask |= uint32_t(0xff) << (8 * byte);
  return mask;
}

Expected<std::unique_ptr<WordMerge>> WordMerge::make(std::shared_ptr<const Context> context) {
  std::unique_ptr<WordMerge> merge(new WordMerge(std::move(context)));
  const auto guard = merge->context->lock();
  KF_CHECK(merge->compile());
  return merge;
}

Status WordMerge::compile() {
  const Api &api = context->api();
  KF_TRY(nothing, context->makeBuffer(slotBytes, WGPUBufferUsage_Storage, "merged words"));
  return context->checked("WebGPU kernel cannot be compiled", "merge_word", [&] {
    const Handle<WGPUShaderModule> shader = context->makeShader(kernel, "merge_word");
    std::array<WGPUBindGroupLayoutEntry, 3> entries;
    for (uint32_t i = 0; i < entries.size(); ++i) {
      entries[i] = WGPU_BIND_GROUP_LAYOUT_ENTRY_INIT;
      entries[i].binding = i;
      entries[i].visibility = WGPUShaderStage_Compute;
      entries[i].buffer.type =
          i < 2 ? WGPUBufferBindingType_Storage : WGPUBufferBindingType_Uniform;
    }
    WGPUBindGroupLayoutDescriptor group = WGPU_BIND_GROUP_LAYOUT_DESCRIPTOR_INIT;
    group.entryCount = entries.size();
    group.entries = entries.data();
    layout = {api.wgpuDeviceCreateBindGroupLayout(context->device(), &group),
              api.wgpuBindGroupLayoutRelease};
    const WGPUBindGroupLayout groups[] = {layout.get()};
    WGPUPipelineLayoutDescriptor all = WGPU_PIPELINE_LAYOUT_DESCRIPTOR_INIT;
    all.bindGroupLayoutCount = 1;
    all.bindGroupLayouts = groups;
    const Handle<WGPUPipelineLayout> pipelineLayout = {
        api.wgpuDeviceCreatePipelineLayout(context->device(), &all), api.wgpuPipelineLayoutRelease};
    WGPUComputePipelineDescriptor descriptor = WGPU_COMPUTE_PIPELINE_DESCRIPTOR_INIT;
    descriptor.layout = pipelineLayout.get();
    descriptor.compute.module = shader.get();
    descriptor.compute.entryPoint = view("merge_word");
    pipeline = {api.wgpuDeviceCreateComputePipeline(context->device(), &descriptor),
                api.wgpuComputePipelineRelease};
  });
}

Status WordMerge::submit(const std::vector<MergedWord> &words) const {
  if (words.empty())
    return {};
  const Api &api = context->api();
  const uint64_t alignment =
      std::max<uint64_t>(256, context->limits().minStorageBufferOffsetAlignment);
  KF_TRY(const Handle<WGPUBuffer> uniforms,
         context->makeBuffer(slotBytes * words.size(),
                             WGPUBufferUsage_Uniform | WGPUBufferUsage_CopyDst, "merged words"));
  Handle<WGPUCommandBuffer> commands;
  KF_CHECK(context->checked("WebGPU work cannot be recorded", "merge_word", [&] {
    const Handle<WGPUCommandEncoder> encoder = {
        api.wgpuDeviceCreateCommandEncoder(context->device(), nullptr),
        api.wgpuCommandEncoderRelease};
    const Handle<WGPUComputePassEncoder> pass = {
        api.wgpuCommandEncoderBeginComputePass(encoder.get(), nullptr),
        api.wgpuComputePassEncoderRelease};
    api.wgpuComputePassEncoderSetPipeline(pass.get(), pipeline.get());
    for (size_t i = 0; i < words.size(); ++i) {
      const MergedWord &word = words[i];
      std::array<WGPUBindGroupEntry, 3> entries;
      entries[0] = window(0, word.to, word.toOffset, alignment);
      entries[1] = word.from ? window(1, word.from, word.fromOffset, alignment)
                             : window(1, nothing.get(), 0, alignment);
      entries[2] = WGPU_BIND_GROUP_ENTRY_INIT;
      entries[2].binding = 2;
      entries[2].buffer = uniforms.get();
      entries[2].offset = slotBytes * i;
      entries[2].size = sizeof(Uniform);
      const Uniform uniform = {
          uint32_t((word.toOffset - entries[0].offset) / 4),
          uint32_t((word.fromOffset - (word.from ? entries[1].offset : 0)) / 4), word.mask,
          word.value, word.from ? 1U : 0U};
      api.wgpuQueueWriteBuffer(context->queue(), uniforms.get(), entries[2].offset, &uniform,
                               sizeof(Uniform));
      WGPUBindGroupDescriptor descriptor = WGPU_BIND_GROUP_DESCRIPTOR_INIT;
      descriptor.layout = layout.get();
      descriptor.entryCount = entries.size();
      descriptor.entries = entries.data();
      const Handle<WGPUBindGroup> group = {
          api.wgpuDeviceCreateBindGroup(context->device(), &descriptor), api.wgpuBindGroupRelease};
      api.wgpuComputePassEncoderSetBindGroup(pass.get(), 0, group.get(), 0, nullptr);
      api.wgpuComputePassEncoderDispatchWorkgroups(pass.get(), 1, 1, 1);
    }
    api.wgpuComputePassEncoderEnd(pass.get());
    commands = {api.wgpuCommandEncoderFinish(encoder.get(), nullptr), api.wgpuCommandBufferRelease};
  }));
  context->submit(commands.get());
  return {};
}

} // namespace kernelforge::webgpu
