# Each target makes the environment that it needs in .venv when it is not there; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint bench clean
.DELETE_ON_ERROR:

.venv/.installed: requirements.txt requirements-lock.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "LM-Metric needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt -c requirements-lock.txt
	touch $@

.venv/.installed-dev: requirements-dev.txt .venv/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt -c requirements-lock.txt
	touch $@

demo: .venv/.installed          ## train the method and two baselines on the built-in data set, print the table
	PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/demo.sh

test: .venv/.installed-dev      ## the tests, slow ones left out
	$(BIN)/python -m pytest -n 2 -m "not slow" tests

test-all: .venv/.installed-dev  ## every test
	$(BIN)/python -m pytest -n 2 tests

lint: .venv/.installed-dev      ## ruff over the whole tree, shellcheck over the scripts
	$(BIN)/ruff check .
	$(BIN)/shellcheck scripts/*.sh

bench: .venv/.installed-dev     ## every benchmark; each prints ratios against a peer in the same run
	set -e; for script in benchmarks/*.py; do $(BIN)/python $$script; done

clean:                          ## remove the environment and caches, keep runs
	rm -rf .venv .cache .pytest_cache .ruff_cache .hypothesis
