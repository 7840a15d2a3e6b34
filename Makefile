# make demo   the whole pipeline on the packaged sample, from nothing
# make test   lint and every test, from nothing
# make test-all    also 50 times as many damaged files, 200 kills, races and long runs; reports coverage
# make test-versions   the quick tests with the lowest and with the newest versions that pyproject.toml allows
# make test-fast   the tests without neosr runs, engine builds, videos and many processes
# make benchmark   the pipeline's own cost, and the speed of small beside its peers
PYTHON ?= $(shell command -v python3.12 >/dev/null && python3.12 -c "" 2>/dev/null && echo python3.12 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
# pip compiles on one core, for two minutes; COMPILE does it on all. Files that are templates do not compile.
PIP := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --no-compile --progress-bar off

COMPILE := $(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true

.PHONY: setup demo test test-all test-versions test-fast lint benchmark

setup: $(VENV)/.demo

$(VENV)/.created:
	@$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(v < (3, 12) and f'error: {sys.executable} is Python {v[0]}.{v[1]}; 3.12 is needed: make PYTHON=/path/to/python3.12')"
	$(PYTHON) -m venv $(VENV)
	@touch $@

# An environment of before may hold `onnxruntime`, which shares its folder with `onnxruntime-gpu`: together they break.
CLEAN_ORT = $(BIN)/python -m pip --disable-pip-version-check uninstall --quiet --yes onnxruntime 2>/dev/null || true

$(VENV)/.demo: $(VENV)/.created pyproject.toml constraints.txt
	@echo "installing aether-deploy; torch with its CUDA packages is about 5 GB on disk"
	@$(CLEAN_ORT)
	$(PIP) --quiet -e .
	@$(COMPILE)
	@touch $@

$(VENV)/.test: $(VENV)/.created pyproject.toml constraints.txt
	@echo "installing aether-deploy and what its tests need, neosr included; about 6 GB on disk"
	@$(CLEAN_ORT)
	$(PIP) --quiet -e ".[test]"
	@$(COMPILE)
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/python -m aether_deploy.demo

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@test ! -x $(BIN)/hadolint || $(BIN)/hadolint Dockerfile

# Lint is one of the tests, on one core beside the others.
test: $(VENV)/.test
	@test ! -x $(BIN)/hadolint || $(BIN)/hadolint Dockerfile
	$(BIN)/python -m pytest

test-fast: $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow and not long"

test-all: $(VENV)/.test
	$(BIN)/python -m pytest -m "" --hypothesis-profile=all --cov

# neosr pins versions of its own, so that it and its tests stay out.
test-versions: $(VENV)/.created
	$(BIN)/python -m pip install --quiet "uv>=0.9"
	for which in lowest-direct highest; do \
	  $(BIN)/uv venv --clear --quiet --python $(BIN)/python $(VENV)-$$which && \
	  VIRTUAL_ENV=$(VENV)-$$which $(BIN)/uv pip install --quiet --resolution $$which -e ".[quick-test]" && \
	  $(VENV)-$$which/bin/python -m pytest -m "not slow and not long" || exit 1; \
	done

$(VENV)/.benchmark: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) --quiet -e ".[benchmark]"
	@$(COMPILE)
	@touch $@ $(VENV)/.demo

benchmark: $(VENV)/.benchmark
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.speed --network aether_small
	$(BIN)/python -m benchmarks.speed --plot
