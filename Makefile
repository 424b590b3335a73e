# `make run` starts everything, `make test` runs the tests, `make help` lists the other targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JS := tools/js.sh
DECLARED := pyproject.toml clients/python/pyproject.toml constraints.txt
INSTALL = $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable clients/python --editable
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: help setup run shell test test-slow test-faults test-simd simd check js format proto migration release-contract bench bench-peers bench-page clean
.DEFAULT_GOAL := help

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed  ## Create .venv and install everything into it; quick if nothing changed

$(VENV)/.installed: $(DECLARED)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[embedded,dev]'
	touch $(VENV)/.installed-run $@

# What running needs: without the tools of developers.
$(VENV)/.installed-run: $(DECLARED)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[embedded]'
	touch $@

run: $(VENV)/.installed-run  ## Start everything on this machine
	$(BIN)/image-categorizer up

shell: $(VENV)/.installed-run  ## Start a shell in which `image-categorizer` and `python` are those of .venv
	@echo "Commands of .venv are on the PATH. Type exit to leave."
	@. $(BIN)/activate && exec "$${SHELL:-/bin/sh}"

# The tests of faults, floods and deadlines need the machine to themselves.
test: setup  ## Run the tests
	$(JS) test
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --ignore tests/reliability
	$(BIN)/python -m pytest tests/reliability

test-slow: setup  ## Run the tests that take minutes
	$(BIN)/python -m pytest -m slow -s

test-faults: setup  ## Run the long tests that kill workers, servers and stores during batches
	$(BIN)/python -m pytest -m slow -s tests/reliability

simd: $(VENV)/.installed-run  ## Decode with pillow-simd, which is faster than Pillow; needs a C compiler
	tools/simd.sh $(VENV)

test-simd:  ## Run the decoding tests with pillow-simd, in a virtual environment of its own
	tools/test-simd.sh $(PYTHON)

check: setup  ## Check style, types, imports, protos and generated files
	ruff check .
	ruff format --check .
	mypy server workers clients/python/image_categorizer tests tools
	lint-imports
	python tools/generate.py --check
	python tools/settings.py --check
	python tools/audit_events.py --check
	buf lint
	buf format --diff --exit-code proto
	buf breaking proto --against proto/released.binpb
	$(JS) check

js:  ## Check, build and test the JavaScript SDK; needs Node.js 20
	$(JS) check
	$(JS) test

format: setup  ## Format the code
	ruff check --fix .
	ruff format .
	buf format --write proto

proto: setup  ## Generate what depends on the protos (stubs, descriptors, OpenAPI, docs) and on the settings
	python tools/generate.py
	python tools/settings.py
	python tools/audit_events.py

migration: setup  ## Write the migration that db/tables.py asks for: make migration NAME=add_labels
	python tools/migration.py $(NAME)

release-contract: setup  ## Make the current protos the release that `buf breaking` compares with
	buf build proto --output proto/released.binpb

bench: $(VENV)/.installed-run  ## Measure this machine and print the performance table
	$(BIN)/image-categorizer bench

bench-peers: setup .build/peers/.installed  ## Install LitServe, mosec and PyTriton for bench-page

.build/peers/.installed: tools/bench-peers.sh $(wildcard tests/bench/peers/requirements-*.txt)
	tools/bench-peers.sh $(abspath $(BIN))/python .build/peers
	touch $@

# With plain Pillow everywhere: the other engines' environments have no pillow-simd.
bench-page: bench-peers  ## Compare with other serving engines and write docs/performance.*: make bench-page WORDS="--rounds 3"
	PLAIN_PILLOW=1 $(BIN)/python -m tests.bench.page --json .build/bench-page.json $(WORDS)
	.build/peers/plot/bin/python -m tests.bench.render .build/bench-page.json docs

clean:  ## Delete everything built or installed; keeps the data in .data
	rm -rf $(VENV) .venv-simd .build dist clients/js/dist clients/js/node_modules clients/js/runtimes/node_modules
