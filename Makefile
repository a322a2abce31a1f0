# Every command of a developer. `make demo` and `make test` need Python 3.11 or newer and make, nothing else.

VENV := .venv
RUN := $(VENV)/bin/python
ROWS ?= 100000
WORKERS ?= 2
ONCE ?=
# More for pytest: make test PYTEST="-k segments -x"; WORKERS=0 runs in one process.
PYTEST ?=
# The first of these that is new enough, unless PYTHON names one.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: help demo test test-full chaos fuzz lint format bench servers elasticsearch docs lock clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## Say what there is
	@grep -hE '^[a-z.-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /\t/' | expand -t 22

demo: $(VENV)/runtime ## Start everything on sample data, with one export; ONCE=1 ends after it, ROWS=1000000 is more
	@$(RUN) -m tasks_service demo --rows $(ROWS) $(if $(filter-out 0,$(ONCE)),--once)

test: $(VENV)/dev ## Run all tests, with real servers where they can be had
	@$(RUN) -m pytest -n $(WORKERS) $(PYTEST)

test-full: $(VENV)/dev ## Run all tests, and far more cases of those that generate theirs
	@FULL=1 SEGMENT_CASES=20000 $(RUN) -m pytest -n $(WORKERS) --timeout 3600 $(PYTEST)

SEED ?= 1
KILLS ?= 1000
DATABASE ?= sqlite
chaos: $(VENV)/dev ## Kill processes of an installation; SEED=2 KILLS=100 DATABASE=postgresql are others
	@$(RUN) -m tests.chaos.driver --seed $(SEED) --kills $(KILLS) --database $(DATABASE)

CASES ?= 100000
fuzz: $(VENV)/dev ## Ask every engine 100,000 generated segments and compare; CASES=1000000 asks more
	@SEGMENT_CASES=$(CASES) $(RUN) -m pytest -n $(WORKERS) tests/property/test_segments_differential.py $(PYTEST)

lint: $(VENV)/dev ## ruff and pyright
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m pyright

format: $(VENV)/dev ## Let ruff lay out the code
	@$(RUN) -m ruff format .

bench: $(VENV)/dev ## Rows per second, memory, lateness as ratios in one run; CHECK=1 fails where one got worse
	@$(RUN) -m bench $(if $(CHECK),--check)

servers: $(VENV)/dev ## Keep the test servers up; test runs with the printed variable join them
	@$(RUN) -m tests.servers.shared

elasticsearch: $(VENV)/dev ## A real Elasticsearch on loopback, to play with
	@$(RUN) -m tests.servers.elasticsearch

docs: config.example.toml docs/cli.md ## Write what is generated: settings, commands, index templates
	@$(RUN) -m tasks_service.indices.templates

config.example.toml: $(VENV)/runtime $(wildcard tasks_service/config*.py)
	@$(RUN) -m tasks_service config example > $@

docs/cli.md: $(VENV)/runtime $(wildcard tasks_service/cli/*.py)
	@$(RUN) -m tasks_service reference > $@

lock: $(VENV)/dev ## Pin the newest versions that pyproject.toml allows
	@$(RUN) -m venv $(VENV)/lock && $(VENV)/lock/bin/python -m pip install --quiet uv
	@$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-header \
		pyproject.toml -o requirements/runtime.txt
	@$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-header \
		pyproject.toml --group dev -c requirements/runtime.txt -o requirements/dev.txt

clean: ## Remove what the demo made; the virtual environment stays
	@rm -rf var/demo

$(RUN):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/runtime: requirements/runtime.txt | $(RUN)
	@echo "Installing what the service needs ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/dev: requirements/dev.txt | $(RUN)
	@echo "Installing what the service and its tests need ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@ $(VENV)/runtime
