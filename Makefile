# Everything runs in .venv, which the first target that needs it creates.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN = .venv/bin
WITHOUT_RAY = tests/unit tests/store tests/fuzz tests/browser

.PHONY: setup train test docs documented lint format bench scale gpu identity pretrain fuzz faults soak cluster cluster-local

setup: .venv/ready

# Without --no-compile, pip also compiles what is never imported: 170 s instead of 117 s on two cores.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

train: setup  ## train on synthetic portraits: about 2 minutes on two cores
	$(BIN)/python jobs/train.py

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 $(WITHOUT_RAY)
	$(BIN)/pytest $(addprefix --ignore ,$(WITHOUT_RAY))

bench: setup  ## measure data path, training and grid against their bounds, into bench/results.json: about 15 minutes on two cores
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --constraint constraints.txt --requirement bench/peers.txt
	$(BIN)/python -m bench

gpu: setup  ## compare a GPU with the CPU and measure its steps, into bench/gpu.json; without a GPU small and into no file
	$(BIN)/python -m bench.gpu

scale: setup  ## count what a run does on 8 and 16 nodes that this machine pretends to be, into bench/scale.json: about 8 minutes
	$(BIN)/python -m bench.scale

identity: setup  ## test `faceae evaluate --identity` with dlib and its models, 137 MB, which `make test` does without
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[identity]'
	$(BIN)/pytest tests/unit/test_identity.py tests/local_ray/test_evaluate_identity.py

pretrain: setup  ## train the network that comes with faceae for scratches and small holes, into faceae/models/local.safetensors
	$(BIN)/python -m pretrain

fuzz: setup  ## try damaged files, settings and command lines for FUZZ_MINUTES, 10 by default; with other seeds each time
	$(BIN)/python tests/fuzz

faults: setup  ## test what a run loses when workers, nodes, drivers and stores fail: about an hour on two cores
	$(BIN)/pytest -m slow tests/local_ray tests/store tests/serve
	$(BIN)/pytest -m slow tests/faults

soak: setup  ## kill parts of one run 100 times and count its images (SOAK_KILLS=100): about half an hour
	SOAK_KILLS=$(or $(SOAK_KILLS),100) $(BIN)/pytest -m slow tests/faults/test_soak.py

cluster: setup  ## test jobs submitted with a token, and cluster.yaml's node types under Ray's autoscaler: about 6 minutes
	$(BIN)/pytest -m slow tests/deploy

cluster-local: setup  ## test deploy/local.yaml on one machine, over SSH: about 4 minutes; needs root, openssh-server and rsync
	PATH="$(CURDIR)/$(BIN):$$PATH" deploy/local-test.sh

docs: setup  ## build the documentation as a site, into out/site/index.html; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

documented: setup  ## run every command that README, guide and usage show, on a few drawn faces: about 15 minutes
	$(BIN)/pytest -m slow tests/documented

lint: setup  ## check style, types, and which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## apply the project's code style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
