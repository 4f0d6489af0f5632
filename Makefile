# The commands of everyday work. `make help` lists them; docs/build.md says more.

KERNELFORGE := build/release/bin/kernelforge
PYTHON := .venv/bin/python
PROMPT := --prompt "The capital of France is" --temperature 0 -n 32
MATMUL := -m 512 -n 1536 -k 576 --weights q4_1

# ccache believes the compiler's list of what a file includes, and does not preprocess each file first,
# which takes a third of a second with what all include.
export CCACHE_DEPEND := 1

# One more test than cores: some of them wait for processes and timers.
TEST_JOBS = $$(( $$(nproc) + 1 ))

# configure and build the preset $(1), the target $(2) or everything
define build
	@test -f build/$(1)/build.ninja || cmake --preset $(1) >/dev/null
	@cmake --build --preset $(1) $(if $(2),--target $(2))
endef

.PHONY: help setup vendors build demo test test-asan test-gpu test-ptxas test-targets test-webgpu-dawn test-browser package quick bench-peers goldens format tidy clean
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

setup: ## install packages (apt, with sudo where needed) and the private .venv
	@scripts/setup.sh

vendors: setup ## fetch Intel MKL (220 MB), too, as a peer to measure against
	@scripts/vendors.sh openblas mkl

build: setup ## build everything, optimised, into build/release
	$(call build,release)

demo: setup ## set up, build, fetch SmolLM2 and generate text with it
	$(call build,release,kernelforge)
	@if $(PYTHON) scripts/models/fetch.py smollm2 >/dev/null; then \
	  $(KERNELFORGE) llm-inference --model smollm2 $(PROMPT); \
	else \
	  echo "demo: SmolLM2 could not be fetched; running random weights of its shape instead"; \
	  $(KERNELFORGE) llm-inference --random-weights smollm2 $(PROMPT); \
	fi

test: setup ## set up, build and run all tests; those of untrusted input under sanitizers
	@mkdir -p build; $(PYTHON) scripts/models/fetch.py smollm2 >build/fetch.log 2>&1 & # beside the build
	$(call build,release)
	$(call build,sanitize-untrusted)
	@$(PYTHON) scripts/models/fetch.py smollm2 || echo "test: tests that need SmolLM2 are skipped"
	@ctest --preset sanitize-untrusted -j $(TEST_JOBS)
	@ctest --preset release -LE untrusted -j $(TEST_JOBS)
	@! test -f build/release/cuda-unverified.txt || head -n 1 build/release/cuda-unverified.txt

test-gpu: setup ## CUDA on the GPU that is here: device, kernels, random modules, memory checks; updates the ledger
	$(call build,release,kernelforge)
	$(call build,release,cuda-device-test)
	@$(PYTHON) -B tests/cuda/device_test.py --bin build/release/bin

test-asan: setup ## build everything with address and undefined-behaviour sanitizers and test it
	$(call build,sanitize)
	@ctest --preset sanitize -j $(TEST_JOBS)

test-ptxas: setup ## emulate the PTX of all test kernels; assemble it, and that of all schedules of what models have (hours)
	$(call build,release,kernelforge)
	$(call build,release,ptx-schedules)
	$(call build,release,ptx-run)
	@$(PYTHON) -B tests/e2e/gpu_test.py --bin build/release/bin --target cuda --emulated --all
	@$(PYTHON) -B tests/e2e/ptxas_test.py --bin build/release/bin --schedules 0

test-targets: setup ## without the CPU, without CUDA, without WebGPU: build everything and test it
	@scripts/test_targets.sh

test-webgpu-dawn: setup ## tests of the WebGPU device with Dawn (fetched into .vendor with a driver that it takes)
	$(call build,release,webgpu-device-test)
	@scripts/dawn.sh build/release/bin/webgpu-device-test

package: setup ## write build/kernelforge.tar.xz, for machines that have no compiler, and try it
	$(call build,release)
	@$(KERNELFORGE) package -o build/kernelforge.tar.xz
	@$(PYTHON) -B tests/e2e/package_test.py --bin build/release/bin --archive build/kernelforge.tar.xz

test-browser: setup ## look at the HTML report in Chromium (installed with apt); screenshots in build/screenshots
	$(call build,release,html-probe)
	@test -n "$$KERNELFORGE_CHROMIUM" || command -v chromium >/dev/null || scripts/setup.sh chromium
	@$(PYTHON) -B tests/browser/report_test.py

quick: ## after an edit: build, then compile, verify and time one matmul; one row of JSON
	@test -f build/release/build.ninja || cmake --preset release >/dev/null
	@cmake --build --preset release --target kernelforge >&2
	@$(KERNELFORGE) benchmark-matmul $(MATMUL) --json

bench-peers: ## our kernels beside the newest libraries for processors, in turns (ARGS="--quick --only torch --json FILE ...")
	$(call build,release,kernelforge)
	@python3 bench/peers/cpu/peers.py $(ARGS)

goldens: setup ## make tests/golden/data again (downloads gigabytes into .venv-goldens)
	@test -x .venv-goldens/bin/python || python3 -m venv .venv-goldens
	@.venv-goldens/bin/pip install --quiet -r scripts/goldens/requirements.txt
	@model=$$($(PYTHON) scripts/models/fetch.py smollm2) && \
	  .venv-goldens/bin/python scripts/goldens/make.py --model "$$model"
	@.venv-goldens/bin/python scripts/goldens/sentencepiece_models.py
	@$(PYTHON) scripts/goldens/quantized_blocks.py

SOURCES = find kernelforge tools examples tests fuzz -name '*.cpp' -o -name '*.h' -o -name '*.js'
format: ## format all C++ and JavaScript with clang-format
	@$(SOURCES) | xargs clang-format-19 -i

tidy: setup ## check all C++ with clang-tidy
	$(call build,debug)
	@run-clang-tidy-19 -quiet -p build/debug 'kernelforge/.*|tools/.*|examples/.*'

clean: ## remove the build folders
	rm -rf build
