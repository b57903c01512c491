# `make` alone lists the targets. Everything it makes lies in .venv and .cache; `make clean` takes both away.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.made
EXTRAS := binlog,compression,demo,otlp

# Debian keeps the module venv in a package of its own.
INSTALL_VENV = { test "$$(id -u)" = 0 && command -v apt-get >/dev/null || { \
	  echo "'$(PYTHON) -m venv' does not work here; as root: apt-get install python3-venv" >&2; exit 1; }; \
	echo "Installing python3-venv from the system's packages"; apt-get -qq update; \
	DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-venv >/dev/null; }

.DEFAULT_GOAL := help
.PHONY: help venv servers lint fmt test chaos demo bench bench-quick clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

venv: $(STAMP) ## Make .venv with outboxd and what its developers need.

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "outboxd needs Python 3.11 or later as '$(PYTHON)'. Another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(INSTALL_VENV)
	@echo "Making .venv: outboxd and what its developers need (half a minute)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]' --group dev
	@touch $@

servers: venv ## Get the real servers that the tests run against.
	@$(BIN)/python -m tests.servers.provision

lint: venv ## Check style, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: venv ## Format the code, and mend what can be mended.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: servers ## Run all tests, against real MariaDB, MySQL and Kafka.
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: servers ## Inject every fault into real parts and count against a ledger; ARGS="--list" names them.
	$(BIN)/python -m tests.chaos $(ARGS)

demo: venv ## Watch outboxd deliver the events of an application, with everything it needs.
	$(BIN)/outboxd demo --install $(ARGS)

bench: servers ## Measure everything, beside the bare loop and Debezium; two hours. ARGS="--list" names it.
	@$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m bench $(ARGS)

bench-quick: servers ## Count what an event costs (statements, rows, calls, memory) against budgets; two minutes.
	$(BIN)/python -m bench.quick $(ARGS)

clean: ## Remove all that was made here, downloads included.
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
