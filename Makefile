# Two commands matter: `make demo` and `make test`. Each makes what it needs.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
READY := $(VENV)/.ready
# Libraries of this project use their own thread settings; these are for the rest.
export OMP_NUM_THREADS ?= 2
export TF_CPP_MIN_LOG_LEVEL ?= 2
export PYTHONWARNINGS ?= ignore::DeprecationWarning

.PHONY: help setup demo test test-slurm unit lint config bench clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(READY)  ## create the environment in .venv (3.7 GB on disk)

# torch comes first and with its dependencies (on a GPU machine these are the CUDA
# libraries); the lock is a whole resolution, hence --no-deps.
$(READY): requirements.lock pyproject.toml
	@echo "== creating the environment in $(VENV) (a few minutes, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed: make demo PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --no-input "$$(grep '^torch==' requirements.lock)"
	@$(BIN)/python -m pip install --quiet --no-input --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-input --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: $(READY)  ## the main job on packaged real images; ends with results/demo/report.html
	@$(BIN)/snakemake --cores $(CORES) --rerun-incomplete --quiet rules progress
	@echo "Report: results/demo/report.html"

test: lint  ## everything: lint, unit, workflow and end-to-end tests, with coverage
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=30 --cov=phantomscope --cov-report=term:skip-covered --cov-fail-under=85

test-slurm: $(READY)  ## the same path through a real SLURM on this machine (root, Debian)
	@PHANTOMSCOPE_SLURM_TESTS=required $(BIN)/python -m pytest tests/slurm

unit: $(READY)  ## fast tests only
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/unit -n 2 --dist loadfile --no-loadscope-reorder

lint: $(READY)  ## ruff, mypy, snakefmt, snakemake --lint, generated files in sync
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/snakefmt --check Snakefile workflow
	@$(BIN)/snakemake --lint > /dev/null
	@$(BIN)/python -m phantomscope config --sync

config: $(READY)  ## write default YAML, schema and config/README.md from the typed config
	@$(BIN)/python -m phantomscope config --write

bench: $(READY)  ## run the benchmarks and write benchmarks/*.json and their table
	@$(BIN)/python -m benchmarks

clean:  ## remove the environment and results
	rm -rf $(VENV) .snakemake results/*/
