# Everything below works on a machine with Python 3.11 to 3.13 and make. Nothing has to be installed by hand.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
VENV_211 := .venv-2.11
# The environment's own tools first: the local system finds uv and weed on the path. It creates PostgreSQL's account with useradd.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH):/usr/sbin:/sbin
# The tests run Airflow 2.11 with this interpreter.
export K2_AIRFLOW_211 := $(CURDIR)/$(VENV_211)/bin/python

# Names reach k2 unchanged, through the environment. As part of a command, a shell would run what is in them.
export K2_DEMO_DATA := $(value DATA)
export K2_DEMO_ENGINE := $(value ENGINE)
export K2_DEMO_LIVE := $(value LIVE)
unexport DATA ENGINE LIVE
PYTEST_ARGS ?=
# One more than the two cores: some tests wait for a scheduler or a timeout.
WORKERS ?= 3

.PHONY: help setup demo down test lint format docs lock faults slow bench wheel clean

help: ## Show this
	@grep -hE '^[a-z]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sort | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

setup: $(VENV)/ready ## Make the Python environment (done by the other targets when needed)

$(VENV)/ready: requirements/airflow-3.3.txt pyproject.toml .ci/make-venv .ci/system-packages
	@.ci/system-packages
	@.ci/make-venv $(VENV) requirements/airflow-3.3.txt 3.11 3.12 3.13
	@touch $@

$(VENV_211)/ready: requirements/airflow-2.11.txt pyproject.toml .ci/make-venv | $(VENV)/ready
	@.ci/make-venv --optional $(VENV_211) requirements/airflow-2.11.txt 3.11 3.12
	@touch $@

demo: $(VENV)/ready ## The whole system and the main job: make demo [DATA=FOLDER|"FILE..."] [ENGINE=direct|spark|auto] [LIVE=1]
	@k2 demo

down: ## Stop the local system; its data stays in .k2
	@if [ -x $(VENV)/bin/k2 ]; then k2 local down; else echo "nothing to stop: run 'make demo' first"; fi

test: $(VENV)/ready $(VENV_211)/ready ## Run the tests (a short form of the slow proofs included)
	pytest -n $(WORKERS) --dist loadgroup -m "not slow" $(PYTEST_ARGS)

faults: $(VENV)/ready ## The fault matrix in full: make faults [FAULTS="--cases 300 --seed 1"] [FAULTS_SPARK="--minutes 30"]
	pytest -n $(WORKERS) tests/faults $(PYTEST_ARGS)
	python -m tests.faults.run $(FAULTS)
	python -m tests.faults.run --engine spark $(FAULTS_SPARK)
	python -m tests.faults.run --mutate

slow: $(VENV)/ready $(VENV_211)/ready ## The long proofs that make test leaves out, except faults and benchmarks
	pytest -n $(WORKERS) --dist loadgroup -m slow --ignore tests/benchmarks --ignore tests/faults $(PYTEST_ARGS)

bench: $(VENV)/ready ## The benchmarks, with their figures
	pytest -s -m slow tests/benchmarks $(PYTEST_ARGS)

lint: $(VENV)/ready ## Check style, layers and types
	ruff check .
	ruff format --check .
	lint-imports
	mypy

format: $(VENV)/ready ## Fix style
	ruff check --fix .
	ruff format .

docs: $(VENV)/ready ## Rewrite docs/api.md from the docstrings
	.ci/api-reference

lock: $(VENV)/ready ## Rewrite the lock files
	.ci/lock

wheel: $(VENV)/ready ## Build the wheel into dist
	hatchling build -t wheel

clean: down ## Remove environments, caches and the local system with its data
	rm -rf $(VENV) $(VENV_211) .k2 dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
