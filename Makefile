# Two environments, never mixed:
#   .venv      the service and, for the tests, the tools around it
#   .programs  what sandboxed programs import; bound into every sandbox read-only, so nothing of the service is in it
# Stamp files remember what was installed: a second `make run` starts at once.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# The interpreter, any Python >= 3.11 with venv: `make PYTHON=/path/to/python3 …`. Empty: requirements/choose-python.sh finds one.
PYTHON ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=

PIP := .venv/bin/python -m pip --disable-pip-version-check
LOCKED := install --quiet --require-hashes --no-deps --only-binary :all:
SERVER := .venv/.server-installed
DIST := dist
DEV := .venv/.dev-installed
PROGRAMS := .programs/.installed

.PHONY: help run test bench bench-cluster lint types format lock environments images chart clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1	\2/p' Makefile | expand -t 18

run: $(SERVER) $(PROGRAMS) ## set everything up and serve http://127.0.0.1:8000
	@exec .venv/bin/code-interpreter serve

test: environments ## run every test; as root the sandbox and HTTP parts again as an ordinary user
	@bash tests/run.sh $(PYTEST_ARGS)

bench: environments ## measure the service on this machine: JSON and a table
	.venv/bin/python -m benchmarks $(BENCH_ARGS)

bench-cluster: environments ## measure it on the test cluster (root, Debian, Go): JSON and a table
	.venv/bin/python -m benchmarks.cluster $(BENCH_ARGS)

lint: $(DEV) ## check style and formatting
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: $(DEV) ## check types
	.venv/bin/mypy

format: $(DEV) ## rewrite formatting and import order
	.venv/bin/ruff check --quiet --fix-only .
	.venv/bin/ruff format .

environments: $(DEV) $(PROGRAMS) ## build both environments and start nothing

lock: ## renew the lock files (requirements/README.md)
	sh requirements/lock.sh

images: ## build both images with docker or buildah; BASE=, TAG= and the rest are in images/build.sh
	@sh images/build.sh

chart: ## package the chart into dist/
	@PATH="$$PATH:$$HOME/.cache/testcluster/bin" helm package deploy/helm/code-interpreter --destination $(DIST)

clean: ## remove both environments and every cache
	rm -rf .venv .programs .lock-venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The file, not the folder: a folder's time changes with its content, and a link to a vanished Python counts as missing.
.venv/bin/python:
	@python=$$(sh requirements/choose-python.sh $(PYTHON)) && echo "make: building .venv with $$python" && \
		{ "$$python" -m venv --clear .venv || { rm -rf .venv; exit 1; }; }

# The packages come from the lock; the project itself is installed editable with the build backend that the lock pins.
$(SERVER): requirements/server.lock pyproject.toml | .venv/bin/python
	@echo "make: installing the service into .venv"
	@$(PIP) $(LOCKED) -r requirements/server.lock
	@$(PIP) install --quiet --no-deps --no-index --no-build-isolation --editable .
	@touch $@

$(DEV): requirements/dev.lock $(SERVER)
	@echo "make: installing the test tools into .venv"
	@$(PIP) $(LOCKED) -r requirements/dev.lock
	@touch $@

# Without pip: a program has no network to install from. pip compiles the modules, which saves 4 s at the first import of pandas.
# The last line builds matplotlib's font list, so that no first chart has to search for fonts. Each sandbox gets a copy in a writable
# MPLCONFIGDIR: matplotlib turns its back on a folder that it cannot write to, with a warning in the program's stderr.
$(PROGRAMS): requirements/programs.lock | .venv/bin/python
	@echo "make: installing what programs may import into .programs"
	@.venv/bin/python -m venv --clear --without-pip .programs
	@$(PIP) --python .programs/bin/python $(LOCKED) -r requirements/programs.lock
	@mkdir -p .programs/share/matplotlib
	@MPLCONFIGDIR=.programs/share/matplotlib .programs/bin/python -c 'import matplotlib.font_manager'
	@touch $@
