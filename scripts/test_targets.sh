#!/bin/sh
# Builds everything with one target switched off, links and tests it; for each target in turn, or for those
# that are named: test_targets.sh [cpu] [cuda] [webgpu]. One folder serves all, because little of the
# build knows of targets: all but the first take a minute or two. Not optimised, because nothing is timed.
set -e
cd "$(dirname "$0")/.."
folder=build/targets
for target in ${*:-cpu cuda webgpu}; do
  switches=
  for each in CPU CUDA WEBGPU; do
    state=ON
    [ "$each" != "$(echo "$target" | tr a-z A-Z)" ] || state=OFF
    switches="$switches -DKERNELFORGE_$each=$state"
  done
  echo "test-targets: without $target"
  cmake --preset release -B $folder -DCMAKE_CXX_FLAGS_RELEASE=-O0 $switches >/dev/null
  cmake --build $folder
  # A whole model by the definitions of its operations takes half an hour where they are not optimised.
  ctest --test-dir $folder -j "$(nproc)" --output-on-failure --timeout 1200 --no-tests=error \
    -E golden-smollm2-reference
done
