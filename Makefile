# Everything runs in .venv, which the first target to need it makes.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN = .venv/bin

.PHONY: setup train test lint format bench faults cluster cluster-local

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

train: setup  ## the main job, on synthetic portraits: about 2 minutes on two cores
	$(BIN)/python jobs/train.py

test: setup
	$(BIN)/pytest

bench: setup  ## what data path, training and grid reach of their bounds, into bench/results.json: about 17 minutes on two cores
	$(BIN)/python -m bench

faults: setup  ## workers, nodes, drivers and stores that fail, and what a run loses by it: about 20 minutes on two cores
	$(BIN)/pytest -m slow tests/local_ray
	$(BIN)/pytest -m slow tests/faults

cluster: setup  ## jobs submitted with a token; cluster.yaml's node types under Ray's autoscaler: about 6 minutes
	$(BIN)/pytest -m slow tests/deploy

cluster-local: setup  ## deploy/local.yaml on one machine, by SSH: about 4 minutes; needs root, openssh-server and rsync
	PATH="$(CURDIR)/$(BIN):$$PATH" deploy/local-test.sh

lint: setup  ## style, types, and which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## put code into the project's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
