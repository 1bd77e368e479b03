# make repro and make test each work as the first command on a fresh machine.
PYTHON ?= python3
# NOTE: DVC starts the stages' `python` from PATH, so the environment comes first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
READY := .venv/.requirements.lock
DEVELOPMENT := .venv/.requirements-dev.lock
PEERS := .venv-peers/.requirements-peers.lock

.PHONY: help setup setup-dev init views repro show test test-full check dag fresh bench setup-bench pull remote-demo audit quality readme lock

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

repro: setup ## run the pipeline: only what changed, then print the summary; JOBS=n: n methods at the same time; GPUS=g: on g GPUs
	@python -m stages.tools.lock_file
	@python -m stages.settings
ifdef JOBS
	dvc repro prepare
	@# DVC runs one stage after another; several DVC processes wait for each other's locks.
	dvc stage list --name-only | sed -n 's/^pretrain@//p' | xargs -P $(JOBS) $(if $(GPUS),--process-slot-var=SLOT) -I METHOD sh -c \
		'$(if $(GPUS),export CUDA_VISIBLE_DEVICES=$$((SLOT % $(GPUS)));) for stage in pretrain choose finetune distil evaluate; do \
			dvc --wait-for-lock repro --single-item $$stage@METHOD || exit 255; done'
endif
	dvc repro
	@python -m stages.tools.lock_file --keep
	@python -m stages.compare --show

init: setup ## write the parameters that fit your own images into params.yaml: make init FOLDER=data/images
	@python -m stages.tools.init $(FOLDER)

views: setup ## try each preset of views on your own labels and write the best one into params.yaml
	@python -m stages.tools.lock_file
	dvc repro prepare
	@python -m stages.tools.views --write

show: setup ## print the summary of the last run
	@python -m stages.compare --show

test: setup-dev ## run the tests
	python -m pytest tests -n 2 --dist worksteal

test-full: setup-dev ## run all tests, also those that take minutes or need servers
	python -m pytest tests -n 2 --dist worksteal -rs --durations 25 -m 'full or not full'

check: setup-dev ## ruff, mypy, the import contract, no key in git (detect-secrets)
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache
	python -m stages.tools.dag --check
	@sh .ci/secrets

dag: setup ## write the code deps of every stage in dvc.yaml
	python -m stages.tools.dag

fresh: setup ## fail if dvc.lock, metrics/ or the table in the README were not made by this code
	@sh .ci/fresh
	@python -m benchmarks.readme --check

bench: export PATH := $(CURDIR)/.venv-peers/bin:$(PATH)
bench: setup-bench ## measure speed and quality beside peers, and cost by number of images; writes benchmarks/results
	dvc repro --quiet prepare
	python -m benchmarks.throughput
	python -m benchmarks.equal_time
	python -m benchmarks.scaling

setup-bench: $(PEERS) ## make .venv-peers with the packages of requirements-peers.lock

$(PEERS): requirements-peers.lock
	$(PYTHON) -m venv --clear .venv-peers
	.venv-peers/bin/python -m pip install --no-deps --require-hashes -r requirements-peers.lock
	@cp requirements-peers.lock $@

setup: $(READY) ## make .venv with the packages of requirements.lock

setup-dev: $(DEVELOPMENT) ## add the packages for tests and checks, of requirements-dev.lock

$(READY): requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --no-deps --require-hashes -r requirements.lock
	@cp requirements.lock $@

$(DEVELOPMENT): requirements-dev.lock $(READY)
	.venv/bin/python -m pip install --no-deps --require-hashes -r requirements-dev.lock
	@cp requirements-dev.lock $@

pull: setup ## get everything from the remote, so that `make repro` runs nothing
	dvc pull --run-cache
	@# The run cache has no metrics, because git has them: they are taken from there, if nothing was changed since.
	@sh .ci/fresh
	dvc commit --force

remote-demo: setup ## show three people and a remote in a temporary folder, each command printed; some minutes
	@.ci/remote-demo

audit: setup ## list known vulnerabilities of the locked packages, if the advisory data can be reached
	@.ci/audit

quality: setup ## run all experiments for benchmarks/results/quality*.csv (many hours)
	@python -m benchmarks.quality

readme: setup ## write the table in the README from metrics/summary.json
	@python -m benchmarks.readme

COMPILE := uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate pyproject.toml

lock: ## compile the three locks from pyproject.toml (needs uv); all have the versions of requirements.lock
	$(COMPILE) -o requirements.lock
	$(COMPILE) --extra dev --extra peers --constraint requirements.lock -o requirements-dev.lock
	$(COMPILE) --extra bench --constraint requirements-dev.lock -o requirements-peers.lock
