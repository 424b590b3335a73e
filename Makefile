# `make run` starts everything, `make test` runs the tests, `make help` lists the other targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JS := tools/js.sh
DASHBOARD := tools/dashboard.sh
DECLARED := pyproject.toml clients/python/pyproject.toml constraints.txt
INSTALL = $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable clients/python --editable
SITE := .build/site
SITE_SOURCES := $(wildcard docs/* tools/site/*) README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md proto/README.md clients/js/README.md $(wildcard examples/*) gateway/openapi.yaml tools/docs.py
DASHBOARD_SITE := .build/dashboard
DASHBOARD_SOURCES := gateway/descriptor.binpb tools/dashboard.sh $(shell find clients/dashboard -name node_modules -prune -o -path '*/src/gen' -prune -o -name tests -prune -o -type f -print)
export DASHBOARD_OUT := $(abspath $(DASHBOARD_SITE))
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: help setup run shell test test-slow test-faults test-simd simd images check js dashboard docs format proto migration release-contract bench bench-peers bench-page lock sbom licences vulnerabilities clean
.DEFAULT_GOAL := help

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed  ## Create .venv and install everything into it; quick if nothing changed
	@$(MAKE) --silent $(SITE)/docs/index.html $(DASHBOARD_SITE)/index.html

$(VENV)/.installed: $(DECLARED)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[embedded,docs,dashboard,dev]'
	touch $(VENV)/.installed-run $@

# What running needs: without the tools of developers.
$(VENV)/.installed-run: $(DECLARED)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[embedded,docs,dashboard]'
	touch $@

docs: $(VENV)/.installed-run  ## Build the documentation as a web site, in .build/site
	@$(MAKE) --silent $(SITE)/docs/index.html

# Servers serve it at /docs. By a make of its own: either installation is enough to build it.
$(SITE)/docs/index.html: $(SITE_SOURCES)
	$(BIN)/python tools/docs.py $(SITE)

dashboard: $(VENV)/.installed-run  ## Build the dashboard, which servers show at /, in .build/dashboard
	@$(MAKE) --silent $(DASHBOARD_SITE)/index.html

# Not there where there is neither Node.js nor npm's registry: the page at / says so.
$(DASHBOARD_SITE)/index.html: $(DASHBOARD_SOURCES)
	$(DASHBOARD) build

run: $(VENV)/.installed-run  ## Start everything on this machine
	@$(MAKE) --silent $(SITE)/docs/index.html $(DASHBOARD_SITE)/index.html
	$(BIN)/image-categorizer up

shell: $(VENV)/.installed-run  ## Start a shell in which `image-categorizer` and `python` are those of .venv
	@echo "Commands of .venv are on the PATH. Type exit to leave."
	@. $(BIN)/activate && exec "$${SHELL:-/bin/sh}"

# The tests of faults, floods and deadlines need the machine to themselves.
test: setup  ## Run the tests
	$(JS) test
	$(DASHBOARD) test
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

images: setup  ## Build the container images with docker or podman: make images IMAGES="server worker"
	tools/images.sh $(VENV) $(IMAGES)

check: setup  ## Check style, types, imports, protos and generated files
	ruff check .
	ruff format --check .
	mypy server workers clients/python/image_categorizer tests tools
	lint-imports
	hadolint deploy/containers/Dockerfile
	python tools/generate.py --check
	python tools/settings.py --check
	python tools/audit_events.py --check
	python tools/metrics.py --check
	python tools/dashboards.py --check
	buf lint
	buf format --diff --exit-code proto
	buf breaking proto --against proto/released.binpb
	$(JS) check
	$(DASHBOARD) check

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
	python tools/metrics.py
	python tools/dashboards.py

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

$(VENV)/.installed-release: $(VENV)/.installed
	$(INSTALL) '.[release]'
	touch $@

# For all platforms, from the package index alone: what this machine has would not do for others.
LOCKED_EXTRAS := embedded
lock: $(VENV)/.installed-release  ## Write requirements.txt, the packages to deploy with their hashes: make lock LOCKED_EXTRAS="embedded aws-kms"
	uv pip compile pyproject.toml $(addprefix --extra ,$(LOCKED_EXTRAS)) --universal --python-version 3.11 --generate-hashes \
	  --constraint constraints.txt --no-emit-package image-categorizer --no-annotate --custom-compile-command "make lock" --quiet --output-file requirements.txt

sbom: $(VENV)/.installed-release  ## Write .build/sbom.json, a bill of materials (CycloneDX) of requirements.txt
	mkdir -p .build
	cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file .build/sbom.json requirements.txt

licences: $(VENV)/.installed-release  ## Write .build/licences.md, the licences of all that is installed
	mkdir -p .build
	pip-licenses --from=mixed --order=license --with-urls --format=markdown --output-file=.build/licences.md

vulnerabilities: $(VENV)/.installed-release  ## Look up requirements.txt in the database of known vulnerabilities; needs the internet
	tools/vulnerabilities.sh requirements.txt

clean:  ## Delete everything built or installed; keeps the data in .data
	rm -rf $(VENV) .venv-simd .build dist clients/js/dist clients/js/node_modules clients/js/runtimes/node_modules clients/dashboard/node_modules clients/dashboard/src/gen
