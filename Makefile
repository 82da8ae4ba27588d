# `make` alone checks and tests. `make serve` and `make test` work on a machine with only Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUNDLE := bundles/all-MiniLM-L6-v2
OUT ?= build/gpu

.PHONY: all setup serve test test-oldest-triton check fix bench bench-graphs fuzz gpu kernel-table protocol clean
all: check test

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ridgeline needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,export,compress,kernels,bench,grpc,otel,demo,dev]'
	@touch $@

$(BUNDLE)/ridgeline.json: | $(VENV)/.installed
	$(BIN)/ridgeline export default $(BUNDLE)

serve: setup $(BUNDLE)/ridgeline.json
	@exec $(BIN)/ridgeline serve $(BUNDLE)

test: setup
	@tests/browser/install.sh
	@PYTHON=$(PYTHON) tests/clients/install.sh
	$(BIN)/pytest -m "not gpu"

# The kernels' tests and compile sweep with the oldest Triton that is supported, in an environment of its own; its
# interpreter takes a loop's bounds by a conversion that NumPy 2.4 no longer has.
OLDEST := build/triton-3.6
test-oldest-triton: $(OLDEST)/.installed
	PYTHONPATH=estimate:export:kernels:. $(OLDEST)/bin/python -m pytest -c bench/gpu.ini --rootdir . -q -m "not gpu" tests/kernels

$(OLDEST)/.installed: constraints.txt Makefile
	@rm -rf $(OLDEST)
	@mkdir -p $(OLDEST)
	@grep -v '^numpy==' constraints.txt > $(OLDEST)/constraints.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --disable-pip-version-check --constraint $(OLDEST)/constraints.txt \
		torch 'numpy<2.4' onnx onnxruntime matplotlib pytest hypothesis
	$(OLDEST)/bin/pip install --quiet --disable-pip-version-check --no-deps triton==3.6.0
	@touch $@

# What each kernel needs of a multiprocessor, compiled for GPUs that are not there: kernels/RESOURCES.md. ARGS=--afresh
# compiles what has not changed, too.
kernel-table: setup
	$(BIN)/python -m ridgeline_kernels.compilation --record kernels/resources.json --out kernels/RESOURCES.md $(ARGS)

# The code of the gRPC protocol, after a change of its .proto file.
RPC := server/ridgeline_server/rpc
protocol:
	$(PYTHON) -m venv build/protocol
	build/protocol/bin/pip install --quiet --disable-pip-version-check 'grpcio-tools==1.85.1'
	build/protocol/bin/python -m grpc_tools.protoc -I $(RPC) --python_out=$(RPC) open_inference.proto

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/ridgeline bench http://127.0.0.1:8000 --concurrency 32 --duration 30 --out build/bench

# Attacks on a server of its own, by bytes: docs/security.md. ARGS='--attacks 50000 --keys' makes more, behind an API key.
fuzz: setup $(BUNDLE)/ridgeline.json
	$(BIN)/python bench/experiments/fuzz.py $(BUNDLE) $(ARGS)

# The packed graphs that PART=models measures, without weights: remade when the lowering, the fusion or the dialect
# changes. ARGS='--models bert-base' makes some alone.
bench-graphs: setup
	$(BIN)/python bench/packed_graphs.py $(ARGS)

# Needs nothing but an interpreter that has torch and pytest. PART=tests, kernels, models or tune does one part alone.
gpu:
	OUT='$(OUT)' PYTHON='$(PYTHON)' bench/gpu.sh

clean:
	rm -rf $(VENV) bundles build
