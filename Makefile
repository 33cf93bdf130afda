# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Test processes side by side, each with servers of its own: most of their time is waiting. The long files come first.
WORKERS ?= 3

.PHONY: help venv demo test test-unit test-quick test-ray check format bench conformance dislib clean

help:            ## show the targets
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@

venv: $(STAMP)   ## the virtual environment, with every extra

demo: $(STAMP)   ## train a real forecaster on embedded defaults, in under three minutes
	$(BIN)/python -m examples.forecast.demo

test: $(STAMP)   ## everything, on the real servers (root on Debian: installs them first)
	scripts/install-system-packages
	scripts/install-test-torch $(BIN)/python
	scripts/install-test-s3 $(BIN)/python
	$(BIN)/python -m pytest tests -n $(WORKERS) --dist loadfile --no-loadscope-reorder --reruns 2 -rR

test-quick: $(STAMP)   ## what needs no server: unit and contract tests on this machine
	$(BIN)/python -m pytest tests/unit tests/contract -m 'not system'

test-ray: $(STAMP) ## the tests of tasks on Ray, with Ray itself (80 MB), and nodes that are jobs of a SLURM cluster, or over SSH
	scripts/install-system-packages
	scripts/install-test-ray $(BIN)/python
	ISTHMUS_TEST_RAY=1 $(BIN)/python -m pytest tests/contract/test_tasks*.py -k ray --reruns 2 -rR
	ISTHMUS_TEST_RAY=1 $(BIN)/python -m pytest tests/system/test_tasks_ray.py --reruns 2 -rR

check: $(STAMP)  ## format, lint, types, import rules, and the site-side code's Python 3.6
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vermin -q -t=3.6- --no-tips --violations src/isthmus/proxy src/isthmus/runner src/isthmus/__init__.py

format: $(STAMP) ## put the code into the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## make bench NAME=jobs: prints JSON lines only, one a case
	@$(BIN)/python bench/$(NAME).py

ENGINE ?= processes
TESTS ?= tests
dislib: ## make dislib SUITE=path [ENGINE=threads] [TESTS=tests/test_kmeans.py]: a checked-out dislib's own tests
	scripts/run-dislib "$(SUITE)" $(ENGINE) $(TESTS)

conformance: $(STAMP) ## make conformance SUITE=path: a checked-out CWL conformance suite, in real containers
	@scripts/cwl-conformance $(BIN)/python $(SUITE)

clean:           ## remove what the build made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist build
