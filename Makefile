# Everything a fresh machine needs: `make plan`, `make test`. Only Python 3.11+ and make must be there.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
READY := $(VENV)/.ready
SPARK := $(VENV)/.spark
DOCS := $(VENV)/.docs
PLAN ?= data/sample/plan.yml
OUT ?= reports

.PHONY: plan test examples mutations sbom audit truth faults spark docs api wheel wheel-test lab lint lock bench clv sample pictures clean help

help:            ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "Python 3.11 or newer is needed, this is %d.%d; set PYTHON=path/to/python3.11" % v[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv || true
	@if $(BIN)/python -m uv --version >/dev/null 2>&1; then \
	  $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --require-hashes --only-binary :all: -r requirements.lock && \
	  $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --offline -e . ; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e . ; \
	fi
	@touch $(READY)

plan: $(READY)   ## the plan for the sample company (PLAN=… for another)
	@$(BIN)/micromarket run $(PLAN) --out $(OUT)

# two processes share two cores: threads of a library inside each would only wait for each other
test: $(READY)   ## all tests but the long proofs
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=logical --dist=loadfile --no-loadscope-reorder

truth: $(READY)  ## long statistical proofs on worlds with known truth
	@$(BIN)/python -m pytest -m truth

examples: $(READY) ## whole plans from the larger public data sets, in ../shared (minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m examples

faults: $(READY) ## a run killed at many moments, full disks, missing kernels, … (up to 15 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_faults.py -m "faults or not faults" -s

# pyspark comes as source only; setuptools, of requirements.lock, builds it
$(SPARK): $(READY) requirements-spark.lock
	@if $(BIN)/python -m uv --version >/dev/null 2>&1; then \
	  $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --require-hashes --no-build-isolation -r requirements-spark.lock ; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-build-isolation -r requirements-spark.lock ; \
	fi
	@touch $(SPARK)

spark: $(SPARK)  ## the engine's tests on a local Spark (Java 17 or newer must be there)
	@$(BIN)/python -m pytest -m spark

$(DOCS): $(READY) requirements-docs.lock
	@if $(BIN)/python -m uv --version >/dev/null 2>&1; then \
	  $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --require-hashes --only-binary :all: -r requirements-docs.lock ; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-docs.lock ; \
	fi
	@touch $(DOCS)

docs: $(DOCS)    ## the documentation as a site, docs/_build/html/; broken references are errors
	@$(BIN)/python -m sphinx -b html -W --keep-going -n -q -d docs/_build/doctrees docs docs/_build/html && echo docs/_build/html/index.html

api: $(READY)    ## docs/api-signatures.txt, once CHANGELOG.md says what changed
	@$(BIN)/python tests/public_api.py

wheel: $(READY)  ## the wheel, in dist/
	@rm -f dist/micromarket-*.whl && $(BIN)/python -m hatchling build -t wheel

wheel-test: $(READY)  ## the wheel in a clean environment: a plan for a company of one's own, far from here
	@MICROMARKET_TEST_CLEAN=1 $(BIN)/python -m pytest -m slow tests/test_package.py

mutations: $(READY)  ## the sample companies damaged in hundreds of ways, and counted (minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_mutations.py tests/test_redteam.py -m mutations --numprocesses=logical

sbom: $(READY)   ## dist/sbom.cdx.json: the locked packages with hashes and licences (CycloneDX)
	@mkdir -p dist && $(BIN)/python -m micromarket._sbom > dist/sbom.cdx.json.part && mv dist/sbom.cdx.json.part dist/sbom.cdx.json && echo dist/sbom.cdx.json

audit: $(READY)  ## hashes, licences and requirements of all packages; known vulnerabilities where pip-audit is there
	@$(BIN)/python -m micromarket._sbom --audit

lint: $(READY)   ## ruff, types, clean notebooks
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@$(BIN)/nbstripout --verify --extra-keys "metadata.papermill cell.metadata.papermill" notebooks/*.ipynb

lab: $(READY)    ## JupyterLab on the notebooks
	@$(BIN)/jupyter lab --notebook-dir .

sample: $(READY) ## makes data/sample again
	@$(BIN)/micromarket simulate data/sample --preset telecom --markets 220 --customers 40000 --weeks 104 --seed 2

bench: $(READY)  ## the benchmarks (minutes)
	@$(BIN)/python benchmarks/allocation.py
	@$(BIN)/python benchmarks/decision.py
	@$(BIN)/python benchmarks/report.py
	@$(BIN)/python benchmarks/run_time.py

clv: $(READY)    ## lifetime values beside lifetimes and pymc-marketing, where installed (minutes)
	@$(BIN)/python benchmarks/clv.py

lock: $(READY)   ## requirements.lock, those of spark and docs, and environment.yml from pyproject.toml
	@$(BIN)/python -m uv pip compile pyproject.toml --extra dev --extra spatial --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --quiet -o requirements.lock
	@$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['spark'], sep='\n')" \
	  | $(BIN)/python -m uv pip compile - --constraint requirements.lock --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --quiet -o requirements-spark.lock
	@$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" \
	  | $(BIN)/python -m uv pip compile - --constraint requirements.lock --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --quiet -o requirements-docs.lock
	@$(BIN)/python -m micromarket._environment > environment.yml

pictures: $(READY)  ## the README's pictures, from the latest run of the sample company
	@$(BIN)/python -m micromarket.report.pictures $(OUT)

clean:           ## forget the environment
	rm -rf $(VENV)
