# Six things one does: demo, serve, test, check, bench, chaos. Each installs what it needs into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
NO_UV := $(if $(filter $(BIN)/uv,$(UV)),$(BIN)/uv)
export UV_LINK_MODE ?= copy

.DEFAULT_GOAL := help
.PHONY: help demo serve test check bench bench-load chaos format pins clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.server ## sell and deliver one picture and one clip in the embedded world, into demo-output/
	@$(BIN)/stablestudio demo --output demo-output

serve: $(VENV)/.server ## run the service on http://127.0.0.1:8402
	@$(BIN)/stablestudio serve

test: $(VENV)/.dev ## run the tests
	@$(BIN)/pytest -n auto $(ARGS)

check: $(VENV)/.dev ## format, lint, types, floors
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(VENV)/.dev ## measure quotes, polls, paid accepts and files beside a bare ASGI app, the peer and nginx
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: $(VENV)/.dev ## sell to a crowd while all is broken, and prove that nothing was lost: ARGS="--store postgres --seed 7"
	@$(BIN)/python -m tests.chaos.monkey $(ARGS)

bench-load: $(VENV)/.dev ## measure accepts and polls beside thousands of jobs in flight and a million stored
	@$(BIN)/python -m benchmarks.load_run $(ARGS)

format: $(VENV)/.dev ## format and fix what can be fixed
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

pins: $(VENV)/.dev ## resolve the pinned versions in requirements/ anew
	@$(UV) pip compile -q --no-header --no-annotate --no-emit-index-url --universal pyproject.toml --extra server --extra solana --group dev -o requirements/dev.txt
	@$(UV) pip compile -q --no-header --no-annotate --no-emit-index-url --universal pyproject.toml --extra server --extra solana -c requirements/dev.txt -o requirements/server.txt

clean: ## remove the environment and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-output

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "StableStudio needs Python 3.11 or newer; set PYTHON=python3.12 or the like")'
	@$(PYTHON) -m venv $(VENV)

$(BIN)/uv: | $(BIN)/python
	@$(BIN)/python -m pip install -q --disable-pip-version-check 'uv>=0.9,<1'

$(VENV)/.server: pyproject.toml requirements/server.txt $(NO_UV) | $(BIN)/python
	@echo "Installing StableStudio into $(VENV) ..." >&2
	@$(UV) pip install -q --python $(BIN)/python -r requirements/server.txt
	@$(UV) pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@

$(VENV)/.dev: pyproject.toml requirements/dev.txt $(NO_UV) | $(BIN)/python
	@echo "Installing StableStudio and its development tools into $(VENV) ..." >&2
	@$(UV) pip install -q --python $(BIN)/python -r requirements/dev.txt
	@$(UV) pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@ $(VENV)/.server
