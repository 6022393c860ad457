# Everything is installed into .venv, which the first target that needs it creates.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
EXTRAS := $(VENV)/.extras

.PHONY: quickstart test test-all lint bench flags clean

quickstart: $(READY)
	$(PY) -m kerasft.run --flagfile=pipelines/quickstart.flags

test: $(EXTRAS)
	$(PY) -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder -m "not large"

# One module's large tests may take long, so that they are dealt out one at a time. TensorFlow keeps memory of every network that a
# process has had, so those that go through all networks have processes of their own.
test-all: lint test
	$(PY) -m pytest -q -n 2 --dist load -m large tests/networks tests/strategies
	$(PY) -m pytest -q -n 2 --dist load -m large --ignore=tests/networks --ignore=tests/strategies

bench: $(READY)
	$(PY) benchmarks/bench.py

lint: $(EXTRAS)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

flags: $(READY)
	$(PY) -m kerasft flags > docs/flags.md

clean:
	rm -rf runs .pytest_cache .ruff_cache

$(READY): setup.cfg setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --editable .
	touch $@

# What the tests need beside it, the packages of the server and of other runtimes among them.
$(EXTRAS): $(READY)
	$(PY) -m pip install --quiet --editable '.[lite,serve,test]'
	touch $@
