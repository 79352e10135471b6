# `make` alone lists the targets. Everything is installed into $(VENV), nothing elsewhere.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
SLOW ?= 0
JOBS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q
SOURCES := pyproject.toml setup.py $(shell find csrc -type f)
# What pyproject.toml needs to build. Installed once, not into a new folder each time, whose headers would be new to ninja.
BUILD := 'setuptools>=77' 'pybind11>=2.13' 'ninja>=1.11'
INSTALL := $(PIP) --no-build-isolation
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
PLUGIN_FILES := $(if $(PLUGINS),$(shell find $(PLUGINS) -type f -not -path '*/__pycache__/*'))
MARK := $(if $(filter 1,$(SLOW)),,-m "not slow")
# Threads that wait must sleep: else those of one process keep the processor from those of the other.
PYTEST := OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-peers clean FORCE

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 13
	@echo "Variables: TORCH='$(TORCH)' (what pip installs), PYTHON=$(PYTHON), VENV=$(VENV), JOBS=$(JOBS)"

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
		--lr 0.004 --epochs 3 --decay-epochs 3
	PYTHONPATH=demo/images/plugin $(BIN)/python demo/compare.py demo/images/judgments demo/images/run

test: $(VENV)/.dev $(VENV)/.plugins  ## check style, types and behaviour, by JOBS processes; SLOW=1 adds builds and whole processes
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	PYTHONPATH=$(abspath $(VENV)/plugins) $(PYTEST) $(MARK) tests $(wildcard $(addsuffix /tests,$(PLUGINS)))
	@# Where there are plugins, what goes through the registry runs once more without them.
	$(if $(PLUGINS),$(PYTEST) -q -m "not slow" tests \
		$(addprefix --ignore=tests/,ops nets metrics data test_packaging.py test_images.py test_weights.py))

bench: $(VENV)/.dev $(VENV)/.plugins  ## time it here: benchmarks/local/results.json; METRIC=ssim times that alone
	@mkdir -p benchmarks/local
	PYTHONPATH=$(abspath $(VENV)/plugins) $(BIN)/python -m pytest benchmarks $(addprefix --metric=,$(METRIC)) \
		--benchmark-only --benchmark-columns=median,min,stddev,rounds --benchmark-json=benchmarks/local/results.json

bench-peers: $(VENV)/.peers  ## time classical metrics beside other libraries, in one run
	PYTHONPATH=$(abspath $(VENV)/peers) $(BIN)/python benchmarks/peers.py

clean:  ## remove what the other targets made
	rm -rf .venv build dist *.egg-info demo/images demo/scores.csv benchmarks/local iqazoo/_cpu*.so iqazoo/_cuda*.so
	rm -rf .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: a second run installs again only if TORCH, the project's metadata or its kernels changed.
$(VENV)/.torch: FORCE
	@[ "$$(cat $@ 2>/dev/null)" = "$(TORCH) $(BUILD)" ] || { set -ex; \
		$(PYTHON) -m venv $(VENV); $(PIP) $(TORCH) $(BUILD); echo "$(TORCH) $(BUILD)" > $@; }
FORCE:

$(VENV)/.demo: $(VENV)/.torch $(SOURCES)
	$(INSTALL) -e '.[demo]'
	@touch $@

# lpips and DISTS_pytorch are never imported: their wheels carry the published weights that tests compare with.
$(VENV)/.dev: $(VENV)/.torch $(SOURCES)
	$(INSTALL) -e '.[dev]'
	$(PIP) --no-deps lpips==0.1.4 DISTS_pytorch==0.1
	@touch $@ $(VENV)/.demo

# In a folder of their own, so that tests can run with and without them; built from a copy, which keeps the sources clean.
$(VENV)/.plugins: $(VENV)/.torch Makefile $(PLUGIN_FILES)
	rm -rf $(VENV)/plugins $(VENV)/plugin-sources
	mkdir -p $(VENV)/plugins
	$(if $(PLUGINS),cp -r plugins $(VENV)/plugin-sources)
	$(if $(PLUGINS),$(INSTALL) --no-deps --target $(VENV)/plugins $(addprefix $(VENV)/plugin-sources/,$(notdir $(PLUGINS))))
	@touch $@

# What is compared with, without what it would bring along: torchvision has no build for every machine.
$(VENV)/.peers: $(VENV)/.dev
	$(PIP) --no-deps --target $(VENV)/peers piq==0.8.0 torchmetrics==1.9.0 lightning-utilities pytorch-msssim==1.0.0
	@touch $@
