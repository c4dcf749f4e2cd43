# The two commands of the README are `make demo` and `make test`; everything happens in .venv, made on demand.
.POSIX:
.SUFFIXES:
.PHONY: help demo test test-slow check format docs clean

VENV = .venv
BIN = $(VENV)/bin
PYTEST = $(BIN)/python -m pytest

help:
	@echo "make demo       make the environment, run the main job on bundled data, say where the reports are"
	@echo "make test       make the environment, run every test that takes seconds"
	@echo "make test-slow  run the tests that take minutes (ensembles of trained networks, great depths)"
	@echo "make check      formatting, lint, types, import direction, strict docs build, doc examples"
	@echo "make format     reformat and apply the safe lint fixes"
	@echo "make docs       build the documentation into site/"
	@echo "make clean      remove everything that was made here, the environment too"

demo: $(VENV)/.installed
	$(BIN)/ntkit demo --out demo
	@echo
	@echo "The reports:"
	@find "$$(pwd)/demo" -name '*.html' | sort | sed 's/^/  /'

test: $(VENV)/.installed-test
	$(PYTEST) --numprocesses=auto --maxprocesses=4 --dist=worksteal --durations=10

test-slow: $(VENV)/.installed-test
	$(PYTEST) -m slow --numprocesses=auto --maxprocesses=4 --dist=worksteal --durations=10

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(PYTEST) -qq -m "slow or not slow" tests/test_import_direction.py tests/test_doc_examples.py tests/test_tutorials.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "make check: formatting, lint, types, import direction, doc examples and docs build are all in order"

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "The documentation: $$(pwd)/site/index.html"

clean:
	rm -rf $(VENV) site build dist demo .pytest_cache .ruff_cache .hypothesis
	find src tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp depends on pyproject.toml, so a second call installs nothing and a changed dependency does.
$(VENV)/.installed: pyproject.toml $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

# The first interpreter that is new enough and can make environments; `make PYTHON=/path/to/python` overrides.
# A version manager may offer a python3.13 that is not installed, hence running each rather than looking for its name.
$(VENV)/.made:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14 python; do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$("$$python" --version)"; \
	    "$$python" -m venv $(VENV) && touch $@ && exit 0; exit 1; \
	  fi; \
	done; \
	echo "ntkit needs Python 3.11 or newer with its venv module, and found none." >&2; \
	echo "Install one (on Debian or Ubuntu: apt install python3 python3-venv), or run make PYTHON=/path/to/python3" >&2; \
	exit 1
