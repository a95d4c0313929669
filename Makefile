# fedse: everything is made inside $(VENV); nothing outside it is touched.
#
# Two commands suffice on a fresh machine with Python 3.11, 3.12 or 3.13:
#     make quickstart     install, run a small federation, show the result
#     make test           install the development tools and run the test suite
#
# A third shows sites that are really apart:
#     make demo           a server and five sites as processes of their own, with TLS and keys

VENV ?= .venv
BIN := $(VENV)/bin
# The first interpreter that starts and is of a supported version; version managers leave names on PATH that do not start.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	"$$name" -c '$(SUPPORTED)' >/dev/null 2>&1 && echo "$$name" && break; done)
# One process per core, but not so many that loading PyTorch in each outweighs the tests.
PARALLEL := -n logical --maxprocesses=8 --dist=worksteal
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Asked for alone and by this exact version, so that the index's default build is taken and nothing else picks another.
TORCH := torch==2.13.0

.PHONY: help quickstart demo install test test-slow lint format bench docs reference constraints clean
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(VENV)/.runtime  ## install and run a small federation end to end
	$(BIN)/fedse run --preset quickstart --resume

demo: $(VENV)/.flower  ## a server and five sites as processes of their own, with TLS and keys, on this machine
	$(BIN)/fedse federation demo

install: $(VENV)/.dev $(VENV)/.docs  ## install everything that development needs

test: $(VENV)/.dev  ## run the tests (seconds to minutes; no model is downloaded)
	$(BIN)/python -m pytest $(PARALLEL) --durations=10

test-slow: $(VENV)/.dev  ## run the tests that need the real base model
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev  ## style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## mend style in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench  ## measure the speed of rollouts, serving, training and absorbing
	$(BIN)/fedse model pull
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

docs: $(VENV)/.docs  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

reference: $(VENV)/.runtime  ## bring the help texts in docs/cli.md into step with the program
	$(BIN)/python scripts/cli_reference.py

constraints: $(VENV)/.dev $(VENV)/.docs $(VENV)/.bench  ## write the versions installed in VENV into constraints.txt
	head -2 constraints.txt > constraints.new
	$(PIP) freeze --exclude-editable > constraints.all
	sed 's/+[a-z0-9.]*$$//' constraints.all | tr 'A-Z_' 'a-z-' | LC_ALL=C sort -t= -k1,1 >> constraints.new
	mv constraints.new constraints.txt
	rm constraints.all

clean:  ## remove the virtual environment, caches and built pages (runs/ stays)
	rm -rf $(VENV) site dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp marks one installed layer; a stamp is renewed when the project's requirements change.

$(VENV)/.torch:
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found. Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 2; }
	@echo "Creating $(VENV) with $(PYTHON) and installing $(TORCH)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install $(TORCH)
	@touch $@

$(VENV)/.runtime: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "Installing fedse"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.flower: $(VENV)/.runtime
	@echo "Installing Flower"
	@$(PIP) install -c constraints.txt -e ".[flower]"
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "Installing fedse and its development tools"
	@$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $(VENV)/.runtime $@

$(VENV)/.docs: $(VENV)/.runtime
	@echo "Installing the documentation tools"
	@$(PIP) install -c constraints.txt -e ".[docs]"
	@touch $@

$(VENV)/.bench: $(VENV)/.runtime
	@echo "Installing the libraries that the benchmarks compare with"
	@$(PIP) install -c constraints.txt -e ".[bench]"
	@touch $@
