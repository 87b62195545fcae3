# The words a developer needs. CI runs `make test`; nothing runs only there.

PYTHON ?= python3
BIN := .venv/bin
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
# On Linux the default build of torch brings gigabytes of CUDA; without a GPU take the CPU build,
# from where pip already finds it, else from PyTorch's own index.
CPU_INDEX := https://download.pytorch.org/whl/cpu
NO_GPU := $(shell [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null && echo yes)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format receipt bench-receipt clean

help:  ## list these words
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

setup: .venv/.made  ## .venv with everything, pinned by constraints.txt

demo: setup  ## the whole pipeline on drawn images, two minutes: alexnet demo
	@$(BIN)/alexnet demo

test: check  ## every check and every test
	$(BIN)/python -m pytest

check: setup  ## formatting, lint, types, import contracts: under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## format the code, and mend what lint can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

receipt: setup  ## docs/receipt.md anew, from the table and the results
	@$(BIN)/alexnet receipt > docs/receipt.md

bench-receipt: setup  ## train the network of 2012 with and without its elements: ARCHIVES=DIR
	$(BIN)/python -m benchmarks.receipt --archives $(ARCHIVES) $(OPTIONS) --output benchmarks/results
	@$(BIN)/alexnet receipt > docs/receipt.md

clean:  ## remove .venv and caches; no workspace is touched
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

.venv/.made: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make setup PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
ifeq ($(NO_GPU),yes)
	$(BIN)/python -c 'import torch' 2>/dev/null \
	|| $(BIN)/pip install --quiet -c constraints.txt 'torch==$(TORCH)+cpu' 2>/dev/null \
	|| $(BIN)/pip install --quiet -c constraints.txt 'torch==$(TORCH)+cpu' --extra-index-url $(CPU_INDEX)
endif
	$(BIN)/pip install --quiet -c constraints.txt --editable '.[dev]'
	touch $@
