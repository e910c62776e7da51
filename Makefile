# Needs python3 (3.11 or newer) with venv and pip, and make. Everything is made in .venv
# (the oldest supported versions: .venv-floor; what npm installs: .venv-js); `make clean` removes it.

PYTHON ?= python3
VENV := .venv
FLOOR := .venv-floor
JS := .venv-js
WORKERS := 2
PIP_INSTALL := -m pip install -qq

.PHONY: help run test cover lab bench soak fuzz lint floor test-floor clean \
    deps-run deps-test deps-lab deps-front-ends deps-qt deps-kernels
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo 'make run         run the tour, notebooks/tour.ipynb, and print what it shows'
	@echo 'make test        the quick tests, two at a time; PYTEST_ARGS="-k name" is handed to'
	@echo '                 pytest ("-n 0": one at a time, as debuggers need it),'
	@echo '                 KM_TIER=full adds the long ones, KM_REQUIRE=bash,floor,lab,...'
	@echo '                 turns "skipped: not installed" into a failure'
	@echo 'make cover       whether protocol/ and wire/ are tested whole, branch by branch'
	@echo 'make lab         the tour in JupyterLab'
	@echo 'make bench       the benchmarks; BENCH_ARGS is handed to them'
	@echo 'make soak        thousands of cells among faults; SOAK_ARGS="--cells 200"'
	@echo 'make fuzz        damaged messages, files, lines and text; FUZZ_ARGS="--count 100000"'
	@echo 'make lint        ruff and mypy'
	@echo 'make floor       a second environment with the oldest supported versions'
	@echo 'make test-floor  the quick tests in it'
	@echo 'make deps-kernels'
	@echo '                 the JavaScript kernels that some tests start; needs npm'
	@echo 'make clean       remove all environments and caches'

run: deps-run
	$(VENV)/bin/python tools/run_notebook.py notebooks/tour.ipynb

# The tests start kernels of the floor environment where there is one.
test: deps-test
	@if [ -z "$$KM_FLOOR_PYTHON" ] && [ -e $(FLOOR)/.km-test ]; then \
	    export KM_FLOOR_PYTHON="$(CURDIR)/$(FLOOR)/bin/python"; \
	fi; \
	exec $(VENV)/bin/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

# What decides about other people's work may have no line that no test has seen.
# All their tests, whatever the tier: the quick one tries fewer examples.
cover: deps-test
	KM_TIER=full $(VENV)/bin/python -m coverage run \
	    --source kernel_magics.protocol,kernel_magics.wire \
	    -m pytest -q $(PYTEST_ARGS) tests/protocol tests/wire
	$(VENV)/bin/python -m coverage report --show-missing --fail-under 100

lab: deps-lab
	$(VENV)/bin/python -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) \
	    $(LAB_ARGS) notebooks/tour.ipynb

bench: deps-test
	$(VENV)/bin/python -m benchmarks $(BENCH_ARGS)

soak: deps-test
	$(VENV)/bin/python -m tests.soak $(SOAK_ARGS)

fuzz: deps-test
	$(VENV)/bin/python -m tests.fuzz $(FUZZ_ARGS)

lint: deps-test
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

floor: $(FLOOR)/.km-test

# Always the quick tier; what failed last here is remembered apart from `make test`.
test-floor: floor
	KM_TIER=quick $(FLOOR)/bin/python -m pytest -o cache_dir=$(FLOOR)/.pytest_cache $(PYTEST_ARGS)

deps-run: $(VENV)/.km-run
deps-test: $(VENV)/.km-test
deps-lab: $(VENV)/.km-lab
deps-front-ends: $(VENV)/.km-front-ends
deps-qt: $(VENV)/.km-qt
deps-kernels: $(JS)/.km-kernels

# `pip install --group` needs pip 25.1; what venv brings may be older.
$(VENV)/.km-pip $(FLOOR)/.km-pip: %/.km-pip:
	@echo 'making $*'
	@$(PYTHON) -m venv --clear $*
	@$*/bin/python $(PIP_INSTALL) --upgrade pip
	@touch $@

$(VENV)/.km-run: $(VENV)/.km-pip pyproject.toml
	@echo 'installing kernel_magics into $(VENV)'
	@$(VENV)/bin/python $(PIP_INSTALL) -e . --group run
	@touch $@

$(VENV)/.km-test: $(VENV)/.km-pip pyproject.toml
	@echo 'installing kernel_magics and what its tests need into $(VENV)'
	@$(VENV)/bin/python $(PIP_INSTALL) -e . --group test
	@$(VENV)/bin/python -m bash_kernel.install --sys-prefix >/dev/null
	@touch $(VENV)/.km-run $@

$(VENV)/.km-lab: $(VENV)/.km-pip pyproject.toml
	@echo 'installing kernel_magics and JupyterLab into $(VENV)'
	@$(VENV)/bin/python $(PIP_INSTALL) -e . --group run --group lab
	@touch $(VENV)/.km-run $@

$(VENV)/.km-front-ends: $(VENV)/.km-pip pyproject.toml
	@echo 'installing kernel_magics and the front ends of its tests into $(VENV)'
	@$(VENV)/bin/python $(PIP_INSTALL) -e . --group run --group front-ends
	@touch $(VENV)/.km-run $(VENV)/.km-lab $@

$(VENV)/.km-qt: $(VENV)/.km-pip pyproject.toml
	@echo 'installing kernel_magics and the Qt console into $(VENV)'
	@$(VENV)/bin/python $(PIP_INSTALL) -e . --group run --group qt
	@touch $(VENV)/.km-run $@

$(FLOOR)/.km-test: $(FLOOR)/.km-pip pyproject.toml
	@echo 'installing kernel_magics and the oldest versions it supports into $(FLOOR)'
	@$(FLOOR)/bin/python $(PIP_INSTALL) -e . --group test --group floor
	@$(FLOOR)/bin/python -m bash_kernel.install --sys-prefix >/dev/null
	@touch $@

# Programs that come with prebuilt parts, so nothing of theirs has to run to install them.
$(JS)/.km-kernels: Makefile
	@echo 'installing the JavaScript kernels into $(JS)'
	@mkdir -p $(JS)
	@npm install --prefix $(JS) --ignore-scripts --no-audit --no-fund --loglevel=error \
	    deno tslab @types/node >/dev/null
	@touch $@

clean:
	rm -rf $(VENV) $(FLOOR) $(JS) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
