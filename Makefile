# Everything a newcomer needs, and nothing to install by hand but Python 3.11+ and make.

PYTHON ?= python3
VENV := .venv
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin
TESTS ?= tests
SBOM ?= build/sbom.cdx.json
TEST_PARTS := --extra parquet --extra fcm --group test
# A file of tests stays in one process, and each process starts its own databases.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: help run demo install test test-long planted check lint audit sbom bench docs release-check lock clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

run: $(VENV)/run.stamp ## Install what is missing and serve on the embedded database
	@$(BIN)/experiment-engine serve

demo: $(VENV)/run.stamp ## Watch it learn: made-up users, a made-up provider, fast time
	@OPENBLAS_NUM_THREADS=1 $(BIN)/experiment-engine demo

install: $(VENV)/run.stamp ## Make .venv with the engine in it

test: $(VENV)/test.stamp ## Run all tests that gate a change
	@$(PYTEST) -m "not long" $(TESTS)

test-long: $(VENV)/test.stamp ## Run the long suites too
	@$(BIN)/python -m pytest $(TESTS)

planted: $(VENV)/test.stamp ## Plant fifteen mistakes one after another, and see that a test finds each
	@$(BIN)/python -m tests.planted

check: $(VENV)/test.stamp ## Format, then lint, types, import contracts, unit and contract tests, audit
	@$(BIN)/ruff format --quiet .
	@$(MAKE) --no-print-directory lint
	@$(PYTEST) --quiet -m "not long" tests/unit tests/contracts
	@$(BIN)/python requirements/audit.py --offline-is-fine

audit: $(VENV)/test.stamp ## Ask whether vulnerabilities are known of what is locked
	@$(BIN)/python requirements/audit.py

sbom: $(VENV)/test.stamp ## Write what is locked as CycloneDX into build/
	@mkdir -p $(dir $(SBOM))
	@$(BIN)/cyclonedx-py requirements requirements/run.lock --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --of JSON --output-file $(SBOM)

lint: $(VENV)/test.stamp ## Lint, types and import contracts
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports >$(VENV)/imports.log || (cat $(VENV)/imports.log; exit 1)

bench: $(BENCH_VENV)/bench.stamp ## Measure against the baselines, side by side
	@$(BENCH_VENV)/bin/python -m benchmarks

docs: $(VENV)/test.stamp ## Build the documentation's site into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

release-check: $(VENV)/test.stamp ## Build archive and wheel twice, and say whether they may be released
	@$(BIN)/python -m tools.release_check

lock: $(VENV)/test.stamp ## Resolve the dependencies anew (hashes, no addresses)
	@for part in "run --extra parquet" "test $(TEST_PARTS)" "bench $(TEST_PARTS) --group bench"; do set -- $$part; name=$$1; shift; \
	  $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-annotate \
	    --no-header pyproject.toml $$* --output-file requirements/$$name.lock; done

clean: ## Remove what was installed and built
	rm -rf $(VENV) $(BENCH_VENV) build dist .mypy_cache .ruff_cache .import_linter_cache

# pip takes the lock files: every package with the hash that was locked.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  (echo "The engine needs Python 3.11 or newer; set PYTHON=... to one." >&2; exit 1)
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements/run.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing the engine into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/test.stamp: requirements/test.lock $(VENV)/run.stamp
	@echo "Installing the test tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/test.lock
	@touch $@

# What ours is measured against stays out of the engine's own environment.
$(BENCH_VENV)/bench.stamp: requirements/bench.lock pyproject.toml
	@echo "Installing the benchmarks' peers into $(BENCH_VENV) ..."
	@$(PYTHON) -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.lock
	@$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
