# radloop: everything that a person or CI runs. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
TESTS ?= tests
JOBS ?= 2
STUDY ?=
ONCE ?=
B ?= turnaround

.PHONY: help install install-dev demo up check test lint format types contracts unit bench screenshots lock clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## Install what is missing: Debian packages, .venv, OHIF (a second run needs no network)
	@PYTHON=$(PYTHON) scripts/install.sh

install-dev: ## The same, and what the tests need
	@PYTHON=$(PYTHON) scripts/install.sh --dev

demo: install ## Start the node, send a study (STUDY=folder), wait for its SEG; ONCE=1 stops then
	@$(BIN)/radloop demo $(if $(STUDY),--study "$(STUDY)") $(if $(ONCE),--once)

up: install ## Start the node with radloop.toml
	@$(BIN)/radloop up

check: install ## Look for mistakes in settings and bundles, call every peer
	@$(BIN)/radloop check

test: install-dev lint types contracts unit ## Every check and every test

lint: install-dev ## Style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-dev ## Types (mypy, strict)
	$(BIN)/mypy

contracts: install-dev ## The floors of ARCHITECTURE.md
	$(BIN)/lint-imports

unit: install-dev ## Tests only (TESTS=path chooses; JOBS=0: one after the other)
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS)

format: install-dev ## Put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-dev ## Measure (B=name, of some also PART=part); writes benchmarks/results/<name>.json
	$(BIN)/python -m benchmarks.$(subst -,_,$(B)) $(PART)

screenshots: install-dev ## Take the pictures of the docs anew
	$(BIN)/python -m tests.browser.screens

lock: ## Write the lock files anew from pyproject.toml
	scripts/lock.sh

clean: ## Remove what was installed and built here; the node's data stays
	rm -rf .venv .ohif .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
