# webgpu.h and wgpu.h of the wgpu-native that `make setup` puts into .venv with PyPI's `wgpu`. Nothing
# is linked with the library: it is opened at run time. Headers and library must be of one version.

option(KERNELFORGE_WEBGPU "Build the WebGPU device" ON)
if(KERNELFORGE_WEBGPU AND NOT KERNELFORGE_UNTRUSTED_ONLY)
  file(GLOB resources ${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/wgpu/resources)
  # What was found may be gone: .venv is made anew for another Python or another release.
  foreach(found KERNELFORGE_WEBGPU_HEADERS KERNELFORGE_WEBGPU_LIBRARY)
    if(NOT EXISTS "${${found}}")
      unset(${found} CACHE)
    endif()
  endforeach()
  find_path(KERNELFORGE_WEBGPU_HEADERS wgpu.h HINTS ${resources} NO_DEFAULT_PATH
            DOC "Folder of webgpu.h and wgpu.h")
  find_file(KERNELFORGE_WEBGPU_LIBRARY libwgpu_native-release.so HINTS ${resources} NO_DEFAULT_PATH
            DOC "What the WebGPU device opens where it is given no library")
  if(NOT KERNELFORGE_WEBGPU_HEADERS OR NOT KERNELFORGE_WEBGPU_LIBRARY)
    message(FATAL_ERROR
      "webgpu.h, wgpu.h and libwgpu_native-release.so are not in .venv: run `make setup`, which "
      "installs PyPI's wgpu, or configure with -DKERNELFORGE_WEBGPU=OFF.")
  endif()
  add_library(kf_webgpu_headers INTERFACE)
  target_include_directories(kf_webgpu_headers SYSTEM INTERFACE ${KERNELFORGE_WEBGPU_HEADERS})
endif()
