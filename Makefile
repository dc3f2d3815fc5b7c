# make run | test | test-all | test-fast | test-hf | lint | format | docs | bench | study | study-offline | figures | clean
#         release-check | test-onnx | test-browser | test-notebooks
#
# The first target that needs the environment installs it into .venv, with uv if it is installed and with venv and pip
# otherwise. Another interpreter: make PYTHON=python3.13 test. Another folder: make VENV=path test.

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; done; echo python3)

# One worker more than cores, because some tests wait for processes. A file stays with one worker, because its tests share
# compiled programs.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN || echo 1) + 1)
PYTEST_ARGS ?= --numprocesses $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
CHOSEN ?= -m 'not slow'

# The mathematics and the API: no subprocess, and no training of more than a few updates.
FAST_TESTS := $(addprefix tests/test_, $(addsuffix .py, causal graph identification distributions process \
	process_causal_model inference certificate entry_points))

# Tests in which jaxtyping checks the shapes and types of every call. It makes tracing slower by a fifth, so that the
# others, which go through the same functions, do without. So do graphs and identification, which have many small calls
# and no shapes: they would take three and seven times as long. Certificates go through what teaching and agents do.
CHECKED_TESTS := $(filter-out tests/test_certificate.py tests/test_graph.py tests/test_identification.py,$(FAST_TESTS)) \
	$(addprefix tests/test_, $(addsuffix .py, agents heads teaching host world))

# Tests that need Torch.
HF := tests/hf src/undelude/hf src/undelude/torch

BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
ifdef UV
INSTALL := $(UV) pip install --quiet --python $(BIN)/python
else
# Like uv, without compiling every file to bytecode, which takes over a minute: Python compiles what it imports.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# Dependency groups need pip 25.1; many an environment starts with an older one.
NEWER_PIP := $(INSTALL) --upgrade 'pip>=25.1'
endif

# Keep Python's bytecode even if the environment has PYTHONDONTWRITEBYTECODE: without it, each process that a test starts
# compiles the source of JAX.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test test-all test-fast test-hf test-onnx test-browser test-notebooks lint lint-style lint-types \
	lint-layers lint-user lint-api format docs bench study study-offline figures release-check clean

# Teach an agent on the paper's bandit, certify it, write the page. A second `make run` continues an unfinished run.
run: $(VENV)/.test
	$(BIN)/undelude train bandit --out runs/bandit $(if $(wildcard runs/bandit/config.json),--resume)

# All but the slow ones. `make test-all` has these too: run it before a release.
test: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(CHOSEN) $(CHECKED_TESTS)
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(CHOSEN) --jaxtyping-packages= $(addprefix --ignore=,$(CHECKED_TESTS) $(HF))
	$(if $(wildcard $(VENV)/.hf),$(MAKE) test-hf)

test-all:
	$(MAKE) test CHOSEN=

# Language models. Torch is large: `make test` runs these tests too once this target has installed it.
test-hf: $(VENV)/.hf
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(CHOSEN) --jaxtyping-packages= $(HF)

test-fast: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(FAST_TESTS)

# Tests that `make test` skips if their packages are not installed: agents as ONNX, pages in Chromium, the notebooks.
test-onnx: $(VENV)/.onnx
	$(BIN)/python -m pytest --no-skips --jaxtyping-packages= tests/test_export_onnx.py

test-browser: $(VENV)/.browser
	$(BIN)/python -m pytest --no-skips --jaxtyping-packages= tests/test_inspector_page.py tests/test_report.py

test-notebooks: $(VENV)/.notebooks
	$(BIN)/python -m pytest --no-skips --jaxtyping-packages= tests/test_notebooks.py

# `make --jobs=2 --keep-going --output-sync lint` runs two at a time and names what each finds: half of the time is
# pyright's.
lint: lint-style lint-types lint-layers lint-user lint-api

lint-types: $(VENV)/.lint
	$(BIN)/pyright --pythonpath $(BIN)/python

lint-style: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-layers: $(VENV)/.lint
	$(BIN)/lint-imports --no-cache

lint-user: $(VENV)/.lint
	$(BIN)/mypy

lint-api: $(VENV)/.lint
	$(BIN)/python tools/write_api.py --check

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The reference of the public names, from their docstrings, and then all pages.
docs: $(VENV)/.docs
	$(BIN)/python tools/write_api.py
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/exact.py
	$(BIN)/python benchmarks/causal.py
	$(BIN)/python benchmarks/networks.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/acting.py
	$(BIN)/python benchmarks/tasks.py
	$(BIN)/python benchmarks/long.py
	$(BIN)/python benchmarks/soak.py

# About two hours on two cores; rewrites src/undelude/_paper/results/ and docs/figures/.
study: $(VENV)/.test
	$(BIN)/python studies/generations.py
	$(BIN)/python studies/remark_14.py
	$(BIN)/python studies/remark_15.py
	$(BIN)/python studies/shares.py
	$(BIN)/python studies/remark_17.py
	$(BIN)/python studies/dagger.py
	$(BIN)/python studies/remark_18.py
	$(BIN)/python studies/length.py
	$(BIN)/python studies/dpt.py
	$(BIN)/python studies/interventional.py
	$(BIN)/python studies/doors.py
	$(BIN)/python studies/when.py
	$(BIN)/python studies/tasks.py
	$(MAKE) figures

# Logs alone. About four hours; `offline_logs` and `offline_peers` name the packages that they need beside the group.
study-offline: $(VENV)/.test
	$(BIN)/python studies/offline.py
	$(BIN)/python studies/offline_cases.py
	$(BIN)/python studies/offline_experiment.py
	$(BIN)/python studies/offline_grid.py
	$(BIN)/python studies/offline_arm.py
	$(BIN)/python studies/offline_peers.py
	$(BIN)/python studies/offline_logs.py
	$(BIN)/python studies/draw.py

# Every figure and table of the docs: of stored results, and of the library itself. About three minutes.
figures: $(VENV)/.test
	$(BIN)/python studies/draw.py
	$(BIN)/python tools/draw_arm.py
	$(BIN)/python tools/draw_belief.py
	$(BIN)/python tools/draw_chapter.py
	$(BIN)/python tools/draw_pages.py
	$(BIN)/python tools/draw_rooms.py

# Build the wheel and the source distribution, check both, and install the wheel alone, at the newest and the lowest
# versions of its dependencies: ten minutes. OUT=folder keeps both files there.
release-check: $(VENV)/.release
	$(BIN)/python tools/check_release.py $(if $(OUT),--out $(OUT))

clean:
	rm -rf build dist site .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find src tests examples benchmarks studies tools -name __pycache__ -prune -exec rm -rf {} +

# The file .venv/.test records that the dependency group `test` is installed. A target installs the group it needs.
# Some groups include it.
$(addprefix $(VENV)/,.test .hf .onnx .browser .notebooks .lint .docs .bench .release): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing undelude with the group '$(@F:.%=%)' into $(VENV) (once; a minute or two) ..."
	@$(NEWER_PIP)
	$(INSTALL) -c constraints.txt -e '.[gym]' --group $(@F:.%=%)
	@touch $@ $(if $(filter .lint .hf .onnx .browser .notebooks .bench,$(@F)),$(VENV)/.test)

$(BIN)/python:
ifdef UV
	$(UV) venv --quiet --python $(if $(filter file,$(origin PYTHON)),'>=3.11',$(PYTHON)) $(VENV)
else
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "undelude needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)."; \
		echo "Name one with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
endif
