# Everything starts from `make`: it makes its own environment in .venv and needs only Python 3.11+.

PYTHON ?= python3
BIN := .venv/bin
PARTS := proto edge cloud router
# The attention kernel is compiled when `edge` is installed, where there is a compiler.
KERNEL := edge/hatch_build.py $(wildcard edge/edgewise_edge/runtime/litert/attention*.[ch])
EDITABLE := $(foreach part,$(PARTS),-e $(part))
CLIENTS := $(foreach name,apps llama-index lm-eval,.clients/$(name)/ready)
LLAMA_SERVER := .bench/llama-server/bin/llama-server
OURS := $(foreach name,edgewise edgewise-cloud edgewise-edge edgewise-proto,--no-emit-package $(name))
# What users install is what was tested: their versions are those of dev.txt.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header $(OURS)

# The public modules. The cloud's interface is its command line and its protocol.
API := edgewise edgewise.metrics edgewise.tracing edgewise.testing \
	edgewise_edge edgewise_edge.profiling edgewise_edge.trial
DIST := dist
DOCS := build/docs

.PHONY: help demo page test soak check format wheels docs bench bench-edge bench-cloud stubs lock clean

help:  ## Say what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: .venv/ready  ## Watch the router choose, on the bundled model
	@$(BIN)/python -m demo

page: .venv/ready  ## Open a page: write with this device and a cloud, and see who writes and why
	@$(BIN)/python -m demo page

# A process for each of up to four files at a time: importing TensorFlow and compiling take most of
# the time. In collection order, many small files come last, so that the processes end together.
test: .venv/ready .clients/apps/ready .clients/llama-index/ready  ## Run the tests
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

soak: .venv/ready $(CLIENTS)  ## Faults for ten minutes, a cloud killed 400 times, 1,500 damaged models, Ray, JAX, lm-eval; an hour and a half
	EDGEWISE_SOAK=600 EDGEWISE_KILLS=200 XLA_FLAGS= $(BIN)/python -m pytest --timeout 3600 \
		-m "soak or not soak" -s tests/end_to_end/handoff tests/end_to_end/cloud tests/end_to_end/privacy \
		tests/end_to_end/delivery tests/router/delivery tests/end_to_end/clients \
		tests/cloud/serving/engine tests/cloud/serving/server tests/end_to_end/device/test_damaged_models.py tests/end_to_end/cli/test_demo.py

check: .venv/ready  ## Format, lint, strict types, who imports whom, stubs that match the contract, workflows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests/typing
	$(BIN)/lint-imports --no-cache
	proto/check-stubs $(BIN)/python
	$(BIN)/zizmor --offline --no-progress --quiet --strict-collection .github

format: .venv/ready  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# hatchling writes the same bytes for the same files; nothing is fetched.
wheels: .venv/ready  ## Build the four wheels into dist/, and the versions to install with them as constraints
	@rm -f $(DIST)/edgewise*.whl
	@for part in $(PARTS); do $(BIN)/uv build --quiet --offline --no-build-isolation --python $(BIN)/python \
		--wheel --no-create-gitignore --out-dir $(DIST) $$part || exit; done
	@for file in device delivery cloud; do sed -n '/^[a-z]/s/ \\$$//p' requirements/$$file.txt > $(DIST)/$$file.txt || exit; done
	@ls -l $(DIST)

# pdoc does not see what a module imports when it is asked for.
PDOC = import edgewise, pdoc.__main__; [getattr(edgewise, name) for name in edgewise.__all__]; pdoc.__main__.cli()

docs: .venv/ready  ## Make the API reference in build/docs
	@rm -rf $(DOCS)
	$(BIN)/python -W error -c "$(PDOC)" --docformat markdown --no-show-source --output-directory $(DOCS) $(API)
	@echo "Open $(DOCS)/index.html"

bench: .venv/ready  ## Run the benchmarks of the router
	$(BIN)/python -m benchmarks.router.overhead
	$(BIN)/python -m benchmarks.router.http
	$(BIN)/python -m benchmarks.router.predictions
	$(BIN)/python -m benchmarks.router.handoff
	$(BIN)/python -m benchmarks.simulator --seeds 10

