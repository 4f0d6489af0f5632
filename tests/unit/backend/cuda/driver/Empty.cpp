// A library with nothing of a driver.
extern "C" __attribute__((visibility("default"))) int kernelforgeNothing() { return 0; }
