# make demo   the tiny experiment, from questions to results/tiny/report.html
# make test   the tests            make lint   style and workflow checks
# make bench  speed and memory compared with a baseline
# make docs   regenerate the settings reference in docs/
# Each sets up .venv first, once, from the lock for this machine: gpu.txt on one with an NVIDIA GPU,
# else cpu.txt.

LOCK ?= $(if $(shell command -v nvidia-smi),gpu,cpu)
PYTHON ?= python3
RUN := .venv/bin
# index of the CPU build of PyTorch
TORCH_INDEX ?= --extra-index-url https://download.pytorch.org/whl/cpu --index-strategy unsafe-best-match

.PHONY: demo test lint bench docs smoke setup lock

demo: setup
	$(RUN)/snakemake -j2 results/tiny/report.html
	@echo "Open results/tiny/report.html; the figures are in results/tiny/eval.json."

test: setup
	$(RUN)/python -m pytest

lint: setup
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/snakefmt --check Snakefile workflow
	$(RUN)/snakemake --lint

bench: setup
	$(RUN)/python -m bench

docs: setup
	$(RUN)/python -m stages.experiments.documentation docs

# a still smaller experiment, which checks an installation in a few minutes
smoke: setup
	$(RUN)/snakemake -j2 results/smoke/eval.json

setup:
	@PYTHON=$(PYTHON) requirements/install $(LOCK)

# resolve pyproject.toml into the locks
lock: setup
	$(RUN)/uv pip compile pyproject.toml --extra cpu --extra gguf --extra dev --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_28 --no-annotate --upgrade -q $(TORCH_INDEX) \
	  --custom-compile-command "make lock" -o requirements/cpu.txt
	$(RUN)/uv pip compile pyproject.toml --extra gpu --extra gguf --extra dev --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_35 --no-annotate --upgrade -q --no-config \
	  --custom-compile-command "make lock" -o requirements/gpu.txt
