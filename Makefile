# Everything stays inside the clone: the virtual environment in .venv, caches in .cache.
SHELL := /bin/sh
.SUFFIXES:
.DEFAULT_GOAL := help

# A caller's environment must not reach into ours. Of pip's settings only those stay that say how to reach PyPI.
PIP_KEPT := PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_NO_INDEX PIP_FIND_LINKS PIP_TRUSTED_HOST PIP_CERT \
  PIP_CLIENT_CERT PIP_PROXY PIP_DEFAULT_TIMEOUT PIP_TIMEOUT PIP_RETRIES PIP_CACHE_DIR PIP_NO_CACHE_DIR
unexport $(filter-out $(PIP_KEPT),$(filter PIP_%,$(.VARIABLES)))
unexport $(filter PYTHON% PYTEST_% MYPY% RUFF_% UV_% PG% VIRTUAL_ENV% CONDA_%,$(.VARIABLES))
unexport CDPATH ENV BASH_ENV

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MINUTES ?= 60
UV_VERSION := 0.13.9

.PHONY: help venv test demo bench soak format lock api clean

help: ## Show these targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

venv: $(STAMP) ## Make .venv with everything pinned

$(STAMP): requirements.lock pyproject.toml sdk/pyproject.toml
	@$(BIN)/python -c '' >/dev/null 2>&1 && exit; \
	for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "making $(VENV) with $$($$python --version)"; \
	    exec $$python -m venv --clear $(VENV); \
	  fi; \
	done; \
	echo "pbscast needs Python 3.11 or newer; none found: install one, or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; \
	exit 1
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation \
	  --editable ./sdk --editable .
	@touch $@

test: $(STAMP) ## Lint, types, layers and all tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .cache/import-linter
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

demo: $(STAMP) ## Two PBS sites replayed on this machine (DEMO_ONCE=1: stop after the replay)
	@$(BIN)/pbscastd demo

bench: $(STAMP) ## Measure latency and rates
	$(BIN)/pytest -m benchmark --timeout 0 -s tests/benchmarks

soak: $(STAMP) ## Faults under load for MINUTES minutes
	SOAK_MINUTES=$(MINUTES) $(BIN)/pytest -m soak --timeout 0 -s tests/faults

api: $(STAMP) ## Write the AsyncAPI document and JSON Schemas from the models
	$(BIN)/python -m pbscast_fanout.contract sdk/api

format: $(STAMP) ## Format, and fix what ruff can fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: ## Refresh requirements.lock (for maintainers)
	python3 -m venv .cache/uv
	.cache/uv/bin/python -m pip install --quiet uv==$(UV_VERSION)
	.cache/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
	  --no-emit-index-url --no-emit-package pbscast --custom-compile-command 'make lock' \
	  --extra embedded --group dev --output-file requirements.lock pyproject.toml

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
