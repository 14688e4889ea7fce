# Everything sets itself up: `make demo` and `make test` need Python >= 3.11 and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
LOWEST := .venv-lowest/bin
SHARED ?= ../shared
# transformers 5.5 makes the tokenizer of a folder with vocab.json and merges.txt in a way that tokenizers deprecated.
OLD_WARNINGS := -W "ignore:Deprecated in 0.9.0:DeprecationWarning"
TOUCHES_LIBRARIES := $(addprefix tests/,data evaluate export measure methods models ops pipeline remote select store train \
    test_cli.py test_progress.py)

.PHONY: demo test test-lowest slow soak check audit fix docs bench bench-quality bench-quality-grid vendor dist try-dist walk-tutorial release clean

demo: $(READY)  ## the whole job on the embedded model and data
	$(BIN)/tokensieve demo

test: $(READY)  ## all tests but the slow ones
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu"

test-lowest: .venv-lowest/.ready  ## the tests that touch libraries, at the lowest versions that pyproject.toml allows
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(LOWEST)/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu" \
	    $(OLD_WARNINGS) $(TOUCHES_LIBRARIES)

slow: $(READY)  ## the tests that take minutes
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow

soak: $(READY)  ## 60 kills of workers, drivers and Ray at random moments, 900 faults at file operations, 1,000 flipped bits, 7,500 mutated inputs, 10 minutes of fuzzing
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 SOAK_TRIALS=20 $(BIN)/python -m pytest tests/fault -k test_kills_under_ray
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 SOAK_KILLS=300 $(BIN)/python -m pytest tests/fault/test_file_operations.py
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 SOAK_FLIPS=1100 $(BIN)/python -m pytest tests/fault/test_flipped_bits.py
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 SOAK_MUTATIONS=1500 $(BIN)/python -m pytest tests/fault/test_mutated_input.py
	$(BIN)/pip install --quiet -c constraints.txt -e ".[fuzz]"
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python tests/fault/fuzz_readers.py --minutes 10

check: $(READY)  ## style, types, layers and unsafe calls
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml src

audit: $(READY)  ## advisories on the pinned packages; asks PyPI, and fails where it does not answer
	$(BIN)/pip install --quiet -c constraints.txt -e ".[audit]"
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

fix: $(READY)  ## fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)  ## the documentation site, into site/
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(READY)  ## speed, side by side with a naive baseline
	$(BIN)/python benchmarks/speed/everything.py --rows runs/speed.json
	$(BIN)/python benchmarks/speed/figure.py runs/speed.json docs/images/speed.svg

# What share of the true mask's gain each method recovers; both need SHARED, a folder with data/ and models/.
# Without these settings of glibc a training spends half of its time on memory that is handed back and asked for again.
RECOVERED := MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456 \
    $(BIN)/python benchmarks/quality/recovered.py $(SHARED) --jobs 2
GRID := --methods all --noise german java comments dialogues harmful translations --share 0.1 0.3 0.45 --seeds 5 \
    --reference reference_150_clean reference_150_noisy reference_150_off \
    reference_500_clean reference_500_noisy reference_500_off

bench-quality: $(READY)  ## every method that ranks tokens on two pools, under an hour
	$(RECOVERED) --output runs/recovered

bench-quality-grid: $(READY)  ## every method, pool and reference, with five seeds and two bases: days
	$(RECOVERED) $(GRID) --output runs/recovered-grid
	$(RECOVERED) $(GRID) --output runs/recovered-grid --place insert
	$(RECOVERED) $(GRID) --output runs/recovered-grid-stories --base stories260K --max-length 512

dist: $(READY)  ## wheel and source archive, built and checked
	$(BIN)/pip install --quiet -c constraints.txt -e ".[release]"
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

try-dist: dist  ## the wheel in a fresh environment, and the demo in it, outside this folder
	set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; unset PYTHONPATH; \
	$(PYTHON) -m venv $$folder/venv; \
	$$folder/venv/bin/python -m pip install --quiet -c constraints.txt dist/*.whl; \
	cd $$folder; venv/bin/tokensieve demo; test -s runs/demo/report.html

walk-tutorial: dist  ## docs/start.md word for word, on real data, with the wheel in a fresh environment
	set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; unset PYTHONPATH; \
	$(PYTHON) -m venv $$folder/venv; \
	$$folder/venv/bin/python -m pip install --quiet -c constraints.txt dist/*.whl; \
	OMP_NUM_THREADS=1 $$folder/venv/bin/python scripts/walk_tutorial.py --times --bin $$folder/venv/bin --shared $(SHARED)

release: check test try-dist  ## everything that must hold before an upload
	@echo "ready: $(BIN)/twine upload dist/*"

vendor:  ## the JavaScript of the page, at pinned versions (needs npm)
	$(PYTHON) scripts/vendor.py

clean:
	rm -rf .venv .venv-lowest site runs dist

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("tokensieve needs Python 3.11 to 3.13, this is " + sys.version.split()[0] \
	    if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

.venv-lowest/.ready: pyproject.toml constraints-lowest.txt
	@$(PYTHON) -c 'import sys; sys.exit("the lowest versions are those for Python 3.11, this is " + sys.version.split()[0] \
	    if sys.version_info[:2] != (3, 11) else 0)'
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST)/python -m pip install --quiet --upgrade pip
	$(LOWEST)/python -m pip install --quiet -c constraints-lowest.txt -e ".[eval,ray,test]"
	@touch $@
