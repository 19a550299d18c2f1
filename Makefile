# Two commands do everything on a machine that has Python >= 3.10 and nothing else:
#   make test     the tests          make check    lint, types, architecture
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help test check format clean
help:
	@sed -n '1,2p' Makefile

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "PixelRT needs Python 3.10 or newer, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

test: .venv/ready
	$(BIN)/pytest

check: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
