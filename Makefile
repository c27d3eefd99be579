# `make demo` and `make test` work on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help demo table test slow slurm lint docs clean

help:
	@echo "make demo   train on real digits, draw what was found (under 4 minutes after set-up)"
	@echo "make table  all ten digits x five methods, ending in a page of tables and pictures (under 30 minutes)"
	@echo "make test   the test suite, with coverage (under 10 minutes)"
	@echo "make slow   the proofs that take longer: kills, sweeps, several processes, odd inputs, exports, the protocol for a GPU"
	@echo "make slurm  sweeps on a real SLURM, where tests/slurm/cluster.sh has started one (under 10 minutes)"
	@echo "make lint   linter, formatter and type checker"
	@echo "make docs   this documentation as a site, in build/site; a warning is an error"
	@echo "make clean  remove the environment and caches; runs/ and data/ stay"

demo: $(INSTALLED)
	$(BIN)/anomaly-gan train experiment=digits_demo

table: $(INSTALLED)
	$(BIN)/anomaly-gan train experiment=digits_table

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not slurm" -n auto --dist worksteal --cov --cov-report=term --cov-fail-under=90

slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n auto --dist worksteal

slurm: $(INSTALLED)
	$(BIN)/python -m pytest -m slurm -rs

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -d .venv || $(PYTHON) -m venv .venv
	@echo "installing into .venv (once; a few minutes, 6 GB)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
