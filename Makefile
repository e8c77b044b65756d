# Everything lives in .venv; a second call starts at once.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_ALL := $(VENV)/.installed-all
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: setup setup-all demo check test format emulated-phone protos clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rtfleet's host needs Python 3.11 or newer; set PYTHON=..."; exit 2; }
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet 'pip>=25.1,<27'
	$(INSTALL) --editable '.[host,export,onnxruntime,litert]' --group dev
	touch $@

# Every format and every runtime, for the tests: Core ML, TensorFlow, and TensorRT-RTX, which parses and builds without
# a GPU. It is there for x86-64 Linux alone, and its metadata ask for more than is needed.
setup-all: $(INSTALLED_ALL)

$(INSTALLED_ALL): $(INSTALLED)
	$(INSTALL) --editable '.[host,export,onnxruntime,litert,coreml,tensorflow,torch]' --group dev
	[ "$$(uname -sm)" != "Linux x86_64" ] || $(INSTALL) --no-deps tensorrt-rtx-cu13-bindings onnxruntime-ep-nv-tensorrt-rtx-cu13
	touch $@

# The main job on this machine. It succeeds when the job ran to its end, whatever the verdict.
demo: setup
	@mkdir -p rtfleet-runs && rm -f rtfleet-runs/demo.json
	@$(BIN)/rtfleet run quick --json rtfleet-runs/demo.json; code=$$?; \
	  echo "exit code that CI would have seen: $$code"; test -s rtfleet-runs/demo.json

# Every day: two and a half minutes on two cores.
check: setup-all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -m 'not slow'

# Everything that CI runs.
test: check
	$(BIN)/pytest -q -m slow

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A phone for those who have none at hand, until Ctrl-C: ARCH=arm64 runs it through qemu.
ARCH ?= x86_64
emulated-phone: setup
	PYTHONPATH=tests $(BIN)/python -m fakes.emulated_phone --arch $(ARCH)

protos:
	sh protos/generate.sh

clean:
	rm -rf $(VENV) dist build rtfleet-runs .mypy_cache .pytest_cache .ruff_cache
