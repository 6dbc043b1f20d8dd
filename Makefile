# Two commands do everything on a fresh machine with Python 3.11+:  make demo   and   make test
#
# torch: constraints.txt pins the version, and pip takes the build from the index that it is configured with. Where
# that is pypi.org and the machine has no NVIDIA GPU, the CPU build saves gigabytes:
#     make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
       $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt
# Tests run side by side, so each process keeps to one thread.
WORKERS ?= auto
# What `make test` and `make accept` run: make test TESTS=tests/errors
TESTS ?= tests
# What `make bench` repeats: make bench BENCHMARKS=models
BENCHMARKS ?= models cpu onnx lengths quantize compiler
SINGLE := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(SINGLE) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all lint accept zoo kernels bench wheel clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

venv: $(VENV)/.all  ## make .venv with everything that the tests need (pinned by constraints.txt)

# Threads that wait without spinning: on a busy machine that is four times faster, on a quiet one as fast.
demo: $(VENV)/.demo  ## compile Griffin, train it for a minute, prove it, and run it in ONNX Runtime
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m examples.demo

test: $(VENV)/.all  ## the tests that every change must pass (minutes)
	@echo "Running the tests (slow ones: make test-all)"
	@$(PYTEST) $(TESTS)

test-all: $(VENV)/.all  ## every test: all specs, long fuzzing, wheel and editable installs
	@$(PYTEST) -m "" tests

lint: $(VENV)/.all  ## ruff, mypy --strict and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check seqc backends tests benchmarks examples tools cli.py
	$(BIN)/mypy
	$(BIN)/pyright

accept: $(VENV)/.all  ## rewrite the expected parts of the tests' pages; then read the diff
	SEQC_ACCEPT=1 $(PYTEST) $(TESTS) || true
	git diff --stat -- tests grammar docs

zoo: $(VENV)/.all  ## examine the specs that have changed and write docs/zoo.md; goes on where it stopped
	$(BIN)/python -m tools.zoo

kernels: $(VENV)/.all  ## compile the GPU kernels that have changed and write benchmarks/results/kernels.md; goes on too
	$(BIN)/python -m tools.kernels

# One thread each: two that share a busy machine wait for each other.
bench: $(VENV)/.all  ## every comparison with other people's code, into benchmarks/results/ (some fifteen minutes)
	@set -e; for name in $(BENCHMARKS); do echo "benchmarks.$$name"; $(SINGLE) $(BIN)/python -m benchmarks.$$name; done

wheel: $(VENV)/.all  ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean:  ## remove what make and the demo have made
	rm -rf $(VENV) build dist demo-out

$(VENV)/bin/python:
	@echo "Creating a virtual environment in $(VENV)/ with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit("seqc needs Python 3.11 or later") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: constraints.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing seqc, PyTorch and ONNX Runtime into $(VENV)/ (versions: constraints.txt; once, some minutes)"
	@$(PIP) -e ".[onnx]"
	@touch $@

$(VENV)/.all: constraints.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing seqc and its development tools into $(VENV)/ (versions: constraints.txt; once, some minutes)"
	@$(PIP) -e ".[dev,onnx,parity]"
	@touch $@ $(VENV)/.demo
