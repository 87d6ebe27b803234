# What a developer and CI run. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# PYTEST_ARGS narrows a run: make test PYTEST_ARGS="-k journal -x"
PYTEST_ARGS ?=
# BENCH_ARGS chooses: make bench BENCH_ARGS="--quick --only catch-up"
BENCH_ARGS ?=
# Tests wait for servers more than they compute; each worker has servers of its own.
WORKERS ?= 3
PYTEST := $(BIN)/pytest $(PYTEST_ARGS)
# Whatever reads bytes that somebody else wrote.
FUZZED := tests/unit/relay/test_fuzz.py tests/unit/relay/test_commands.py tests/unit/relay/test_scram.py \
  tests/unit/relay/test_frames.py tests/unit/kernel tests/unit/test_pgoutput.py tests/unit/capture/test_copydata.py
# Passwords of `make up`, made once.
SECRETS := $(addprefix var/secrets/,postgres_password app_password logship_password)

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

init: $(VENV)/.stamp ## Make .venv with logship and what its development needs

# Made again when pyproject.toml or the kernel's sources change; pip does nothing for what is there already.
$(VENV)/.stamp: pyproject.toml setup.py $(wildcard logship/kernel/*.pyx logship/kernel/*.pxi)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "logship needs Python 3.11 or newer; name one with: make PYTHON=python3.12 init")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "the venv module of $(PYTHON) is missing: on Debian, apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: init ## Two embedded servers, a live workload and migrations, the lag of each stage, a verdict
	$(BIN)/logship demo

check: lint types imports unit ## Lint, types, imports and unit tests

lint: init ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: init ## mypy --strict
	$(BIN)/mypy

imports: init ## Imports run downward only
	$(BIN)/lint-imports

unit: init ## Unit tests
	$(PYTEST) tests/unit -m "not soak and not matrix and not web"

test: init ## All tests against real servers, except the long ones
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "not soak and not matrix and not web"

test-web: init ## The status page in a headless Chromium
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
	  echo "no Chromium here: on Debian, apt-get install chromium; elsewhere put chromium or google-chrome into PATH" >&2; exit 1; }
	$(PYTEST) -m web tests/web

test-matrix: init ## PostgreSQL 15 to 15, 15 to 18, 18 to 18
	$(BIN)/python tests/matrix.py -- -n $(WORKERS) --dist worksteal

soak: init ## Long fault runs
	$(PYTEST) -m soak -o timeout=3600

fuzz: init ## Malformed bytes at length: what clients, walsenders and files may hold
	$(PYTEST) --hypothesis-profile=fuzz -o timeout=3600 $(FUZZED)

bench: init ## Speed beside built-in logical replication; half an hour (BENCH_ARGS=--quick: 3 minutes)
	$(BIN)/python -m bench $(BENCH_ARGS)

bench-memory: init ## Speed of main memory: batches, replay, aggregates (BENCH_ARGS=--quick: 2 minutes)
	$(BIN)/python -m bench.memory $(BENCH_ARGS)

docs: init ## docs/reference.md, from the code
	$(BIN)/python docs/reference.py
	$(BIN)/python -m tests.integration.ddl.matrix_page

up: $(SECRETS) ## A primary, a secondary and logship in containers
	docker compose up --build --detach --wait

# The directory keeps other users of this machine out; in the containers, whose users are others, each file can be read.
$(SECRETS):
	@mkdir -p -m 0700 $(@D)
	@head -c 24 /dev/urandom | base64 | tr -d '/+=\n' > $@.new && chmod 0444 $@.new && mv $@.new $@

down: ## End them and remove their volumes
	docker compose down --volumes

clean: ## Remove what was made here
	rm -rf $(VENV) var build dist *.egg-info logship/kernel/*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help init demo check lint types imports unit test test-web test-matrix soak fuzz bench bench-memory docs up down clean
