# make run    a first experiment, from a bare clone to a trained model, its report, and answers
# make test   all checks: lint, types, layers, tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
QUINCUNX := $(BIN)/python -m quincunx
RUN := runs/code-search
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# threads that wait without spinning: beside other work, two spinning ones are several times slower than one
export OMP_WAIT_POLICY ?= passive

.PHONY: setup run test test-all lint types layers docs clean

setup: $(VENV)/.ready

# torch first and by its exact version, so that an index of CPU builds is used where pip is set up for one
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, found " + sys.version) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# Each step is an ordinary command, done once: run it again and only the questions are asked again. A training run that was
# killed goes on.
run: $(RUN)/found/index.json
	printf '%s\n' 'run a coroutine until it is done' 'compute the median of numbers' \
	  'wait for a child process to end' | $(QUINCUNX) search $(RUN)/found --run $(RUN) --by weighted -k 3

stdlib-code-search/code_search.json: | setup
	$(QUINCUNX) data stdlib-code-search --out stdlib-code-search

$(RUN)/report.html: | stdlib-code-search/code_search.json
	if test -d $(RUN)/checkpoints; then $(QUINCUNX) train $(RUN) --resume; \
	  else $(QUINCUNX) train examples/retrieval/stdlib_code_search.yaml run.dir=$(RUN); fi

$(RUN)/vectors/manifest.json: $(RUN)/report.html
	$(QUINCUNX) encode $(RUN) --corpus stdlib-code-search --out $(RUN)/vectors

$(RUN)/found/index.json: $(RUN)/vectors/manifest.json
	$(QUINCUNX) index $(RUN)/vectors --out $(RUN)/found

# a file of tests goes to one process: what its tests share is then made once
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

test: lint types layers
	$(PYTEST) -m "not slow and not gpu"

test-all: lint types layers
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/basedpyright

layers: setup
	$(BIN)/lint-imports

# the pages and schemas that are generated from the code; the tests fail when they are stale
docs: setup
	$(BIN)/python -m quincunx explain --markdown > docs/config.md
	$(BIN)/python -m quincunx explain --schema > docs/config.schema.json

$(VENV)/.bench: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	touch $@

bench-%: $(VENV)/.bench
	$(BIN)/python benchmarks/$(subst -,_,$*).py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache
