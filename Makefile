# Two commands: `make repro` sets up and runs the whole pipeline, `make test` sets up and runs the tests.
PYTHON ?= python3
VENV ?= .venv
SUITE ?=
JOBS ?=
BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: repro test test-fast test-gpu check ui clean
.DEFAULT_GOAL := repro

repro: $(VENV)/.installed
	@seqlab repro $(if $(SUITE),suite=$(SUITE)) $(if $(JOBS),--jobs $(JOBS))

test: $(VENV)/.installed check
	@python -m pytest -n 2 --dist loadgroup

test-fast: $(VENV)/.installed
	@python -m pytest -n 2 --dist loadgroup -m "not slow"

# On a machine with a card: trains and evaluates every family there, beside the CPU and twice over.
test-gpu: $(VENV)/.installed
	@python -m pytest -m gpu tests/test_gpu.py

check: $(VENV)/.installed
	@ruff check . && ruff format --check . && mypy

ui: $(VENV)/.installed
	@seqlab ui

# torch first and by its exact version: a range, or another package's wish for torch, may bring a much larger build.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "seqlab: installing into $(VENV) (about 2 GB, two to four minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

clean:
	rm -rf $(VENV) .seqlab outputs multirun
