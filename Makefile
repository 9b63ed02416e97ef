# Needs GNU make, a POSIX shell and Python 3.11 or 3.12. `make` alone lists the targets.

VENV ?= .venv
RUN := $(VENV)/bin/python

# The first Python that is new enough, not too new, and able to make a virtual environment.
VERSION_OK := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
SUPPORTED := import ensurepip; $(VERSION_OK)
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do "$$p" -c '$(SUPPORTED)' 2>/dev/null && echo "$$p" && break; done)

# Content, not time stamps: a fresh checkout or a copied tree must not trust, or redo, another tree's set-up.
STAMP = $(shell cat requirements/lock.txt pyproject.toml setup.py | cksum) $(CURDIR)

# A few processes with one thread each: threads of one process that wait for each other cost more than they bring here.
# Whole files, so that what their tests share is made once, in the order of tests/conftest.py.
PYTEST = OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
	--durations=20

export HF_HUB_OFFLINE := 1
# Where this is set, every process of the tests compiles torch and transformers anew: half a minute each.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup install demo demo-loop demo-short test test-all torture torture-short families docs notebooks lint check-env

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: ## a virtual environment in .venv with the versions of requirements/lock.txt (a second call: nothing to do)
	@if [ "$$(cat $(VENV)/.setup-stamp 2>/dev/null)" = "$(STAMP)" ]; then \
		echo "$(VENV) is up to date"; else $(MAKE) --no-print-directory install; fi

# The work of `setup`. An environment that an interrupted call left half made is begun anew.
# --no-compile: Python compiles what it imports; doing so for all of torch and transformers doubles the time.
install:
	@if [ -e $(VENV)/.unfinished ] || ! $(RUN) -m pip --version >/dev/null 2>&1; then \
		if [ -z "$(PYTHON)" ]; then \
			echo "No Python 3.11 or 3.12 with the venv module was found as python3.11, python3.12, python3 or python" \
				"(python3 is: $$(python3 --version 2>&1))." >&2; \
			echo "Install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; fi; \
		if ! "$(PYTHON)" -c '$(SUPPORTED)' 2>/dev/null; then \
			echo "$(PYTHON) is $$("$(PYTHON)" --version 2>&1); expected Python 3.11 or 3.12 with the venv module." >&2; \
			echo "Name another one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; fi; \
		clear=; if [ -e $(VENV)/pyvenv.cfg ]; then clear=--clear; fi; \
		echo "1/4 $(VENV) with $$("$(PYTHON)" --version)"; "$(PYTHON)" -m venv $$clear $(VENV) || exit 1; \
	fi
	@$(RUN) -c '$(VERSION_OK)' || { echo "$(VENV) holds $$($(RUN) --version); expected Python 3.11 or 3.12." \
		"Move it away, or choose another place: make setup VENV=.venv311" >&2; exit 1; }
	@touch $(VENV)/.unfinished; rm -f $(VENV)/.setup-stamp
	@echo "2/4 torch (the large one)"
	@$(RUN) -m pip install -q --no-compile -c requirements/lock.txt torch
	@echo "3/4 everything else, exactly as in requirements/lock.txt"
	@$(RUN) -m pip install -q --no-compile --no-deps -r requirements/lock.txt
	@echo "4/4 this package, editable"
	@$(RUN) -m pip install -q --no-deps --no-build-isolation -e .
	@$(RUN) -W ignore -c 'import mmdiff2in1.components' >/dev/null # compiles what is used, once
	@echo "$(STAMP)" > $(VENV)/.setup-stamp; rm -f $(VENV)/.unfinished
	@echo "$(VENV) is ready"

demo: setup ## what created images are good for: a light model with 20 labels, pasted objects, a teacher
	@HF_HUB_DISABLE_PROGRESS_BARS=1 $(RUN) -W ignore -m mmdiff2in1 demo

demo-loop: setup ## the loop of the paper: scenes, warm-up, creation, self-improving, test, report
	@HF_HUB_DISABLE_PROGRESS_BARS=1 $(RUN) -W ignore -m mmdiff2in1 demo --loop

demo-short: setup ## both in their shortest form, to see that they run
	@HF_HUB_DISABLE_PROGRESS_BARS=1 $(RUN) -W ignore -m mmdiff2in1 demo --short
	@HF_HUB_DISABLE_PROGRESS_BARS=1 $(RUN) -W ignore -m mmdiff2in1 demo --loop --short

test: setup ## the tests without those marked slow
	$(PYTEST) -m "not slow"

test-all: setup ## every test
	$(PYTEST)

torture: setup ## random kills, damaged stores, hostile files, mutated configs and inputs; TORTURE='--minutes 60', or '--help'
	PYTHONPATH=tests $(RUN) -W ignore -m torture $(TORTURE)

torture-short: setup ## three trials of each kind, with a seed that stays
	PYTHONPATH=tests $(RUN) -W ignore -m torture --count 3 --seed 0

families: setup ## configs that mmseg ships, tiny, through the whole way: docs/families.md; FAMILIES='--rows SegFormer'
	@$(RUN) -W ignore projects/families/families.py $(FAMILIES)

docs: setup ## the documentation site, into work_dirs/site; warnings are errors
	@$(RUN) -c 'import material, mkdocstrings' 2>/dev/null || $(RUN) -m pip install -q -r requirements/docs.txt
	$(RUN) -m mkdocs build --strict --quiet
	@echo "look at work_dirs/site/index.html"

notebooks: setup ## the notebooks of docs/notebooks, run from the first cell to the last
	@$(RUN) -c 'import nbclient, nbformat, ipykernel' 2>/dev/null || $(RUN) -m pip install -q -r requirements/docs.txt
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q tests/test_notebooks.py

lint: setup ## ruff check, ruff format --check, mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

check-env: setup ## what is installed, what is wrong with it, and the command that mends it
	$(RUN) tools/check_env.py
