# `make help` lists the targets. Everything runs in the active virtual environment, or in .venv.
SHELL := /bin/bash
VENV := $(or $(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
# Files that say what is installed: a target that needs them installs again when setup.cfg changes.
INSTALLED := $(VENV)/.mmorient

# One thread a process: the processes are as many as the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile
# Memory that glibc gives back and asks for anew at every step would drown what is measured.
STEADY_MALLOC := MALLOC_MMAP_THRESHOLD_=8000000000 MALLOC_TRIM_THRESHOLD_=8000000000
OLDEST := 5.17.0
NEWEST := 5.23.0

.DEFAULT_GOAL := help
.PHONY: help quickstart demo test slow style quality attack conformance wheel browser bench scatter clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

quickstart: $(INSTALLED)-train ## Draw sample memes, train on them, print the scores and label a picture
	$(BIN)/mmorient samples runs/sample_memes --rows 800
	$(BIN)/mmorient train training/recipes/quickstart.yaml
	$(BIN)/mmorient label runs/quickstart --image runs/sample_memes/images/00001.png \
		--text "$$($(BIN)/python -c 'import csv; print(next(csv.DictReader(open("runs/sample_memes/train.csv")))["text"])')"

demo: .demo/.installed ## Show the quick start's model in the browser
	test -d runs/quickstart || $(MAKE) quickstart
	PYTHONPATH=. .demo/bin/python -m mmorient.commands.demo runs/quickstart

test: quality ## Check style and types, and run the tests but the slow ones
	$(PYTEST) -m "not slow"

slow: $(INSTALLED)-test ## Run the slow tests: whole runs, several processes, the benchmarks, a local Hub
	$(PYTEST) -m slow

style: $(INSTALLED)-test ## Format the code and fix what can be fixed
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

quality: $(INSTALLED)-test ## Check style and types without changing anything
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

attack: $(INSTALLED)-test ## Attack everything that takes input, at length, and rewrite the table of docs/attacks.md
	ATTACK=large $(PYTEST) tests/attack tests/modeling_mmorient/test_saved_folder.py tests/modeling_mmorient/test_saved_model.py

conformance: $(INSTALLED)-conformance ## Run transformers' own test suites at its oldest and newest supported release
	$(BIN)/python tests/conformance/run.py --transformers $(OLDEST) $(NEWEST)
	PYTHONPATH=.conformance/$(OLDEST)/site $(PYTEST) tests/modeling_mmorient

wheel: $(INSTALLED)-conformance ## Build wheel and source distribution, and try the wheel in an empty environment
	$(BIN)/python tests/installation/run.py

browser: $(INSTALLED)-test .demo/.installed ## Try the demo in Chromium, with nothing installed but a Space's requirements
	$(PIP) playwright
	$(PYTEST) -rs tests/mmorient/demo/test_browser.py

bench: $(INSTALLED)-test ## Print the tables of benchmarks/
	$(STEADY_MALLOC) $(BIN)/python benchmarks/graph_aggregation.py
	$(STEADY_MALLOC) $(BIN)/python benchmarks/feature_cache.py
	$(STEADY_MALLOC) $(BIN)/python benchmarks/reference_search.py
	$(STEADY_MALLOC) $(BIN)/python benchmarks/near_duplicates.py
	$(BIN)/python benchmarks/onnx_latency.py
	$(BIN)/python benchmarks/serving.py

scatter: $(INSTALLED)-train ## Compile torch-scatter, an optional backend (5 to 9 minutes on two cores)
	@$(BIN)/python -c "import torch_scatter" 2>/dev/null || \
		{ $(PIP) ninja setuptools wheel && $(PIP) --no-build-isolation torch-scatter; }

clean: ## Remove what the other targets left, except the virtual environment
	rm -rf runs build .conformance .demo .mypy_cache .pytest_cache .ruff_cache *.egg-info

$(BIN)/python:
	python3 -m venv $(VENV)

.demo/.installed: mmorient/demo/space/requirements.txt
	python3 -m venv --clear .demo
	.demo/bin/python -m pip install --quiet --requirement $<
	@touch $@

$(INSTALLED)-train: setup.cfg constraints.txt | $(BIN)/python
	$(PIP) --editable ".[train]"
	@touch $@

$(INSTALLED)-test: setup.cfg constraints.txt | $(BIN)/python
	$(PIP) --editable ".[test,style]"
	@touch $@

$(INSTALLED)-conformance: setup.cfg constraints.txt | $(BIN)/python
	$(PIP) --editable ".[conformance]"
	@touch $@
