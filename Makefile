# VENV: where the environment is made; PYTHON: what makes it (3.10 or newer).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
DEV_STAMP := $(VENV)/.made-dev
DOCS_STAMP := $(VENV)/.made-docs

.PHONY: quickstart test test-all bench lint docs clean

quickstart: $(STAMP)
	$(BIN)/rem-study launch studies/quickstart.yaml

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow"

test-all: $(STAMP)
	$(BIN)/python -m pytest

# On an otherwise idle machine; about half an hour on 2 cores. docs/benchmarks.md has the last figures.
bench: $(STAMP)
	$(BIN)/python benchmarks/step.py --threads 1
	$(BIN)/python benchmarks/step.py --threads 2
	$(BIN)/python benchmarks/rem_cost.py
	$(BIN)/python benchmarks/fused.py
	$(BIN)/rem-study launch studies/quickstart.yaml --root runs/bench
	$(BIN)/python benchmarks/busy.py runs/bench/quickstart
	$(BIN)/python benchmarks/naive.py
	$(BIN)/python benchmarks/scale.py

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy rem_study benchmarks
	$(BIN)/lint-imports

# A site from README and docs/, in build/docs; a link that leads nowhere is an error.
docs: $(DOCS_STAMP)
	$(BIN)/python docs/site.py

# The stamps are written last: an install that was cut short is done again.
$(STAMP): pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "rem-study needs Python 3.10 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	       "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

$(DEV_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find rem_study tests -name __pycache__ -type d -prune -exec rm -rf {} +
