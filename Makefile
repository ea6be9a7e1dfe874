# The project's commands. A fresh clone needs python3 (3.11 or newer) and make; everything else goes into $(VENV).
#
#   make demo    search, export and run a small compressed network; results in demo/
#   make test    the test suite
#   make lint    ruff and mypy
#   make docs    the documentation as a site in site/, strictly: a link that leads nowhere is an error
#   make check   lint and test
#   make clean   remove what these commands made

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# pip would compile every module on one core; Python compiles those that are used, when they are first used.
PIP = $(BIN)/python -m pip --disable-pip-version-check install -qq --no-compile -c constraints.txt
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint docs check clean

demo: $(VENV)/.installed
	rm -rf demo && mkdir demo
	$(BIN)/automl search experiments/digits/demo.yaml --storage sqlite:///demo/study.db
	$(BIN)/automl export digits --storage sqlite:///demo/study.db --out demo/winner --format safetensors,pt2,onnx
	$(BIN)/python experiments/digits/run_onnx.py demo/winner/model.onnx
	@echo "The report, for a browser:"
	@$(BIN)/automl report digits --storage sqlite:///demo/study.db --out demo/report.html

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -q
	@echo "site/index.html"

check: lint test

clean:
	rm -rf $(VENV) demo site .pytest_cache .ruff_cache .mypy_cache .hypothesis

# The stamps let a repeated command skip the installation until the versions asked for change.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV); the first time this takes a minute or two."
	$(PIP) -e '.[onnx,ray]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) with what the tests need; the first time this takes a minute or two."
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
