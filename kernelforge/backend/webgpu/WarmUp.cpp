#include "kernelforge/backend/webgpu/WarmUp.h"

#include "kernelforge/backend/RampUp.h"

#include <fmt/format.h>

namespace kernelforge::webgpu {

namespace {

constexpr const char *cannotWarm = "WebGPU device cannot be warmed up";

constexpr uint32_t groups = 1024, threads = 128;

/// Long enough that many of them keep a large GPU busy, and one of them a small one not for long.
std::string shaderText() {
  return fmt::format(R"(
@group(0) @binding(0) var<storage, read_write> result: array<f32>;
@compute @workgroup_size({})
fn warm(@builtin(global_invocation_id) at: vec3<u32>) {{
  var x = f32(at.x);
  for (var i = 0u; i < 4096u; i++) {{
    x = fma(x, 0.999, 1.0);
  }}
  result[at.x] = x;
}}
)",
                     threads);
}

} // namespace

Status WarmUp::make(const Context &context) {
  const Api &api = context.api();
  KF_TRY(buffer,
         context.makeBuffer(uint64_t(groups) * threads * 4, WGPUBufferUsage_Storage, "warm-up"));
  return context.checked(cannotWarm, context.info().name, [&] {
    const std::string text = shaderText();
    WGPUShaderSourceWGSL source = WGPU_SHADER_SOURCE_WGSL_INIT;
    source.code = view(text);
    WGPUShaderModuleDescriptor module = WGPU_SHADER_MODULE_DESCRIPTOR_INIT;
    module.nextInChain = &source.chain;
    const Handle<WGPUShaderModule> shader = {
        api.wgpuDeviceCreateShaderModule(context.device(), &module), api.wgpuShaderModuleRelease};
    WGPUBindGroupLayoutEntry entry = WGPU_BIND_GROUP_LAYOUT_ENTRY_INIT;
    entry.visibility = WGPUShaderStage_Compute;
    entry.buffer.type = WGPUBufferBindingType_Storage;
    WGPUBindGroupLayoutDescriptor layoutText = WGPU_BIND_GROUP_LAYOUT_DESCRIPTOR_INIT;
    layoutText.entryCount = 1;
    layoutText.entries = &entry;
    const Handle<WGPUBindGroupLayout> layout = {
        api.wgpuDeviceCreateBindGroupLayout(context.device(), &layoutText),
        api.wgpuBindGroupLayoutRelease};
    const WGPUBindGroupLayout layouts[] = {layout.get()};
    WGPUPipelineLayoutDescriptor all = WGPU_PIPELINE_LAYOUT_DESCRIPTOR_INIT;
    all.bindGroupLayoutCount = 1;
    all.bindGroupLayouts = layouts;
    const Handle<WGPUPipelineLayout> ofPipeline = {
        api.wgpuDeviceCreatePipelineLayout(context.device(), &all), api.wgpuPipelineLayoutRelease};
    WGPUComputePipelineDescriptor descriptor = WGPU_COMPUTE_PIPELINE_DESCRIPTOR_INIT;
    descriptor.layout = ofPipeline.get();
    descriptor.compute.module = shader.get();
    descriptor.compute.entryPoint = view("warm");
    pipeline = {api.wgpuDeviceCreateComputePipeline(context.device(), &descriptor),
                api.wgpuComputePipelineRelease};
    WGPUBindGroupEntry bound = WGPU_BIND_GROUP_ENTRY_INIT;
    bound.buffer = buffer.get();
    bound.size = uint64_t(groups) * threads * 4;
    WGPUBindGroupDescriptor groupText = WGPU_BIND_GROUP_DESCRIPTOR_INIT;
    groupText.layout = layout.get();
    groupText.entryCount = 1;
    groupText.entries = &bound;
    group = {api.wgpuDeviceCreateBindGroup(context.device(), &groupText), api.wgpuBindGroupRelease};
  });
}

Status WarmUp::run(const Context &context) {
  const std::lock_guard own(mutex);
  const auto begin = Clock::now();
  if (context.info().software || (last && begin - *last < RampUp::idle))
    return {};
  const Api &api = context.api();
  {
    const auto guard = context.lock();
    if (!group)
      KF_CHECK(make(context));
  }
  // A slow device gets few, a fast one as many as it can do meanwhile.
  RampUp ramp;
  for (uint32_t dispatches = 1; !ramp.isOver(); dispatches = std::min(2 * dispatches, 64U)) {
    const auto start = Clock::now();
    {
      const auto guard = context.lock();
      Handle<WGPUCommandBuffer> commands;
      KF_CHECK(context.checked(cannotWarm, context.info().name, [&] {
        const Handle<WGPUCommandEncoder> encoder = {
            api.wgpuDeviceCreateCommandEncoder(context.device(), nullptr),
            api.wgpuCommandEncoderRelease};
        const Handle<WGPUComputePassEncoder> pass = {
            api.wgpuCommandEncoderBeginComputePass(encoder.get(), nullptr),
            api.wgpuComputePassEncoderRelease};
        api.wgpuComputePassEncoderSetPipeline(pass.get(), pipeline.get());
        api.wgpuComputePassEncoderSetBindGroup(pass.get(), 0, group.get(), 0, nullptr);
        for (uint32_t i = 0; i < dispatches; ++i)
          api.wgpuComputePassEncoderDispatchWorkgroups(pass.get(), groups, 1, 1);
        api.wgpuComputePassEncoderEnd(pass.get());
        commands = {api.wgpuCommandEncoderFinish(encoder.get(), nullptr),
                    api.wgpuCommandBufferRelease};
      }));
      context.submit(commands.get());
    }
    KF_CHECK(context.waitForQueue());
    const auto end = Clock::now();
    ramp.add(end - begin, (end - start) / dispatches);
  }
  last = Clock::now();
  return {};
}

} // namespace kernelforge::webgpu
