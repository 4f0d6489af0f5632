# Code for processors, and the team of threads that runs it. Without it the default target is the next
# one of the registry (kernelforge/compiler/Targets.cpp).

option(KERNELFORGE_CPU "Build the CPU target" ON)
