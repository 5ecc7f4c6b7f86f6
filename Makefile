# Two commands on a fresh machine: `make demo` and `make test`. Everything they need goes into .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-tfhub check format bench docs clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-11s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "avdata needs Python 3.11 or newer; try: make PYTHON=python3.12 ..."; exit 1; }
	@echo "making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV) || uv venv --seed --python $(PYTHON) $(VENV) || \
	  { rm -rf $(VENV); echo "cannot make a virtual environment: install python3-venv or uv"; exit 1; }

$(VENV)/.data: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing avdata (about a minute)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.data
	@echo "installing what the tests need"
	@$(PIP) -e '.[dev,cluster,train,eval]'
	@touch $@

$(VENV)-tfhub/.ready: pyproject.toml constraints.txt
	@echo "installing avdata with TensorFlow Hub into $(VENV)-tfhub"
	@$(MAKE) --no-print-directory VENV=$(VENV)-tfhub $(VENV)-tfhub/.data
	@$(VENV)-tfhub/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt \
	  -e '.[tfhub]' hypothesis pytest pytest-timeout
	@touch $@

demo: $(VENV)/.data  ## make hiking videos, run the whole pipeline on them, write a report (minutes)
	@$(BIN)/avdata demo --output runs/demo

test: $(VENV)/.dev  ## run all tests
	@$(BIN)/python -m pytest $(ARGS)

test-tfhub: $(VENV)-tfhub/.ready  ## run the TensorFlow Hub tests in an environment of their own
	@$(VENV)-tfhub/bin/python -m pytest -m tfhub tests/avdata/test_yamnet.py $(ARGS)

check: $(VENV)/.dev  ## lint, formatting, types, generated docs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python docs/make_reference.py --check

format: $(VENV)/.dev  ## format the code and bring the generated docs up to date
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .
	@$(BIN)/python docs/make_reference.py

bench: $(VENV)/.dev  ## measure, as ratios to a floor or a peer in the same run
	@$(BIN)/python -m benchmarks $(ARGS)

clean:  ## remove environments and caches (not runs/)
	rm -rf $(VENV) $(VENV)-tfhub .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
