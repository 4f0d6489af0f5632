#include "kernelforge/backend/webgpu/Pipelines.h"

#include "kernelforge/backend/GpuLaunches.h"
#include "kernelforge/backend/webgpu/Convention.h"
#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <fmt/format.h>
#include <thread>

namespace kernelforge::webgpu {

namespace {

constexpr const char *cannotRun = "kernel cannot run on this WebGPU device";
constexpr const char *cannotCompile = "WebGPU kernel cannot be compiled";

/// Libraries end the program at text that is none, and Vulkan takes names up to a NUL.
bool isText(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = decodeUtf8(text);
    if (!step.valid || step.codePoint == 0)
      return false;
    text.remove_prefix(step.length);
  }
  return true;
}

Status checkPhase(const Context &context, const Artifact &artifact, const Phase &phase) {
  const Limits &limits = context.info().limits;
  auto refuse = [&](std::string why) {
    return unusable(cannotRun, fmt::format("{}, phase {}", artifact.kernel, phase.entry),
                    std::move(why));
  };
  if (!isText(phase.entry))
    return refuse("the name of its entry is no UTF-8 text");
  if (std::string why = blockObstacle(phase, limits, "workgroup"); !why.empty())
    return refuse(std::move(why));
  if (phase.cluster != 1)
    return refuse("it needs blocks in clusters, which WebGPU has not");
  if (phase.coResident)
    return refuse("it needs all blocks at once, which WebGPU does not promise");
  for (const Parameter &parameter : phase.parameters)
    if (parameter.kind == Parameter::Kind::Map)
      return refuse("it takes a tensor map, which WebGPU has not");
  if (const auto buffers = int64_t(buffersOf(phase).size()); buffers > limits.bindings)
    return refuse(fmt::format("it has {} buffers where {} are the most", buffers, limits.bindings));
  if (uniformBytes(phase) > context.limits().maxUniformBufferBindingSize)
    return refuse("it has too many sizes");
  return {};
}

/// What is compiled by itself: one artifact.
struct Task {
  const Program *program = nullptr;
  int artifact = 0;
  Kernel *kernel = nullptr;
};

/// Whether every launch of the artifact binds a weight to this parameter.
bool isAlwaysWeight(const Program &program, int artifact, const Parameter &parameter) {
  return parameter.kind == Parameter::Kind::Buffer && parameter.access == Access::Read &&
         std::all_of(program.launches.begin(), program.launches.end(), [&](const Launch &launch) {
           return launch.artifact != artifact ||
                  program.buffers[launch.buffers[parameter.index]].kind == BufferKind::Weight;
         });
}

/// The layout is written down, not taken from the shader: that would leave out what a shader does
/// not use, and then no two kernels with the same parameters could be bound alike.
void makeLayout(const Context &context, const Task &task, const Phase &phase,
                const DeclaredAccess &declared, PhasePipeline &out) {
  std::vector<WGPUBindGroupLayoutEntry> entries;
  auto add = [&](WGPUBufferBindingType type) {
    WGPUBindGroupLayoutEntry entry = WGPU_BIND_GROUP_LAYOUT_ENTRY_INIT;
    entry.binding = uint32_t(entries.size());
    entry.visibility = WGPUShaderStage_Compute;
    entry.buffer.type = type;
    entries.push_back(entry);
  };
  for (const Parameter &parameter : buffersOf(phase)) {
    const bool isReadOnly = declared.isReadOnly(int(entries.size()), phase.entry)
                                .value_or(isAlwaysWeight(*task.program, task.artifact, parameter));
    add(isReadOnly ? WGPUBufferBindingType_ReadOnlyStorage : WGPUBufferBindingType_Storage);
  }
  add(WGPUBufferBindingType_Uniform);
  WGPUBindGroupLayoutDescriptor descriptor = WGPU_BIND_GROUP_LAYOUT_DESCRIPTOR_INIT;
  descriptor.label = view(phase.entry);
  descriptor.entryCount = entries.size();
  descriptor.entries = entries.data();
  const Api &api = context.api();
  out.layout = {api.wgpuDeviceCreateBindGroupLayout(context.device(), &descriptor),
                api.wgpuBindGroupLayoutRelease};
}

/// What a pipeline is made of.
struct Recipe {
  Handle<WGPUShaderModule> shader;
  std::vector<Handle<WGPUPipelineLayout>> layouts;        ///< by phase
  std::vector<WGPUComputePipelineDescriptor> descriptors; ///< by phase
};

/// All of a kernel but its pipelines. Errors go to the error scopes of the calling thread, or to
/// the sink of the context.
Recipe prepareKernel(const Context &context, const Task &task) {
  const Artifact &artifact = task.program->artifacts[task.artifact];
  const Api &api = context.api();
  const DeclaredAccess declared(artifact.code);
  Recipe recipe;
  recipe.shader = context.makeShader(artifact.code, artifact.kernel);
  task.kernel->phases.clear();
  for (const Phase &phase : artifact.launching.phases) {
    PhasePipeline &out = task.kernel->phases.emplace_back();
    makeLayout(context, task, phase, declared, out);
    const WGPUBindGroupLayout groups[] = {out.layout.get()};
    WGPUPipelineLayoutDescriptor all = WGPU_PIPELINE_LAYOUT_DESCRIPTOR_INIT;
    all.bindGroupLayoutCount = 1;
    all.bindGroupLayouts = groups;
    recipe.layouts.emplace_back(api.wgpuDeviceCreatePipelineLayout(context.device(), &all),
                                api.wgpuPipelineLayoutRelease);
    WGPUComputePipelineDescriptor &descriptor =
        recipe.descriptors.emplace_back(WGPU_COMPUTE_PIPELINE_DESCRIPTOR_INIT);
    descriptor.label = view(phase.entry);
    descriptor.layout = recipe.layouts.back().get();
    descriptor.compute.module = recipe.shader.get();
    descriptor.compute.entryPoint = view(phase.entry);
  }
  return recipe;
}

/// The same, with its pipelines.
void compileKernel(const Context &context, const Task &task) {
  const Recipe recipe = prepareKernel(context, task);
  const Api &api = context.api();
  for (size_t i = 0; i < recipe.descriptors.size(); ++i)
    task.kernel->phases[i].pipeline = {
        api.wgpuDeviceCreateComputePipeline(context.device(), &recipe.descriptors[i]),
        api.wgpuComputePipelineRelease};
}

/// Compiles all on as many threads as there are processors. Whether that was without an error;
/// which kernel one is of cannot be told, since scopes of threads may mix.
Expected<bool> compileTogether(const Context &context, std::span<const Task> tasks) {
  (void)context.errors().take();
  const Status outer = context.checked(cannotCompile, "", [&] {
    std::atomic<size_t> next = 0;
    auto work = [&] {
      for (size_t i = next++; i < tasks.size(); i = next++)
        compileKernel(context, tasks[i]);
    };
    std::vector<std::thread> threads;
    const size_t count = std::min<size_t>(tasks.size(), std::thread::hardware_concurrency());
    for (size_t i = 1; i < count; ++i)
      threads.emplace_back(work);
    work();
    for (std::thread &thread : threads)
      thread.join();
  });
  KF_CHECK(context.alive());
  const bool elsewhere = context.errors().take().has_value();
  return outer.has_value() && !elsewhere;
}

/// A pipeline that the library compiles on a thread of its own.
struct Pending {
  const Task *task = nullptr;
  Handle<WGPUComputePipeline> *pipeline = nullptr;
  void (*release)(WGPUComputePipeline) = nullptr;
  std::atomic<bool> isOver = false;
  std::string error;
};

void onPipeline(WGPUCreatePipelineAsyncStatus status, WGPUComputePipeline pipeline,
                WGPUStringView message, void *userdata, void *) {
  auto &pending = *static_cast<Pending *>(userdata);
  if (status == WGPUCreatePipelineAsyncStatus_Success)
    *pending.pipeline = {pipeline, pending.release};
  else
    pending.error = onOneLine(text(message));
  pending.isOver = true;
}

/// Starts all, then waits for all. The library has threads for it; its calls come from this one.
Status compileAsynchronously(const Context &context, std::span<const Task> tasks) {
  const Api &api = context.api();
  std::deque<Pending> all;
  Status done;
  for (const Task &task : tasks) {
    done = context.checked(cannotCompile, task.program->artifacts[task.artifact].kernel, [&] {
      const Recipe recipe = prepareKernel(context, task);
      for (size_t i = 0; i < recipe.descriptors.size(); ++i) {
        Pending &pending = all.emplace_back();
        pending.task = &task;
        pending.pipeline = &task.kernel->phases[i].pipeline;
        pending.release = api.wgpuComputePipelineRelease;
        WGPUCreateComputePipelineAsyncCallbackInfo info =
            WGPU_CREATE_COMPUTE_PIPELINE_ASYNC_CALLBACK_INFO_INIT;
        info.mode = WGPUCallbackMode_AllowProcessEvents;
        info.callback = onPipeline;
        info.userdata1 = &pending;
        api.wgpuDeviceCreateComputePipelineAsync(context.device(), &recipe.descriptors[i], info);
      }
    });
    if (!done)
      break;
  }
  // Callbacks write into this frame, so that all are waited for, even where one was refused.
  context.waitForCallbacks([&] {
    return std::ranges::all_of(all, [](const Pending &one) { return one.isOver.load(); });
  });
  KF_CHECK(context.alive());
  KF_CHECK(done);
  for (const Pending &one : all)
    if (!*one.pipeline)
      return failed(cannotCompile, one.task->program->artifacts[one.task->artifact].kernel,
                    one.error.empty() ? "the library gives no pipeline" : one.error);
  return {};
}

} // namespace

