SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# A process for every core, but not more than memory serves, and whole files, whose tests share what takes seconds to make.
# In their order, since the files with the fewest tests take longest. Empty for one process, whose output is not mixed.
WORKERS ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# What a user extends; the rest of the package lies in poison_and_defend/.
ROOMS := attacks callbacks datamodules defenses lightning_modules
# Sources and constraints: a change of either installs again.
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install format check types docs test test-all poison-and-defend catalogue attacks certify mutants clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv and install the project with its pinned dependencies

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $@

format: install ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

catalogue: install ## write the options of all commands anew, after a change of any
	$(BIN)/python -m poison_and_defend.cli.help.describe

check: install types ## lint, format, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd .types && $(CURDIR)/$(BIN)/lint-imports $(CURDIR)/pyproject.toml --no-cache

# Checkers know no package-dir: every room under its installed name, as links.
types:
	rm -rf .types && mkdir -p .types/poison_and_defend
	ln -s $(CURDIR)/poison_and_defend/* .types/poison_and_defend/
	for room in $(ROOMS); do ln -s $(CURDIR)/$$room .types/poison_and_defend/$$room; done

docs: install ## the documentation as a site in docs/_build/html; a warning or a dead reference is an error
	$(BIN)/python -m sphinx -b html -W -n --keep-going -q docs docs/_build/html

test: install ## the tests, a few minutes
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

test-all: install ## the slow tests: whole experiments, several processes
	$(BIN)/python -m pytest -m slow $(WORKERS) $(ARGS)

# A process a core is half again as fast here as one with a thread a core; where there is a GPU, one process has it.
RANKS := $(if $(shell command -v nvidia-smi),1,$(shell n=$$(nproc); echo $$((n < 8 ? n : 8))))
SHARED := $(if $(filter 1,$(RANKS)),,--threads 1 --trainer.devices $(RANKS) --trainer.strategy ddp)
# Both attackers; what names a configuration is one experiment.
STORY := attackers --config fashion_mnist --known_draws 1 --known_held_out 0 $(SHARED)
poison-and-defend: install ## the whole story on photographs; ARGS="--sigma 0.25" or "--config digits" overrides
	$(BIN)/poison-and-defend $(if $(findstring --config,$(ARGS)),poison-and-defend,$(STORY)) $(ARGS)

ATTACKS := poison_frogs,convex_polytope,bullseye_polytope,hidden_trigger,label_consistent,witches_brew,sleeper_agent

attacks: install ## the seven attacks on digits, by who ignores the defence and who knows it; about an hour on two cores
	$(BIN)/poison-and-defend benchmark --name digits_attacks --attacks $(ATTACKS) --defenses '[no_attack,none,diffusion]' \
	    --attackers oblivious,defense --known_draws 1 --known_held_out 0 $(SHARED) $(ARGS)

certify: install ## how many photographs of products may change in any way without changing a vote; under a minute
	$(BIN)/poison-and-defend certify-any $(ARGS)

mutants: install ## plant faults in memory and list those that no test notices; half an hour; ARGS="--count 40"
	$(BIN)/python -m scripts.mutants $(ARGS)

clean: ## remove caches and installed files; results under runs/ stay
	rm -rf $(VENV) build docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .types
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
