# Two commands do everything on a machine that has Python >= 3.10 and nothing else:
#   make demo     exports road-unet behind its gate, builds its engines, segments a drive
#   make test     runs the tests          make check    lint, types, architecture
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

RECIPE := engines/road-unet/recipe.toml
BUNDLE := engines/road-unet/bundle
DEMO := runs/demo
FRAMES ?= 150
WORKERS ?= 2
DRIVE := test://drive?frames=$(FRAMES)&size=720x1280&seed=7

.PHONY: help demo test check format clean
help:
	@sed -n '1,3p' Makefile

.venv/demo: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "PixelRT needs Python 3.10 or newer, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(PIP) '.[cpu,video,web,foxglove,export,rtx,cli]'
	touch $@

.venv/dev: .venv/demo
	$(PIP) '.[dev]'
	touch $@

demo: .venv/demo
	mkdir -p $(DEMO)
	$(BIN)/pixelrt export $(RECIPE) -o $(BUNDLE)
	$(BIN)/pixelrt run $(BUNDLE) '$(DRIVE)' --out $(DEMO)/drive.mp4 --sheet $(DEMO)/drive.png --json $(DEMO)/drive.json
	@printf '\noverlay video   %s\ncontact sheet   %s\nfigures         %s\nexport report   %s\n' \
		$(DEMO)/drive.mp4 $(DEMO)/drive.png $(DEMO)/drive.json $(BUNDLE)/report.html

test: .venv/dev
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

check: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv build dist runs .mypy_cache .pytest_cache .ruff_cache
