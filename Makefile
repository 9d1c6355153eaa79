# One word each, and CI calls the same. Needs Python 3.11 or later and make; everything else is put into .venv
# on first use, by pip alone.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# Two workers: the tests of processes and of PostgreSQL keep two cores busy. `make test WORKERS=0` for one process.
WORKERS ?= 2
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help run test test-fast chaos chaos-long simulate fuzz check format bench bench-peers docs reference dist clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/installed-run  ## a server, and a day of real flights through it (ARGS="--help" for more)
	$(BIN)/python -m examples.flights.replay --serve $(ARGS)

test: $(VENV)/installed-dev  ## the whole suite, PostgreSQL and kill -9 included
	$(PYTEST) -n $(WORKERS) --dist loadgroup $(ARGS)

test-fast: $(VENV)/installed-dev  ## neither PostgreSQL nor processes: seconds
	$(PYTEST) -n $(WORKERS) --dist loadgroup -m "not postgres and not processes and not slow" $(ARGS)

chaos: $(VENV)/installed-dev  ## a minute of kill -9, SIGSTOP and cut commits under load, and a verdict (ARGS="--help" for more)
	$(BIN)/python -m tests.chaos --seconds 60 $(ARGS)

# What docs/invariants.md quotes: it goes on until all the counts are reached.
chaos-long: $(VENV)/installed-dev  ## the same for half an hour, with a report in chaos-results/
	$(BIN)/python -m tests.chaos --seconds 0 --kills 1000 --stops 200 --restarts 200 --cuts 200 \
	  --operations 1000000 --report chaos-results $(ARGS)

# A seed is a history, and repeats itself exactly. For a night: ARGS="--seeds 1000000 --start 1000000 --seconds 28800".
simulate: $(VENV)/installed-dev  ## histories of a small cluster in virtual time, under every fault (ARGS="--seed 7 --trace")
	PYTHONPATH=. $(BIN)/python -m tests.simulation $(ARGS)

# A few examples of each are part of `make test`. EXAMPLES=100000 for a night, ARGS="-k rows" for one of them.
EXAMPLES ?= 5000
fuzz: $(VENV)/installed-dev  ## frames, stored rows and the bytes of SQLite's log, as nobody writes them
	FUZZ_EXAMPLES=$(EXAMPLES) $(PYTEST) tests/fuzz --timeout=0 -n $(WORKERS) $(ARGS)

# No cache: whether an import is one of ours depends on files that ruff's cache does not look at.
check: $(VENV)/installed-dev  ## ruff, mypy strict, and the direction of imports
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy -p examples.flights
	$(BIN)/lint-imports

format: $(VENV)/installed-dev  ## let ruff put things in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed-dev  ## measure, on SQLite and PostgreSQL (ARGS="--list" for the scenarios)
	$(BIN)/python -m durable_bench $(ARGS)

bench-peers: $(VENV)/installed-dev  ## beside Restate, workerd, pgbench and others, installed into .bench-peers/ (ARGS="--list")
	$(BIN)/python -m durable_bench.peers $(ARGS)

docs: $(VENV)/installed-dev  ## every example in README and docs/ runs, and what is made from the code is fresh
	$(PYTEST) tests/acceptance/test_docs.py tests/acceptance/test_readme.py tests/acceptance/test_usage_rules.py \
	  tests/acceptance/test_parity.py tests/acceptance/test_faults.py \
	  tests/engine/test_cli_reference.py $(ARGS)

reference: $(VENV)/installed-dev  ## write what is made from the code anew: docs/reference, from-elixir.md, faults.md
	$(BIN)/python -m docs.reference.generate

# ARGS="--dependencies=here" takes them from .venv: quick, and without a network.
dist: $(VENV)/installed-dev  ## sdist and wheel in dist/, the wheel installed in a fresh environment and called
	$(BIN)/python .ci/dist.py $(ARGS)

clean:  ## remove what was made here (not durable-data/)
	rm -rf $(VENV) build dist chaos-results .bench-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed-run: pyproject.toml | $(BIN)/python
	@echo "installing durable-engine into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing durable-engine and its tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@ $(VENV)/installed-run

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "there is no $(PYTHON) here; install Python 3.11 or later, or say which: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "durable-engine needs Python 3.11 or later and $(PYTHON) is older; say which to use: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
