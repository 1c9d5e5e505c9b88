# Everything a developer types. Each target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_VENV := .venv-docs
DOCS_READY := $(DOCS_VENV)/.ready
IMAGE ?= localhost/credrotator:latest

.DEFAULT_GOAL := help
.PHONY: help demo test reference lint docs docs-serve dist e2e e2e-smoke bench soak image lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The lock pins every package with its hash; the project itself is installed on top, without looking anything up.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "credrotator needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(DOCS_READY): requirements.docs.lock
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.docs.lock
	touch $@

demo: $(READY) ## rotate the example policies against a local issuer and clouds
	$(BIN)/python examples/demo.py

test: $(READY) ## unit, property and simulator tests; needs nothing but the packages
	$(BIN)/python -m pytest -m 'not e2e'

reference: $(READY) ## write docs/cli.md and the man page anew, from what --help says
	$(BIN)/python tools/reference.py

lint: $(READY) ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DOCS_READY) ## the documentation's site, into site/; a dead link or a page that nobody reaches is an error
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --clean
	@echo "look at site/index.html"

docs-serve: $(DOCS_READY) ## the site on http://127.0.0.1:8000, made anew as its pages are written
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs serve

dist: $(READY) $(DOCS_READY) ## wheel, source archive, parts list and checksums, into dist/; the wheel is installed and tried
	$(BIN)/python tools/dist.py $(DOCS_VENV)/bin/cyclonedx-py

e2e: $(READY) ## the real parts, built and started: Keycloak, MinIO, Envoy, the gateway's filter
	$(BIN)/python -m pytest tests/e2e tests/chart tests/bench -m e2e -s

e2e-smoke: $(READY) ## one policy through the whole real chain
	$(BIN)/python -m pytest tests/e2e -m smoke -s

bench: $(READY) ## both rotators at the same work, side by side in one run of 15 minutes; BENCH=quick for three
	$(BIN)/python -m tests.bench $(ARGS)

soak: $(READY) ## an hour of short lives and short faults, watched by a suspicious reader; SOAK=300 for five minutes
	$(BIN)/python -m tests.reliability.soak

image: $(READY) ## the container image, built without engine or registry, started and rotated with; see docs/install.md
	tools/image.sh $(IMAGE)
	$(BIN)/python tools/try_image.py $(IMAGE)

lock: ## pin the newest allowed versions again
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
	  --python-version 3.11 --all-extras --group dev --output-file requirements.lock pyproject.toml requirements.build
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
	  --python-version 3.11 --group docs --output-file requirements.docs.lock

clean: ## remove what make made
	rm -rf $(VENV) $(DOCS_VENV) dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
