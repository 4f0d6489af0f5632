# Kernels for NVIDIA's GPUs, as PTX by LLVM's NVPTX. Nothing of CUDA is needed to build, nor linked
# with: the driver is opened at run time.

option(KERNELFORGE_CUDA "Build the CUDA target" ON)
