# The commands of everyday work, which .ci/run runs too; 'make' lists them. They use the environment .venv, or VENV=...
VENV := .venv
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: help install test lint types quick docs newest loading-script cluster trainers peers

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

install:  ## a fresh environment with all that tests need
	python3 -m venv --clear $(VENV)
	pip install --quiet --editable '.[test,demo,s3]'

test:  ## all tests
	pytest -n 3

lint:  ## style and format
	ruff check .
	ruff format --check .

types:  ## types of code and tests
	mypy

STAGE ?= sources
quick:  ## the tests of one stage: make quick STAGE=readers (a folder of tests/builder)
	pytest -q -x -n 2 tests/builder/$(STAGE)

docs:  ## what docs/ and the README say against the code
	pytest -q tests/test_docs.py tests/builder/sources/test_schema.py

# the newest Python that is here: on the path, or among pyenv's
NEWEST = $(lastword $(shell for python in python3 python3.12 python3.13 python3.14 python3.15 $(wildcard $(HOME)/.pyenv/versions/3.*/bin/python3); do \
	$$python -c 'import sys; print("%d.%02d.%02d" % sys.version_info[:3], sys.executable)' 2>/dev/null; done | sort | tail -1))
newest:  ## a quick part of the tests on the newest Python that is here
	$(NEWEST) --version
	$(NEWEST) -m venv --clear $(VENV)-newest
	$(VENV)-newest/bin/pip install --quiet --editable '.[test]'
	$(VENV)-newest/bin/pytest -q -n 2 tests/shards/test_tar.py tests/shards/test_png.py tests/shards/test_verify.py \
		tests/loader/test_loader.py tests/loader/test_hostile.py tests/builder/conversion tests/test_imports.py

loading-script:  ## the loader as a loading script, with the last release of datasets that has these
	python3 -m venv --clear $(VENV)-script
	$(VENV)-script/bin/pip install --quiet --editable '.[test]' 'datasets==3.6.0'
	$(VENV)-script/bin/pytest -n 2 $(addprefix tests/loader/test_,loading_script.py loader.py iteration.py output.py views.py)

cluster:  ## the loader and the examples with torch and MONAI, and the builder on Ray, which are installed for it
	pip install --quiet --editable '.[ray]' torch monai
	pytest -n 2 tests/loader/test_cache.py tests/loader/test_decode_masks.py tests/loader/test_iteration.py \
		tests/loader/test_output.py tests/loader/test_prompts.py tests/loader/test_volumes.py tests/test_examples.py \
		tests/test_docs.py tests/builder/commands/test_demo.py tests/shards/test_metrics.py \
		tests/builder/run/executors/test_ray.py

trainers:  ## exports as nnU-Net and MONAI read them, which are installed for it
	python3 -m venv --clear $(VENV)-trainers
	$(VENV)-trainers/bin/pip install --quiet --editable '.[test]' monai nnunetv2
	$(VENV)-trainers/bin/pytest -n 2 $(addprefix tests/shards/export/layouts/test_,monai.py nnunet.py)

# FFCV has no wheel: it is built where OpenCV and libturbojpeg have headers (Debian: libopencv-dev libturbojpeg0-dev)
peers:  ## the loader and its cache beside other formats, which are installed for it; nothing else may run
	python3 -m venv --clear $(VENV)-peers
	$(VENV)-peers/bin/pip install --quiet --editable '.[test,demo]' litdata mosaicml-streaming pylance torch
	$(VENV)-peers/bin/pip install --quiet --no-deps ffcv assertpy || echo "FFCV could not be built, and is left out"
	$(VENV)-peers/bin/pytest tests/benchmarks/test_peers.py tests/benchmarks/test_first_sample.py -m slow -rP
