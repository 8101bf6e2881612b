# Needs python3 (3.11 or newer) and make; everything else is fetched into .venv, pinned by hash.
PYTHON ?= python3
# Tests wait more than they compute: four processes suit two cores.
TEST_PROCESSES ?= 4
# Further arguments, such as: make test PYTEST_ARGS='tests/unit -k plan', make lock LOCK_ARGS=--upgrade
PYTEST_ARGS ?=
LOCK_ARGS ?=

BIN := .venv/bin
READY := .venv/.ready
LOCKS := requirements-build.lock requirements-dev.lock
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $(LOCK_ARGS)

.PHONY: setup test lint format demo bench docs lock clean
.DEFAULT_GOAL := setup

setup: $(READY)

# pip brings uv and the build tools, uv brings the rest; no build looks for tools of its own, so all of it is locked.
$(READY): $(LOCKS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Haulage needs Python 3.11 or newer: install python3.11, then run make PYTHON=python3.11." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv || \
		{ echo "Python cannot make a virtual environment: install python3-venv, then run make again." >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-build.lock
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --no-build-isolation $(LOCKS)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

test: lint
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist worksteal --durations 15 $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

demo: setup
	$(BIN)/python -m examples.demo

bench: setup
	$(BIN)/python -m benchmarks

# A warning is an error: a page that does not build is a page that is wrong. Open build/docs/index.html.
docs: setup
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env --jobs auto docs build/docs

# The versions of the run-time lock are those the tests ran with.
lock: setup
	$(COMPILE) --group build --output-file requirements-build.lock
	$(COMPILE) --all-extras --group dev --group docs --constraint requirements-build.lock pyproject.toml --output-file requirements-dev.lock
	$(COMPILE) --extra all --constraint requirements-dev.lock pyproject.toml --output-file requirements.lock

# The virtual environment stays: rm -r .venv starts afresh.
clean:
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find haulage orchestrator providers workers tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
