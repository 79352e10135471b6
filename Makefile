# `make` alone lists the targets. Everything is installed into $(VENV), nothing elsewhere.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
SLOW ?= 0

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q
SOURCES := pyproject.toml setup.py $(shell find csrc -type f)

.DEFAULT_GOAL := help
.PHONY: help demo test bench clean FORCE

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 10
	@echo "Variables: TORCH='$(TORCH)' (what pip installs), PYTHON=$(PYTHON), VENV=$(VENV)"

demo: $(VENV)/.demo  ## score distorted photographs, then train a small metric on judgments
	$(BIN)/python demo/make_pairs.py demo/images
	@rm -f demo/scores.csv
	@# Exit code 1 is all right: a metric could not be had (no network for its weights), the others are there.
	$(BIN)/iqazoo score psnr ssim lpips --image demo/images/distorted --reference demo/images/reference \
		-o demo/scores.csv || { [ $$? -eq 1 ] && [ -s demo/scores.csv ]; }
	@echo
	@rm -rf demo/images/plugin demo/images/photos demo/images/judgments demo/images/run
	$(PIP) --no-deps --target demo/images/plugin demo/tiny_metric
	$(BIN)/python demo/make_photos.py demo/images/photos
	$(BIN)/iqazoo data bapps-like --images demo/images/photos --out demo/images/judgments
	PYTHONPATH=demo/images/plugin $(BIN)/iqazoo train bapps tiny --data demo/images/judgments --out demo/images/run \
		--lr 0.002 --epochs 3 --decay-epochs 3
	PYTHONPATH=demo/images/plugin $(BIN)/python demo/compare.py demo/images/judgments demo/images/run

test: $(VENV)/.dev  ## check style, types and behaviour; SLOW=1 adds builds and whole processes
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest $(if $(filter 1,$(SLOW)),,-m "not slow")

bench: $(VENV)/.dev  ## time it here: benchmarks/local/results.json
	@mkdir -p benchmarks/local
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-columns=median,min,stddev,rounds \
		--benchmark-json=benchmarks/local/results.json

clean:  ## remove what the other targets made
	rm -rf .venv build dist *.egg-info demo/images demo/scores.csv benchmarks/local iqazoo/_cpu*.so iqazoo/_cuda*.so
	rm -rf .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: a second run installs again only if TORCH, the project's metadata or its kernels changed.
$(VENV)/.torch: FORCE
	@[ "$$(cat $@ 2>/dev/null)" = "$(TORCH)" ] || { set -ex; \
		$(PYTHON) -m venv $(VENV); $(PIP) $(TORCH); echo "$(TORCH)" > $@; }
FORCE:

$(VENV)/.demo: $(VENV)/.torch $(SOURCES)
	$(PIP) -e '.[demo]'
	@touch $@

# lpips is never imported: its wheel carries the published weights of the LPIPS heads, which tests compare with.
$(VENV)/.dev: $(VENV)/.torch $(SOURCES)
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps lpips==0.1.4
	@touch $@ $(VENV)/.demo
