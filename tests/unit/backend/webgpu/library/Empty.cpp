// A library with nothing of WebGPU.
extern "C" __attribute__((visibility("default"))) int kernelforgeNothing() { return 0; }
