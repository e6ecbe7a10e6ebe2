# The commands of the README. `make train` and `make test` need nothing but Python 3.10-3.13 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: train test test-slow test-recipes reproduce lint format install web dist docs clean

train: install  ## train on drawn faces (no download), in one to two minutes
	$(BIN)/fer fit --config configs/quickstart.yaml

test: install  ## the default tests, on both cores
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: install  ## minutes of work: kill grid, real training
	$(BIN)/python -m pytest -m "slow and not gpu"

test-recipes: install  ## two epochs of every complete config, on real faces; prints a table
	$(BIN)/python -m pytest -m "slow and not gpu" tests/test_recipes.py

reproduce: install  ## train a released model from nothing and compare it with its card: MODEL=a, b or nano, DATA=folder of FER2013
	$(BIN)/python -m tests.reproduce $(or $(MODEL),b) --data.root $(or $(DATA),data/fer2013)

lint: install  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(STAMP)

# The virtual environment is made anew whenever what it must hold changes.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,large,explain,tune,track,hf,video,export,serve]"
	-$(BIN)/fer models fetch blazeface
	touch $(STAMP)

web: install  ## fetch the runtime of the page of `fer serve` and the face detector; a wheel built afterwards carries them
	$(BIN)/python -m fer_lightning.inference.serve.runtime web
	$(BIN)/python -m fer_lightning.inference.faces.model_files

dist: web  ## the source distribution and the wheel made of it, in dist/
	rm -rf build dist
	$(BIN)/python -m pip install --quiet --constraint constraints.txt build
	$(BIN)/python -m build

docs: install  ## the documentation site in build/site, from docs/ and the parsers; a broken link is an error
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/python docs/build_site.py build/site_source
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist *.egg-info
