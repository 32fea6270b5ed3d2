# Two commands do everything on a fresh machine with Python 3.11: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint types floors check peers

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test,bench]'
	touch $@

demo: setup
	$(BIN)/scorefusion demo $(DEMO_ARGS)

test: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup $(TEST_ARGS)

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

floors: setup
	$(BIN)/lint-imports

check: lint types floors

# the benchmark opponents live in environments of their own, so that their pins never reach ours
peers:
	$(PYTHON) bench/peers/install.py || python3 bench/peers/install.py
