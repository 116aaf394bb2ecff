# Everything this project does from a clone, with only Python >= 3.11 (with venv) and make on the machine.
#
#   make demo ARGS="events.jsonl"               ARGS goes to the tool behind the target
#   make test PYTHON=python3.13 VENV=.venv-3.13  another Python, in an environment of its own

PYTHON  ?= python3
PYTHONS ?= python3.11 python3.12 python3.13
VENV    ?= .venv
ARGS    ?=

BIN    := $(VENV)/bin
# Names the lock that the environment holds, so that a second run installs nothing.
LOCKED := $(VENV)/.locked

MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# ---------------------------------------------------------------------------------------------- environment

.PHONY: venv
venv: $(LOCKED) ## set up the virtual environment from requirements.lock

# Nothing is resolved again: some pips take `coverage[toml]` for another package than the locked `coverage`.
$(LOCKED): requirements.lock
	@command -v $(PYTHON) >/dev/null || \
	  { echo "make: no $(PYTHON) here: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $$($(PYTHON) -V 2>&1) is too old: name a Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "make: $(PYTHON) comes without venv: install it (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Installing the locked dependencies into $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip check --disable-pip-version-check
	@touch $@

.PHONY: lock
lock: venv ## resolve the dependencies again (ARGS=--upgrade takes newer ones)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --group app --group demo --group dev --custom-compile-command "make lock" \
	  --output-file requirements.lock $(ARGS) pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --group app --constraint requirements.lock --custom-compile-command "make lock" \
	  --output-file deploy/requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --custom-compile-command "make lock" \
	  --output-file benchmarks/requirements.lock $(ARGS) benchmarks/requirements.in

# ------------------------------------------------------------------------------------------------------ run

.PHONY: demo
demo: venv ## run the demo: sign-up events in, each welcome e-mail sent once
	@$(BIN)/python worker.py demo $(ARGS)

.PHONY: bench
bench: venv ## run the benchmarks
	$(BIN)/python -m benchmarks $(ARGS)

# ---------------------------------------------------------------------------------------------------- check

.PHONY: check
check: lint types test ## lint, types and test

.PHONY: lint
lint: venv ## check format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

.PHONY: format
format: venv ## format the sources, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: types
types: venv ## check types with mypy and basedpyright
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python

.PHONY: docs
docs: venv ## build the documentation as a site, in docs/site/_build; warnings are errors
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs/site docs docs/site/_build $(ARGS)

.PHONY: test
test: venv ## run the tests, but for the long ones, in two processes
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile $(ARGS)

.PHONY: torture
torture: venv ## break everything, for minutes and hours, and print what came of it
	$(BIN)/python -m pytest -m "torture or faults" $(ARGS)

.PHONY: screenshots
screenshots: venv ## take the pictures of the Web UI, with Chromium
	$(BIN)/python -m benchmarks.web_ui

.PHONY: kills
kills: venv ## kill the workers of every integration, 200 times each, and print what came of it
	$(BIN)/python -m tests.integration.integrations $(ARGS)

.PHONY: cover
cover: venv ## run the tests and show what they do not reach
	$(BIN)/python -m pytest --cov --cov-report=term-missing $(ARGS)

.PHONY: versions
versions: ## run the tests on every Python that the project claims
	@for python in $(PYTHONS); do \
	  version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit 1; \
	  echo "== Python $$version"; $(MAKE) test PYTHON=$$python VENV=.venv-$$version || exit 1; \
	done

# -------------------------------------------------------------------------------------------------- package

.PHONY: build
build: venv ## build the wheel and the sdist into dist/
	$(BIN)/python -m build --no-isolation $(ARGS)

.PHONY: clean
clean: ## remove builds, caches and reports; environments stay
	rm -rf build dist htmlcov coverage.xml .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path './.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
