# make demo   the tiny experiment, from questions to results/tiny/report.html
# make test   the tests            make lint   style and workflow checks
# make bench  speed and memory, side by side with a baseline
# Each sets up what it needs, once: .venv, by the lock for this machine (gpu.txt beside an NVIDIA
# GPU, else cpu.txt).

LOCK ?= $(if $(shell command -v nvidia-smi),gpu,cpu)
PYTHON ?= python3
RUN := .venv/bin
# where the lock's CPU build of PyTorch is looked up
TORCH_INDEX ?= --extra-index-url https://download.pytorch.org/whl/cpu --index-strategy unsafe-best-match

.PHONY: demo test lint bench smoke setup lock

demo: setup
	$(RUN)/snakemake -j2 results/tiny/report.html
	@echo "Open results/tiny/report.html; the figures are in results/tiny/eval.json."

test: setup
	$(RUN)/python -m pytest

lint: setup
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/snakemake --lint

bench: setup
	$(RUN)/python -m bench

# the tiny experiment made smaller: a few minutes' check that an installation works
smoke: setup
	$(RUN)/snakemake -j2 results/smoke/eval.json

setup:
	@PYTHON=$(PYTHON) requirements/install $(LOCK)

# write the locks anew from pyproject.toml
lock: setup
	$(RUN)/uv pip compile pyproject.toml --extra cpu --extra dev --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_28 --no-annotate --upgrade -q $(TORCH_INDEX) \
	  --custom-compile-command "make lock" -o requirements/cpu.txt
	$(RUN)/uv pip compile pyproject.toml --extra gpu --extra dev --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_35 --no-annotate --upgrade -q --no-config \
	  --custom-compile-command "make lock" -o requirements/gpu.txt
