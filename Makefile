SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# Sources and constraints: a change of either installs again.
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install format check test test-all poison-and-defend attacks certify clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv and install the project with its pinned dependencies

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

format: install ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: install ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: install ## the tests, a few minutes
	$(BIN)/python -m pytest $(ARGS)

test-all: install ## the slow tests: whole experiments, several processes
	$(BIN)/python -m pytest -m slow $(ARGS)

poison-and-defend: install ## the whole story on digits; ARGS="--sigma 0.5" overrides
	$(BIN)/python cli.py poison-and-defend $(ARGS)

ATTACKS := poison_frogs,convex_polytope,bullseye_polytope,hidden_trigger,label_consistent,witches_brew,sleeper_agent

attacks: install ## all seven attacks on digits, in one table; about half an hour on two cores
	$(BIN)/python cli.py benchmark --name digits_attacks --attacks $(ATTACKS) --defenses '[no_attack,none,diffusion]' $(ARGS)

certify: install ## what the digits' vote provably withstands, at three noise levels; under ten minutes on two cores
	$(BIN)/python cli.py certify --name digits_certificate $(ARGS)

clean: ## remove caches and installed files; results under runs/ stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
