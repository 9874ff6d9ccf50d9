# Two commands: `make repro` sets up and runs the whole pipeline, `make test` sets up and runs the tests.
PYTHON ?= python3
VENV ?= .venv
SUITE ?=
JOBS ?=
BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: repro test test-fast test-long test-gpu check api ui lock licences clean
.DEFAULT_GOAL := repro

repro: $(VENV)/.installed
	@seqlab repro $(if $(SUITE),suite=$(SUITE)) $(if $(JOBS),--jobs $(JOBS))

# A file's tests run in one process, and files begin in the order of tests/conftest.py.
test: $(VENV)/.installed check
	@python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

# What takes minutes each: kills at random moments, queues of experiments.
test-long: $(VENV)/.installed
	@python -m pytest -m long

test-fast: $(VENV)/.installed
	@python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not long"

# On a machine with a card: trains and evaluates every family there, beside the CPU and twice over.
test-gpu: $(VENV)/.installed
	@python -m pytest -m gpu tests/test_gpu.py

check: $(VENV)/.installed
	@ruff check . && ruff format --check . && mypy

# Pages of the Python API, from docstrings, to outputs/api.
api: $(VENV)/.installed
	@python docs/api.py

ui: $(VENV)/.installed
	@seqlab ui

# torch first and by its exact version: a range, or another package's wish for torch, may bring a much larger build. All
# else by the hashes of its files.
$(VENV)/.installed: pyproject.toml constraints.txt requirements.lock
	@echo "seqlab: installing into $(VENV) (about 2 GB, two to four minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

# Of the files that constraints.txt stands for; torch's differ by index, see the head of requirements.lock.
lock:
	@sed '/^[^#]/,$$d' requirements.lock > requirements.new
	@grep -v '^torch==' constraints.txt | pipx run uv==0.13.9 pip compile - --no-deps --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet >> requirements.new
	@mv requirements.new requirements.lock

licences: $(VENV)/.installed
	@python docs/licences.py

clean:
	rm -rf $(VENV) .seqlab outputs multirun
