# `make cert` and `make test` set everything up themselves. Inside the environment (. .venv/bin/activate) plain
# `snakemake …` and `pytest` do the same.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
SNAKEMAKE := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake
TESTS ?= tests

# Jobs start twice as fast when packages keep their compiled bytecode.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: cert all test torture cluster browser env report config bench lint fuzz audit

cert: env
	$(SNAKEMAKE) --cores all results/dpa_cert.csv

test: env
	$(BIN)/python -m pytest -n auto --dist loadfile $(TESTS)

# The tests on a SLURM of one node that they start themselves; as root, with Debian's slurm-wlm and munge.
cluster: env
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[slurm]'
	MITHRIDATE_CLUSTER=1 $(BIN)/python -m pytest tests/cluster

# The tests of the report in a browser; with Debian's chromium and chromium-driver.
browser: env
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[browser]'
	MITHRIDATE_BROWSER=1 $(BIN)/python -m pytest tests/browser

# Kills, full disks, damaged files. The short form: make torture TORTURE='--size short --kills 4'.
torture: env
	$(BIN)/python -m tests.torture $(TORTURE)

env: $(STAMP)

all: env
	$(SNAKEMAKE) --cores all

report: all
	$(SNAKEMAKE) --report results/report.html
	$(SNAKEMAKE) --report results/report.zip

config: env
	$(BIN)/mithridate config

bench: env
	$(BIN)/python benchmarks/certify.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/rab.py
	$(BIN)/python benchmarks/smoothing.py
	$(BIN)/python benchmarks/bilevel.py
	$(BIN)/python benchmarks/strip.py
	$(BIN)/python benchmarks/dgn.py
	$(BIN)/python benchmarks/growth.py

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	$(SNAKEMAKE) --lint

# Damaged and hostile files for every reader, SECONDS each.
SECONDS ?= 60
fuzz: env
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz $(SECONDS)

# Known advisories for the versions in constraints.txt; needs a network that reaches a database of them.
audit:
	PYTHON=$(PYTHON) .ci/audit

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "mithridate needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@
