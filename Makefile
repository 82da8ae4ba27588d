# `make` alone checks and tests. `make serve` and `make test` work on a machine with only Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUNDLE := bundles/all-MiniLM-L6-v2
OUT ?= build/gpu

.PHONY: all setup serve test check fix bench gpu clean
all: check test

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ridgeline needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,export,kernels,bench,demo,dev]'
	@touch $@

$(BUNDLE)/ridgeline.json: | $(VENV)/.installed
	$(BIN)/ridgeline export default $(BUNDLE)

serve: setup $(BUNDLE)/ridgeline.json
	@exec $(BIN)/ridgeline serve $(BUNDLE)

test: setup
	@tests/browser/install.sh
	$(BIN)/pytest -m "not gpu"

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

# Needs nothing but an interpreter that has torch and pytest: the packages are found through PYTHONPATH.
gpu:
	OUT='$(OUT)' PYTHON='$(PYTHON)' bench/gpu.sh

clean:
	rm -rf $(VENV) bundles build
