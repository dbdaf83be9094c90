# Two commands for a newcomer: `make demo` shows the whole pipeline at work, `make test` passes its tests.
# Both make a virtual environment in .venv on first use; python3 has to be 3.11 or later, below 3.14.
PYTHON ?= python3
PYTEST ?= --numprocesses auto --dist worksteal
VENV := .venv
RUN := $(VENV)/bin/python
# A checkout may belong to another user, and the home folder may be read-only: nothing is kept outside .venv.
PIP_INSTALL := -m pip --disable-pip-version-check --no-cache-dir install --quiet --require-hashes
PIP := $(RUN) $(PIP_INSTALL)

.PHONY: help demo test lint format docs lock stack stack-files torture soak shape bench scaling clean venv

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' $(MAKEFILE_LIST)

venv: $(VENV)/.demo $(VENV)/.native  ## the virtual environment, enough for run_pipeline.py

demo: $(VENV)/.demo $(VENV)/.native  ## bring sample bags home on an embedded stack; options as DEMO="--bags 20 --keep"
	$(RUN) run_pipeline.py demo $(DEMO)

test: $(VENV)/.dev $(VENV)/.native  ## all tests
	PYTHONDONTWRITEBYTECODE= $(RUN) -m pytest $(PYTEST)

lint: $(VENV)/.dev  ## formatting, ruff, mypy, shellcheck
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(VENV)/bin/shellcheck -x bin/syncOneWork.sh build deploy docker/healthy docker/no-secrets docker/deploy/*.sh locks/make .ci/run \
		tests/engine/check tests/engine/engine.sh tests/engine/files tests/engine/site.sh tests/engine/standin/postgres/docker-entrypoint.sh

format: $(VENV)/.dev  ## put the code in shape
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

docs: $(VENV)/.demo  ## make docs/ anew where it tells of the code: verbs, settings, kinds of failure
	$(RUN) -m tests.manual docs

lock: $(VENV)/.made  ## make locks/ anew, after a change of any requirements*.txt: every version with its hashes
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python $(PIP_INSTALL) -r locks/uv.txt
	PATH=$(CURDIR)/$(VENV)/lock/bin:$$PATH locks/make

stack:  ## build image and stack, and hurt them, on a Docker engine of their own; as root, some minutes
	tests/engine/check

stack-files:  ## the static checks of image and stack alone: hadolint, the schema of the compose file
	tests/engine/files

torture: $(VENV)/.dev  ## kill everything again and again; options as TORTURE="--kills 500"
	$(RUN) -m tests.line.torture $(TORTURE)

soak: $(VENV)/.dev  ## thousands of works through the same lanes; options as SOAK="--works 5000"
	$(RUN) -m tests.line.soak $(SOAK)
	$(RUN) -m pytest --timeout 1800 tests/replicate/large.py

shape:  ## how large the house is, and how its rooms hang together
	$(PYTHON) -m tests.shape

# ext4 makes files up to three times slower in the minutes after many were removed: the pause.
bench: $(VENV)/.bench $(VENV)/.native  ## measure against the peers; takes two hours
	$(RUN) -m benchmarks.line
	for one in download second_copies debag sync; do sleep 300 && $(RUN) -m benchmarks.$$one || exit 1; done

scaling: $(VENV)/.bench $(VENV)/.native  ## how far it goes: three hosts on this machine, as root; options as SCALING="--quick"
	$(RUN) -m benchmarks.scaling $(SCALING)

clean:  ## everything that make made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), sys.version' \
		|| { echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.11 …"; exit 1; }
	$(PYTHON) -m venv $(VENV) \
		|| { echo "the venv module is missing: apt-get install python3-venv"; exit 1; }
	touch $@

$(VENV)/.demo: $(VENV)/.made locks/requirements-demo.txt
	$(PIP) -r locks/requirements-demo.txt
	touch $@

$(VENV)/.dev: $(VENV)/.demo locks/requirements-dev.txt
	$(PIP) -r locks/requirements-dev.txt
	touch $@

$(VENV)/.bench: $(VENV)/.dev locks/requirements-bench.txt
	$(PIP) -r locks/requirements-bench.txt
	touch $@

# Not needed, and tried again by the next make: without it hashlib does it all.
$(VENV)/.native: $(VENV)/.made $(wildcard native/*.*)
	@$(RUN) -m pip --disable-pip-version-check --no-cache-dir install --no-index --no-deps --force-reinstall ./native >$(VENV)/native.log 2>&1 \
		&& touch $@ \
		|| echo "no vector lanes for SHA-512: native/ could not be compiled ($(VENV)/native.log); on Debian by gcc and libc6-dev"
