# make demo   play a drive through the live detector and write a report (fresh machine, no ROS, no GPU)
# make test   check style, types and behaviour, the nodes on ROS 2 Jazzy
# make test-kilted   the tests of the nodes on ROS 2 Kilted, in an environment of its own
PYTHON ?= python3
VENV ?= .venv
OUT ?= out/demo
# Test processes; more than the cores of a small machine, since tests of nodes mostly wait.
WORKERS ?= 3
KILTED_TESTS ?= test/nodes
BAG ?=
TOPIC ?=

PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt
RUN = $(VENV)/bin/python
MYPY_TESTS = --allow-any-generics --allow-subclassing-any --allow-untyped-calls --allow-untyped-decorators

# A sourced ROS 2 installation would put its own packages, made for another Python, before those of the environment.
unexport PYTHONPATH AMENT_PREFIX_PATH RMW_IMPLEMENTATION

.PHONY: demo test test-kilted lint clean
.DELETE_ON_ERROR:

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 10) <= sys.version_info[:2] <= (3, 12) else f"Python 3.10 to 3.12 is needed, {sys.executable} is {sys.version.split()[0]}: name another one with make PYTHON=...")'
	@$(PYTHON) -m venv $(VENV) || (echo "No virtual environment could be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1)

$(VENV)/.installed-demo: setup.py requirements/constraints.txt | $(VENV)/bin/python
	@echo "Installing the pinned dependencies of the demo into $(VENV) ..."
	@$(PIP) -e '.[ros]'
	@touch $@

$(VENV)/.installed-test: setup.py requirements/constraints.txt | $(VENV)/bin/python
	@echo "Installing the pinned dependencies of the tests into $(VENV) (PyTorch among them, some GB) ..."
	@$(PIP) -e '.[ros,train,eval,ray,rtx,playground,dev]'
	@$(PIP) --no-deps tensorrt-stubs==10.13.0.35.1  # its dependency, the real bindings, is not on PyPI
	@touch $@ $(VENV)/.installed-demo

demo: $(VENV)/.installed-demo
	@$(RUN) -m vl4ad_ros.cli.main demo --out $(OUT) $(if $(BAG),--bag '$(BAG)') $(if $(TOPIC),--topic '$(TOPIC)')

lint: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m mypy $(MYPY_TESTS) test

test: lint
	$(RUN) -m pytest --numprocesses $(WORKERS) --dist loadfile

# Of both distributions' wheels, an environment can hold one.
.venv-kilted/.installed: setup.py requirements/constraints.txt requirements/kilted.txt
	@$(PYTHON) -m venv .venv-kilted
	@grep -v '^ros-' requirements/constraints.txt | cat - requirements/kilted.txt > .venv-kilted/constraints.txt
	@.venv-kilted/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-kilted/constraints.txt \
	    -e '.[ros-kilted,dev]'
	@touch $@

test-kilted: .venv-kilted/.installed
	.venv-kilted/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(KILTED_TESTS)

clean:
	rm -rf $(VENV) .venv-kilted out build install log *.egg-info .mypy_cache .ruff_cache .pytest_cache
