// NVIDIA's driver, opened at run time.
#pragma once

#include "kernelforge/backend/cuda/Api.h"
#include "kernelforge/support/Error.h"

#include <memory>
#include <string>

namespace kernelforge::cuda {

class Library {
public:
  /// Opens the driver at `path`; empty: the one that the system finds. Missing, naming what is not
  /// there, where it cannot be had or is older than CUDA 12. It stays open: a driver cannot be
  /// closed.
  static Expected<std::shared_ptr<const Library>> open(const std::string &path);

  const Api &api() const { return functions; }

private:
  Api functions;
};

} // namespace kernelforge::cuda