bench-edge: .venv/ready .bench/llama/ready .bench/onnx/ready  ## Compare our edge runtime with llama.cpp and ONNX Runtime
	$(BIN)/python -m benchmarks.edge.peers

bench-cloud: .venv/ready $(LLAMA_SERVER)  ## Compare our service with llama.cpp's server and KerasHub's generate()
	$(BIN)/python -m benchmarks.cloud.peers

stubs: .venv/ready  ## Generate the gRPC stubs again
	proto/generate-stubs $(BIN)/python proto

lock: .venv/ready  ## Resolve the requirements again
	$(COMPILE) --all-extras requirements/dev.in $(addsuffix /pyproject.toml,$(PARTS)) -o requirements/dev.txt
	$(COMPILE) $(addsuffix /pyproject.toml,router edge proto) -c requirements/dev.txt -o requirements/device.txt
	$(COMPILE) --extra delivery $(addsuffix /pyproject.toml,router edge proto) -c requirements/dev.txt -o requirements/delivery.txt
	$(COMPILE) --extra otel $(addsuffix /pyproject.toml,cloud edge proto) -c requirements/dev.txt -o requirements/cloud.txt
	$(COMPILE) requirements/tflite-runtime.in -o requirements/tflite-runtime.txt
	$(COMPILE) requirements/bench-llama.in -o requirements/bench-llama.txt
	$(COMPILE) requirements/bench-onnx.in -o requirements/bench-onnx.txt
	for name in apps llama-index lm-eval; do \
		$(COMPILE) --no-annotate requirements/clients/$$name.in -o requirements/clients/$$name.txt || exit; done
	$(COMPILE) --no-annotate requirements/tools.in -o requirements/tools.txt

clean:  ## Remove the environments, the wheels, the API reference, and what bench-edge and bench-cloud made
	rm -rf .venv .bench .clients build dist

# The environment is whole when `ready` is newer than all that defines it. uv would list each package, or with
# --quiet say nothing for minutes; the dots end with this recipe's shell, also after Ctrl-C.
.venv/ready: requirements/dev.txt requirements/tools.txt $(addsuffix /pyproject.toml,$(PARTS)) $(KERNEL)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11 to 3.13 is needed (TensorFlow has no wheels for 3.14 yet), and this is " + sys.version.split()[0] + "; name one: make PYTHON=...")'
	@echo "Setting up .venv, once: it downloads 1.1 GB of packages and takes 3.4 GB of disk."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tools.txt
	@while sleep 3 && kill -0 $$$$; do printf .; done 2>/dev/null & \
	$(BIN)/uv pip sync --quiet --require-hashes requirements/dev.txt; status=$$?; kill $$!; echo; exit $$status
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation $(EDITABLE)
	@touch $@

# llama.cpp is as fast as it can be only where it was compiled for the processor it runs on; uv's cache
# may come from another one.
.bench/llama/ready: export CMAKE_ARGS = -DGGML_NATIVE=ON
.bench/llama/ready: BUILD = --no-binary llama-cpp-python --no-cache

$(LLAMA_SERVER): benchmarks/peers/build-llama-server .bench/llama/ready
	@echo "compiling llama.cpp's own server, once; this takes some minutes"
	@$< $(BIN)/python .bench/llama/bin/cmake .bench/llama-server

# The peers of bench-edge and bench-cloud, each in an environment of its own.
.bench/%/ready: requirements/bench-%.txt | .venv/ready
	@echo "setting up .bench/$*, once; compiling llama.cpp takes some minutes"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .bench/$*
	@$(BIN)/uv pip install --quiet --python .bench/$*/bin/python --require-hashes $(BUILD) -r $<
	@touch $@

# Other people's clients of `edgewise serve`, each with its own dependencies.
.clients/%/ready: requirements/clients/%.txt | .venv/ready
	@echo "Setting up .clients/$*, once: it downloads about 100 MB of packages."
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .clients/$*
	@$(BIN)/uv pip install --quiet --python .clients/$*/bin/python --require-hashes -r $<
	@touch $@
