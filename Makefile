# Everything a newcomer needs: `make features` sets up and computes the demo's features, `make test` sets up and tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DIGITS := cache/data/digits

.DEFAULT_GOAL := help
.PHONY: help setup features test test-fast campaign check format docs docs-figures bench clean clean-cache

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "featx needs Python 3.11 or newer, $(PYTHON) is older. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

setup: $(VENV)/.installed  ## Make .venv and install featx into it

features: setup  ## Set up, write the embedded digits, and compute their features
	@test -d $(DIGITS)/9 || $(BIN)/featx data digits --out $(DIGITS)
	$(BIN)/featx extract
	@echo
	@echo 'Next, put featx on the PATH:  export PATH="$$PWD/$(BIN):$$PATH"'
	@echo 'then:  featx fit-head --clf svm;  featx finetune;  featx predict $(DIGITS)/3/*.png'

test: $(VENV)/.installed-test  ## Set up and run every test
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/.installed-test  ## Only the tests that take less than about half a second each
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow'

campaign: $(VENV)/.installed-test  ## Faults, kills, power losses, flipped bits and mutated images, for hours
	$(BIN)/python tests/campaign

check: $(VENV)/.installed-dev  ## Format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs-figures: setup  ## Draw every picture of the documentation
	$(BIN)/python docs/figures.py

docs: $(VENV)/.installed-docs  ## Build the documentation as a site, in site/
	$(BIN)/mkdocs build --strict --quiet
	@echo 'Open site/index.html, or see it grow:  $(BIN)/mkdocs serve'

bench: $(VENV)/.installed-test  ## Run the benchmarks and write docs/performance.md and the tables behind it
	$(BIN)/python benchmarks/summarize.py

clean:  ## Remove what building and testing leave; .venv too
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache featx.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-cache:  ## Remove cached features: hours of work may be in there
	find cache -mindepth 1 -maxdepth 1 ! -name README.md ! -name .gitignore -exec rm -rf {} +
