# make repro and make test each work as the first command on a fresh machine.
PYTHON ?= python3
# NOTE: DVC starts the stages' `python` from PATH, so the environment comes first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
READY := .venv/.requirements.lock
PEERS := .venv-peers/.requirements-peers.lock

.PHONY: help setup repro show test test-full check fresh bench setup-bench pull remote-demo audit quality readme lock

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

repro: setup ## run the pipeline: only what changed, then print the summary; JOBS=n: n methods at the same time; GPUS=g: on g GPUs
	@python -m stages.params
ifdef JOBS
	dvc repro prepare
	@# DVC itself runs one stage after another; its own locks keep several of it out of each other's way.
	dvc stage list --name-only | sed -n 's/^pretrain@//p' | xargs -P $(JOBS) $(if $(GPUS),--process-slot-var=SLOT) -I METHOD sh -c \
		'$(if $(GPUS),export CUDA_VISIBLE_DEVICES=$$((SLOT % $(GPUS)));) for stage in pretrain finetune evaluate; do \
			dvc --wait-for-lock repro --single-item $$stage@METHOD || exit 255; done'
endif
	dvc repro
	@python -m stages.compare --show

show: setup ## print the summary that is there
	@python -m stages.compare --show

test: setup ## run the tests
	python -m pytest tests -n 2 --dist worksteal

test-full: setup ## the tests that take minutes too
	python -m pytest tests -n 2 --dist worksteal -rs --durations 25 -m 'full or not full'

check: setup ## ruff, mypy, import contract, no key in git
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache
	@sh .ci/secrets

fresh: setup ## fail if dvc.lock or metrics/ were not made by this code
	@sh .ci/fresh

bench: export PATH := $(CURDIR)/.venv-peers/bin:$(PATH)
bench: setup-bench ## speed and quality beside peers, cost as images grow; writes benchmarks/results
	dvc repro --quiet prepare
	python -m benchmarks.throughput
	python -m benchmarks.equal_time
	python -m benchmarks.scaling

setup-bench: $(PEERS) ## make .venv-peers with exactly the packages of requirements-peers.lock

$(PEERS): requirements-peers.lock
	$(PYTHON) -m venv --clear .venv-peers
	.venv-peers/bin/python -m pip install --no-deps --require-hashes -r requirements-peers.lock
	@cp requirements-peers.lock $@

setup: $(READY) ## make .venv with exactly the packages of requirements.lock

$(READY): requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --no-deps --require-hashes -r requirements.lock
	@cp requirements.lock $@

pull: setup ## everything from the remote, so that `make repro` runs nothing
	dvc pull --run-cache
	@# The run cache brings no metrics, for those are in git: they are taken from there, if nothing was changed since.
	@sh .ci/fresh
	dvc commit --force

remote-demo: setup ## two people and a remote in a temporary folder, each command printed; two minutes
	@.ci/remote-demo

audit: setup ## known vulnerabilities of the locked packages, where the advisory data can be reached
	@.ci/audit

quality: setup ## run all experiments for benchmarks/results/quality*.csv (may take three hours)
	@python -m benchmarks.quality

readme: setup ## write the README's table from metrics/summary.json
	@python -m benchmarks.readme

lock: ## compile both locks anew from pyproject.toml (needs uv); the peers' keeps to our versions
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --extra dev --extra peers \
		pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --extra bench \
		--constraint requirements.lock pyproject.toml -o requirements-peers.lock
