# Everything a developer types. Each target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_VENV := .venv-docs
DOCS_READY := $(DOCS_VENV)/.ready
IMAGE ?= localhost/credrotator:latest
# Most tests wait most of the time: more of them run at once than there are processors.
WORKERS ?= 4
PYTEST := $(BIN)/python -m pytest
AT_ONCE := -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow reference picture version lint docs docs-serve dist e2e e2e-smoke bench profile soak soak-cluster siege image lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The lock pins every package with its hash; the project itself is installed on top, without looking anything up.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "credrotator needs Python 3.11 or newer; try make PYTHON=python3.12")'
	@echo "Setting up $(VENV), once: about a minute, most of it for downloads"
	@echo "  1/3 creating the environment"
	@$(PYTHON) -m venv $(VENV)
	@echo "  2/3 installing the packages that requirements.lock pins"
	@$(BIN)/python tools/install.py requirements.lock
	@echo "  3/3 installing credrotator"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(DOCS_READY): requirements.docs.lock
	@echo "Setting up $(DOCS_VENV), once: about a minute, most of it for downloads"
	@$(PYTHON) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python tools/install.py requirements.docs.lock
	@touch $@

demo: $(READY) ## rotate the example policies against a local issuer and clouds
	@$(BIN)/python examples/demo.py

test: $(READY) ## unit, property and simulator tests in under six minutes; needs nothing but Python packages
	$(PYTEST) -m 'not e2e and not slow' $(AT_ONCE)

test-slow: $(READY) ## the slowest of these tests, which make test leaves out: kills, partitions, a day of 1000 policies
	$(PYTEST) -m 'slow and not e2e' $(AT_ONCE)

reference: $(READY) ## write the generated pages again: docs/cli.md, the man page, the packages in docs/architecture.md
	$(BIN)/python tools/reference.py

picture: $(READY) ## draw docs/pictures/terminal.svg again, from what the commands print
	$(BIN)/python tools/record.py

version: $(READY) ## write the version of credrotator/__init__.py into the chart and the pages
	$(BIN)/python tools/version.py

lint: $(READY) ## check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DOCS_READY) ## build the documentation's site into site/; dead links and unreachable pages are errors
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --clean
	@echo "open site/index.html"

docs-serve: $(DOCS_READY) ## serve the site on http://127.0.0.1:8000, and rebuild it when pages change
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs serve

dist: $(READY) $(DOCS_READY) ## build wheel, source archive, parts list and checksums into dist/, and test the wheel
	$(BIN)/python tools/dist.py $(DOCS_VENV)/bin/cyclonedx-py

e2e: $(READY) ## test with real components: four issuers, MinIO, Envoy, the gateway's filter
	$(PYTEST) tests/e2e tests/chart tests/bench -m e2e -s

e2e-smoke: $(READY) ## test one policy with all real components
	$(PYTEST) tests/e2e -m smoke -s

bench: $(READY) ## measure both rotators in one run of 20 minutes; BENCH=quick takes four
	$(BIN)/python -m tests.bench $(ARGS)

profile: $(READY) ## show where a rotation's CPU goes, and what commands cost to start
	$(BIN)/python -m tests.bench.starts --page docs/performance.md
	$(BIN)/python -m tests.bench.imports --page docs/performance.md
	$(BIN)/python -m tests.bench.profile --page docs/performance.md $(ARGS)

soak: $(READY) ## rehearse outages, then run the daemon for an hour with short lives, faults and a hostile tenant; SOAK=300 takes five minutes
	$(BIN)/python -m tests.reliability.soak

soak-cluster: $(READY) ## run two daemons for two hours while the API server fails and the lead goes round; SOAK=600 takes ten minutes
	$(BIN)/python -m tests.reliability.cluster_soak

siege: $(READY) ## let a hostile tenant do its worst beside others for eight minutes; SIEGE_WRITE=1 writes the page's table
	$(BIN)/python -m tests.reliability.siege

image: $(READY) ## build the container image without engine or registry, and test it; see docs/install.md
	tools/image.sh $(IMAGE)
	$(BIN)/python tools/try_image.py $(IMAGE)

lock: ## pin the newest allowed versions
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
	  --python-version 3.11 --all-extras --group dev --output-file requirements.lock pyproject.toml requirements.build
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
	  --python-version 3.11 --group docs --output-file requirements.docs.lock

clean: ## remove everything that make created
	rm -rf $(VENV) $(DOCS_VENV) dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
