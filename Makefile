# make demo     install, index examples/ and serve the chat on http://127.0.0.1:7860
# make install  .venv with pinned dependencies, and the models in the user's cache
# make test     format, lint, types, floors, tests
# make reliability   kills, full disks, hostile files, churn and clocks, in many rounds
# make bench    side by side with LlamaIndex, LangChain, txtai and haiku.rag, which it installs apart;
#               BENCH="--docs DIR --cases FILE --json" and the like go to `python -m eval.versus`

PYTHON ?= $(shell command -v python3.11 || command -v python3)
DOCS ?= examples
BIN := .venv/bin

.PHONY: demo install test reliability bench format clean

demo: install
	@# Status 1 says that some files failed: they are named, and the rest is worth asking about.
	$(BIN)/ingest "$(DOCS)" || [ $$? -eq 1 ]
	$(BIN)/rag-bot serve

install: .venv/installed
	@$(BIN)/rag-bot models pull >/dev/null

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable ".[dev]"
	touch $@

test: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@# One thread for each of two processes: two threads for each would wait for each other.
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal

reliability: install
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/reliability --full --numprocesses 2 --dist worksteal

bench: install
	$(BIN)/python -m eval.versus $(BENCH)

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .bench-venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
