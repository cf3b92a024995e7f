# Needs python3 (3.11 or newer) and make; everything else goes into .venv and tests/js*/node_modules.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# Wheels only: no compiler is needed, and a platform without one is told so.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary=:all:
PYTEST_ARGS ?=

.PHONY: help
help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: $(VENV)/.installed ## Install, and start the gateway with a demo database on http://127.0.0.1:4984
	@exec $(BIN)/couch-gateway demo

.PHONY: test
test: $(VENV)/.test-installed tests/js/node_modules/.installed ## Every test but the slow ones (PYTEST_ARGS="-k name")
	@$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile $(PYTEST_ARGS)

.PHONY: test-slow
test-slow: $(VENV)/.test-installed tests/js/node_modules/.installed ## The tests that take minutes
	@$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

.PHONY: test-compat
test-compat: $(VENV)/.test-installed tests/js/node_modules/.installed tests/js-compat/node_modules/.installed ## The upstream, protocol and differential tests against npm's pouchdb-server
	@$(BIN)/python -m tests.compat $(or $(PYTEST_ARGS),tests/upstream tests/protocol tests/differential)

.PHONY: test-sharded
test-sharded: $(VENV)/.test-installed tests/js/node_modules/.installed ## The tests of a real CouchDB against a stand-in with shards
	@$(BIN)/python -m tests.protocol.sharded $(or $(PYTEST_ARGS),tests/upstream tests/couch/test_real_server.py tests/protocol tests/differential)

.PHONY: check
check: $(VENV)/.test-installed ## Style and types: ruff, mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

.PHONY: bench
bench: $(VENV)/.test-installed ## Measure, with the aims beside the numbers
	@$(BIN)/python -m tests.bench

.PHONY: docs
docs: $(VENV)/.test-installed ## Check the documentation: its examples load, its links lead somewhere
	@$(BIN)/python -m pytest tests/test_docs.py tests/test_configs.py

.PHONY: pages
pages: $(VENV)/.test-installed ## Write the pages of docs/ that are made from the route table: couchdb-api.md, openapi.yaml
	@$(BIN)/python -m tests.reference

.PHONY: clean
clean: ## Remove what was installed and built; the demo's data under data/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf tests/js/node_modules tests/js-compat/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first of these that is new enough; PYTHON=/path/to/python chooses another.
PYTHON ?=
$(BIN)/python:
	@set -e; \
	chosen=''; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			chosen=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$chosen" ]; then \
		echo "Python 3.11 or newer is needed, and is not found as: $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python)." >&2; \
		echo "Install it, or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	if ! "$$chosen" -c 'import ensurepip, venv' 2>/dev/null; then \
		version=$$("$$chosen" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "$$chosen cannot make virtual environments: its modules venv and ensurepip are missing." >&2; \
		echo "On Debian and Ubuntu: sudo apt-get install python$$version-venv" >&2; \
		exit 1; \
	fi; \
	echo "making $(VENV) with $$("$$chosen" --version)"; \
	rm -rf $(VENV); \
	"$$chosen" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing the gateway into $(VENV)"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.test-installed: pyproject.toml | $(BIN)/python
	@echo "installing the gateway and the tools of its tests into $(VENV)"
	@$(PIP_INSTALL) --editable '.[test]'
	@touch $@ $(VENV)/.installed

# Without install scripts: nothing is compiled, and no package runs code while it is installed.
%/node_modules/.installed: %/package.json %/package-lock.json | $(VENV)/.test-installed
	@echo "installing the npm packages of $*"
	@$(BIN)/python -m tests.node npm ci --prefix $* --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
