# Two commands do all set-up on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
DEMO_VENV := .venv-demo
RUN := tools/with-engine.sh $(VENV)/bin/python

.PHONY: help demo test quick lint clean

help: ## Say what each target does (the default)
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: ## Run the shop example's tests in a new environment; needs no Docker, and with Docker uses it
	rm -rf $(DEMO_VENV)
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/pip install --quiet --disable-pip-version-check '.[all,embedded]' -r examples/shop/requirements.txt
	cd examples/shop && ITEST_TIMING=1 ../../$(DEMO_VENV)/bin/python -m unittest discover -v -s tests -t .

test: $(VENV)/installed ## Run everything: style, types, all tests; brings up a Docker Engine where it can
	$(MAKE) --no-print-directory lint
	$(RUN) -W error tools/run_tests.py

quick: $(VENV)/installed ## Run the tests that start no server: a few seconds
	$(VENV)/bin/python -W error -m unittest discover -s tests/unit -t .

lint: $(VENV)/installed ## Check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean: ## Remove what these targets made here; the Docker Engine ends by `tools/engine.sh down`
	rm -rf $(VENV) $(DEMO_VENV) build *.egg-info

$(VENV)/installed: pyproject.toml examples/shop/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[dev]' -r examples/shop/requirements.txt
	# As pip does with what it copies; where PYTHONDONTWRITEBYTECODE is set, each of many processes would do it again.
	$(VENV)/bin/python -m compileall -q itest
	touch $@
