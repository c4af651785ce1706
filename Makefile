# Every command of the project. `make` without a target prints this list.
PYTHON ?= python3
VENV   ?= .venv
VENV_TF ?= .venv-tf
BIN    := $(VENV)/bin
RUN    ?= runs/quickstart
# Two workers: one a core of the smallest machine that we support.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: help setup quickstart test test-all bridge-demo faults test-golden test-tf lint format bench sim-check clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

# Stamps: an environment is built once and again when its description changes.
$(VENV)/.core: $(BIN)/pip setup.py constraints.txt
	start=$$(date +%s); $(BIN)/pip install --quiet -c constraints.txt -e . && echo $$(( $$(date +%s) - start )) > $(VENV)/setup_seconds
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

setup: $(VENV)/.dev  ## make .venv with everything that development and tests need

quickstart: $(VENV)/.core  ## demonstrations -> policy -> evaluation -> artifact, on this machine
	$(BIN)/python -m launch.quickstart --workdir $(RUN)

test: $(VENV)/.dev  ## the fast tests
	$(PYTEST) -m "not slow and not faults and not gpu and not hardware and not reference"

test-all: $(VENV)/.dev  ## every test that this machine can run
	$(PYTEST) -m "not gpu and not hardware"

bridge-demo: $(VENV)/.dev  ## policy, page, emergency stop and recording on an emulated arm: two minutes
	$(BIN)/python -m launch.bridge_demo --workdir runs/bridge_demo

faults: $(VENV)/.dev  ## the bridge against every fault of the emulated arm
	$(PYTEST) --dist load -m faults tests/robot_bridge

test-golden: $(VENV)/.dev  ## the vectors of the reference implementations (ARP_JAX_GOLDEN=DIR for others)
	$(BIN)/python -m pytest -m golden -rP

# An environment of its own: TensorFlow takes an older h5py than the rest of the project.
$(VENV_TF)/.tf: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV_TF)
	$(VENV_TF)/bin/pip install --quiet --upgrade pip
	grep -v '^h5py==' constraints.txt > $(VENV_TF)/constraints.txt
	$(VENV_TF)/bin/pip install --quiet -c $(VENV_TF)/constraints.txt -e . \
		tensorflow-cpu==2.21.0 rlds==0.1.8 pytest pytest-xdist hypothesis
	@touch $@

test-tf: $(VENV_TF)/.tf  ## reading and streaming through TensorFlow, in .venv-tf
	$(VENV_TF)/bin/python -m pytest -n 2 --dist loadfile tests/data/test_rlds_tfds.py \
		tests/data/test_stream.py tests/data/test_rlds_transforms.py \
		tests/training/test_train_stream.py

lint: $(VENV)/.dev  ## ruff, format check, mypy on the public modules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## apply the formatter
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## the CPU benchmarks; each prints ours, the peer's and the ratio
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 $(BIN)/python benchmarks/sim_push_t.py

sim-check: $(VENV)/.dev  ## every simulated task: speed, expert success, agreement of the engines
	$(BIN)/python benchmarks/sim_check.py

clean:  ## remove the environment, runs and caches
	rm -rf $(VENV) $(VENV_TF) runs build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
