# Two commands for a fresh machine: `make demo` and `make test`. Both install first; later runs find it done.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Two processes, a file in one of them, each with one thread: most tests wait for imports and disk.
PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 15
test test-slow test-sweeps test-wheel test-oldest chaos damage fuzz recipe-table: export OMP_NUM_THREADS := 1
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := install
.PHONY: install demo test test-slow test-sweeps test-wheel test-oldest chaos damage fuzz lint docs site audit sbom sweep hub recipe-table bench bench-curves bench-gpu bench-plain clean

install: $(STAMP)

# torch first and by itself: a range would bring the largest build there is.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[qlora,onnx,benchmarks,docs,dev]'
	touch $(STAMP)

demo: install
	$(BIN)/ftkit train recipes/lora_distilbert.yaml --smoke --overwrite

test: install
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-slow: install
	$(BIN)/python -m pytest -m "slow and not wheel and not sweep" $(PARALLEL)

# What test-slow leaves out of the sweeps over all kinds of model; a quarter of an hour.
test-sweeps: install
	$(BIN)/python -m pytest -m sweep $(PARALLEL)

# The tutorial in a fresh environment, with the wheel and what it brings along alone; ten minutes, needs the package index.
test-wheel: install
	$(BIN)/python -m pytest -m wheel --durations 5 tests/docs/test_first_hour.py

# Training, measuring and predicting with the oldest versions that pyproject.toml allows, in an environment of their own that
# takes 2 GB; torch is that of constraints.txt. The extra qlora asks for newer ones. Ten minutes, needs the package index.
OLDEST := build/oldest
OLDEST_PIP := $(OLDEST)/bin/python -m pip install --quiet
OLDEST_PYTEST := $(OLDEST)/bin/python -m pytest --durations 5
test-oldest: install
	rm -rf $(OLDEST)
	$(PYTHON) -m venv $(OLDEST)
	$(BIN)/python scripts/oldest.py > build/oldest.txt
	$(BIN)/python scripts/oldest.py qlora > build/oldest-qlora.txt
	$(OLDEST_PIP) --constraint build/oldest.txt torch
	$(OLDEST_PIP) --constraint build/oldest.txt --editable . pytest pytest-timeout hypothesis
	$(OLDEST_PYTEST) tests/prediction/test_predict.py tests/tasks/test_tasks.py -k "not qlora"
	$(OLDEST_PYTEST) tests/smoke/test_recipes.py -k "(lora_distilbert or transfer or flan or entities or gpt2_instruction) and not qlora"
	$(OLDEST_PIP) --constraint build/oldest-qlora.txt --editable '.[qlora]'
	$(OLDEST_PYTEST) tests/smoke/test_recipes.py -k qlora_distilbert

# What may happen to a run: kill -9 at 200 moments, two processes at each step of the lock, a disk that fills at twenty places,
# and a share of the damages below; twenty minutes. tests/chaos/README.md has the last figures.
chaos: install
	$(BIN)/python -m tests.chaos.kills --kills 200 --jobs 2
	$(BIN)/python -m tests.lock_steps two "$$(mktemp -d)"
	$(BIN)/python -m tests.lock_steps killed "$$(mktemp -d)"
	$(BIN)/python -m pytest -m slow tests/test_claim.py tests/training/test_full_disk_run.py
	$(MAKE) damage

# Each file of three kinds of runs, damaged in each way, before each command: hours; PART=1/40 takes a share of the cases.
PART := 1/40
damage: install
	for kind in classifier decoder tagger; do $(BIN)/python tests/damage_sweep.py $$kind --part $(PART) || exit 1; done

# Mutated recipes through `ftkit check` and through a training of two steps: an hour or two.
fuzz: install
	$(BIN)/python -m tests.fuzz.mutated --cases 5000
	$(BIN)/python -m tests.fuzz.mutated --command train --cases 2000

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: install
	$(BIN)/python -m ftkit.recipe.reference > docs/recipe.md
	$(BIN)/python scripts/other_tools.py > docs/howto/other-tools.md

# docs/ as a site, in build/site; any warning ends it.
site: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# pip-audit and cyclonedx-bom bring libraries of their own, which no environment that is looked at should have.
SUPPLY := build/supply
$(SUPPLY)/.installed:
	$(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/python -m pip install --quiet pip-audit cyclonedx-bom
	touch $@

# Known vulnerabilities of what is installed; ends with 2 where no service answers for a package, and says so.
audit: install $(SUPPLY)/.installed
	$(SUPPLY)/bin/python scripts/audit.py $(BIN)/python

# What is installed as a bill of materials (CycloneDX), in build/sbom.json, held to its schema.
sbom: install $(SUPPLY)/.installed
	$(SUPPLY)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate \
		--output-file build/sbom.json $(BIN)/python

# Small models of all types with all levers, with none and in the plain Trainer, half an hour; writes docs/models.md.
SWEEP := $(BIN)/python tests/architectures/sweep.py
sweep: install
	$(SWEEP) --out tests/architectures/matrix.csv --docs docs/models.md
	$(SWEEP) --precision bf16 --out tests/architectures/matrix-bf16.csv
	$(SWEEP) --dropout --out tests/architectures/matrix-dropout.csv

# Faults of a hub by command, and the packaged recipes in four states of cache and hub; a quarter of an hour.
hub: install
	$(BIN)/python -m tests.hub.faults --out tests/hub/faults.csv
	$(BIN)/python -m tests.hub.recipes --out tests/hub/recipes.csv

# A smoke run and a plan of each packaged recipe, for recipes/README.md; a quarter of an hour, what runs/ has is kept.
recipe-table: install
	$(BIN)/python scripts/recipe_runs.py runs
	$(BIN)/python scripts/recipe_table.py runs > recipes/README.md

# ftkit beside the tutorial's Trainer script, TRL's SFTTrainer and a loop by hand, and how that grows; writes
# benchmarks/RESULTS.md.
bench: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/growth.py

bench-curves: install
	$(BIN)/python benchmarks/curves.py

# The same for a Llama of 7B on a GPU of 80 GB; ARGUMENTS="--shape tiny --steps 2" is a trial of two minutes on a CPU.
bench-gpu: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench,gpu,qlora]'
	$(BIN)/python benchmarks/gpu.py $(ARGUMENTS)

bench-plain: install
	$(BIN)/python benchmarks/against_plain_trainer.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