Status checkKernels(const Context &context, const Program &program) {
  for (const Artifact &artifact : program.artifacts) {
    if (artifact.library)
      return unusable(cannotRun, artifact.kernel,
                      fmt::format("it is a call of {}, which only the host's processor runs",
                                  artifact.variant));
    if (!isText(artifact.code) || !isText(artifact.kernel))
      return unusable(cannotRun, artifact.kernel, "its code or name is no UTF-8 text");
    for (const Phase &phase : artifact.launching.phases)
      KF_CHECK(checkPhase(context, artifact, phase));
  }
  return {};
}

Expected<std::vector<std::vector<Kernel>>>
loadKernels(const std::shared_ptr<Context> &shared,
            std::span<const std::shared_ptr<const Program>> programs) {
  const Context &context = *shared;
  std::vector<std::vector<Kernel>> kernels;
  std::vector<Task> tasks;
  for (const auto &program : programs)
    kernels.emplace_back(program->artifacts.size());
  for (size_t p = 0; p < programs.size(); ++p)
    for (size_t a = 0; a < kernels[p].size(); ++a)
      tasks.push_back({programs[p].get(), int(a), &kernels[p][a]});
  const auto guard = context.lock();
  if (context.api().isNative() && tasks.size() > 1) {
    KF_TRY(const bool isRight, compileTogether(context, tasks));
    if (isRight)
      return kernels;
  } else if (context.api().wgpuDeviceCreateComputePipelineAsync && !context.api().isNative()) {
    KF_CHECK(compileAsynchronously(context, tasks));
    return kernels;
  }
  // One by one, so that an error has its kernel.
  for (const Task &task : tasks)
    KF_CHECK(context.checked(cannotCompile, task.program->artifacts[task.artifact].kernel,
                             [&] { compileKernel(context, task); }));
  return kernels;
}

} // namespace kernelforge::webgpu
