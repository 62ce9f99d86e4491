# The commands of this repository. Each builds the environment first, unless it is up to date.
#
#   make demo    the weekly retraining workflow, from an empty machine to its result
#   make test    lint, types, import contracts, and the tests that take up to some seconds each
#   make slow    the other tests
#   make contract   the same wandb flows against the dev server, with each supported minor of the SDK
#   make cluster    the services of docker-compose.yaml without containers: two workers, one of which is lost
#   make matrix     the built wheel on each supported Airflow and wandb; one of them: make matrix CELL=airflow-3.3-wandb-0.30
#
# Options of the demo:  make demo DEMO='--keep'     (wandb-airflow demo --help lists them)
# Another interpreter:  make demo PYTHON=python3.12
# One test:             make pytest TESTS=tests/unit/test_identity.py

PYTHON ?= python3
VENV ?= .venv
DEMO ?=
TESTS ?=
# More than there are cores, because tests wait for a good part of their time.
PYTEST_WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 4 ? cores + 2 : 5)))
LOCK ?=
BENCH ?=
CELL ?=
MATRIX ?=
MATRIX_PYTHON ?= $(VENV)/bin/python

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The files that take longest come first, so that the workers end at the same time.
FAST_TESTS := tests/dags/ tests/unit/dags/ \
  $(filter-out tests/__pycache__/ tests/dags/ tests/system/ tests/contract/ tests/cluster/,$(sort $(dir $(wildcard tests/*/.))))
# A file's tests share their session fixtures, so a file stays on one worker.
WORKERS = -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder
SDKS := $(patsubst tools/sdk/%.txt,.sdks/%/.installed,$(wildcard tools/sdk/*.txt))
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

# Airflow and its dependencies take seconds to compile; without the compiled files, every process pays that again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help env demo test slow lint format types contracts contract contract-record cluster matrix pytest bench operations lock clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,12p'

env: $(STAMP)

# uv does not read pip's configuration, so an index or certificate that is set there is handed on.
define INDEX
index="$$($(BIN)/python -m pip config get global.index-url 2>/dev/null || true)"; \
cert="$${PIP_CERT:-$$($(BIN)/python -m pip config get global.cert 2>/dev/null || true)}"; \
index="$${PIP_INDEX_URL:-$$index}"; \
if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}"; fi; \
if [ -n "$$cert" ]; then export SSL_CERT_FILE="$${SSL_CERT_FILE:-$$cert}"; fi;
endef

# uv itself is installed by pip, with its hash checked; everything else by uv, with every hash checked.
$(STAMP): constraints.txt pyproject.toml tools/bootstrap.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "make: '$(PYTHON)' was not found. Install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: Python 3.11 or newer is needed, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "Creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing the environment of constraints.txt"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tools/bootstrap.txt
	@$(INDEX) \
	  export VIRTUAL_ENV="$(abspath $(VENV))" && \
	  $(BIN)/uv pip install --quiet --require-hashes -r constraints.txt && \
	  $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --offline -e .
	@touch $@

demo: $(STAMP)
	@$(BIN)/wandb-airflow demo $(DEMO)

test: lint types contracts
	$(call tests,not slow)

slow: $(STAMP)
	$(call tests,slow)

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(STAMP)
	$(BIN)/mypy --strict

contracts: $(STAMP)
	$(BIN)/lint-imports

# What fails while every core is busy is run once more, alone: a test that fails again is broken, the other is slow.
once = $(BIN)/pytest $(1) $(2) -m '$(3)' || { [ $$? -eq 1 ] && echo "Once more, alone:" && \
  $(BIN)/pytest --last-failed --last-failed-no-failures none $(1) -m '$(3)'; }

# One Airflow for all that need a real one: no second worker.
define tests
$(call once,$(FAST_TESTS),$(WORKERS),$(1))
$(call once,tests/system,,$(1))
endef

# Older SDKs, each in an environment that holds nothing else.
contract: $(STAMP) $(SDKS)
	export WANDB_SDKS=.sdks; $(call once,tests/contract,,)

contract-record: $(STAMP) $(SDKS)
	RECORD_SDK=1 WANDB_SDKS=.sdks $(BIN)/pytest tests/contract

# Too long for every change: an environment and some minutes for each cell. Writes what it ran into docs/support.md.
matrix: $(STAMP)
	@$(INDEX) $(BIN)/python tools/matrix --python $(MATRIX_PYTHON) $(MATRIX) $(CELL)

# PostgreSQL, Redis, an object store, the dev server and Airflow with two Celery workers. Says by itself when it takes
# too long.
cluster: $(STAMP)
	$(BIN)/pytest tests/cluster

.sdks/%/.installed: tools/sdk/%.txt | $(STAMP)
	@echo "Installing the SDK environment $*"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	@$(INDEX) VIRTUAL_ENV="$(abspath $(@D))" $(BIN)/uv pip install --quiet --require-hashes -r $<
	@touch $@

pytest: $(STAMP)
	$(BIN)/pytest $(TESTS)

# Figures depend on the machine, and on how busy it is: not a part of the tests.
bench: $(STAMP)
	$(BIN)/python -m benchmarks $(BENCH)

# The table of what the dev server knows of the installed SDK.
operations: $(STAMP)
	$(BIN)/python tools/devserver_operations.py

# Writes the exact versions of everything. Keeps those already chosen; LOCK=--upgrade takes the newest.
lock: $(STAMP)
	$(COMPILE) $(LOCK) tools/bootstrap.in -o tools/bootstrap.txt
	$(COMPILE) $(LOCK) pyproject.toml tools/build.in --all-extras --group dev -o constraints.txt
	$(COMPILE) $(LOCK) docker/devserver.in -c constraints.txt -o docker/devserver.txt
	for sdk in $(basename $(wildcard tools/sdk/*.in)); do $(COMPILE) $(LOCK) $$sdk.in -o $$sdk.txt; done
	for cell in $(basename $(wildcard tools/matrix/airflow-*.in)); do \
	  $(COMPILE) $(LOCK) $$(sed -n 's/^# lock: //p' $$cell.in) pyproject.toml tools/matrix/tests.in $$cell.in \
	    --extra devserver -o $$cell.txt || exit 1; done
	@! grep -nE '://|--(extra-)?index' constraints.txt tools/bootstrap.txt tools/sdk/*.txt tools/matrix/*.txt

clean:
	rm -rf $(VENV) .sdks .matrix .demo build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
