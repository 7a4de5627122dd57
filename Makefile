# The few commands of this project. `make help` lists them.
# Everything that they install or build stays in build/ and target/ (PostgreSQL's server, if missing, comes from apt-get).

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test soak sanitize chaos upgrade parity parity-goldens check fmt clippy doc deny advisories tidy bench bench-python bench-families bench-control bench-umap bench-gpu cuda gpu-kit wheel wheel-cuda clean

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
ENCAJE := $(TARGET_DIR)/release/encaje
MODEL := build/models/all-MiniLM-L6-v2
DEMO := build/demo

# What `make setup` installed itself goes first.
export PATH := $(CURDIR)/build/tools/bin:$(PATH)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: ## get what building and testing need (quick when it is all there)
	@sh scripts/setup.sh

demo: ## embed samples/frases.csv with a real model into Parquet, verify it and draw it
	@sh scripts/setup.sh python model
	$(CARGO) build --release --locked --package encaje
	@ENCAJE="$(ENCAJE)" MODEL="$(MODEL)" DEMO="$(DEMO)" sh scripts/demo.sh

test: setup ## run every test; the last lines are nextest's counts
	$(CARGO) test --workspace --locked --doc --quiet
	$(CARGO) nextest run --workspace --locked

SEEDS ?= 10000
FIRST ?= 1000
soak: ## simulate a cluster under faults, SEEDS=10000 times (the seeds from FIRST=1000 on)
	ENCAJE_SIM_SEEDS=$(SEEDS) ENCAJE_SIM_FIRST=$(FIRST) $(CARGO) test --workspace --locked --test sim no_seed -- --nocapture

# The instructions that the processor has are the ones that are tried; matrices get memory that ends where they end. The
# emulated GPU switches stacks, which confuses the sanitizer, and finds such faults by itself.
sanitize: ## the tests of kernels and engine under AddressSanitizer: no kernel reads or writes past its numbers (takes Rust's nightly by rustup)
	rustup toolchain install nightly --profile minimal
	RUSTFLAGS="-Zsanitizer=address --cfg encaje_sanitized" $(CARGO) +nightly test --locked --package kernels --package engine --lib --tests \
		--target "$$(rustc -vV | sed -n 's/^host: //p')" --target-dir "$(TARGET_DIR)/sanitized" -- --skip cuda::

chaos: ## kill, cut off and damage the parts of a real cluster at random (EVENTS=100 SEED=1 STORAGE=s3|folder), and prove the results
	@sh scripts/setup.sh postgres
	$(CARGO) build --release --locked --package encaje
	$(CARGO) build --locked --workspace --example s3_server
	python3 scripts/chaos.py --encaje "$(ENCAJE)" --model engine/testdata/mbert --corpus samples/frases.csv \
		--shard-rows 4 --events $(or $(EVENTS),100) --seed $(or $(SEED),1) \
		$(if $(filter-out folder,$(or $(STORAGE),s3)),--s3-server "$(TARGET_DIR)/debug/examples/s3_server")

upgrade: ## roll real clusters from the release before to today's under kills (EVENTS=100 SEED=1), and prove the results
	@sh scripts/setup.sh postgres
	$(CARGO) build --locked --package encaje
	old=$$(CARGO="$(CARGO)" sh scripts/previous.sh) && python3 scripts/upgrade.py --old "$$old" --new "$(TARGET_DIR)/debug/encaje" \
		--model engine/testdata/mbert --corpus samples/frases.csv --events $(or $(EVENTS),100) --seed $(or $(SEED),1)

# The references are torch, transformers and sentence-transformers, pinned, in build/parity/venv; PARITY_PYTHON names a Python that
# has them already. A case that the table names is tried alone, and its folder kept, by CASE=mbert+add-prefix-space-true.
PARITY_PYTHON ?= build/parity/venv/bin/python
PARITY := PYTHONPATH=scripts $(PARITY_PYTHON) -m parity --encaje "$(TARGET_DIR)/debug/encaje" --work build/parity
.PHONY: parity-program
parity-program:
	@$(if $(filter build/parity/%,$(PARITY_PYTHON)),sh scripts/setup.sh parity)
	$(CARGO) build --locked --package encaje

parity: parity-program ## compare ids and vectors with the references over CASES=2500 combinations of settings (SEED=1 CASE=NAME)
	$(PARITY) --cases $(or $(CASES),2500) --seed $(or $(SEED),1) $(if $(CASE),--case $(CASE)) $(PARITY_OPTIONS)

parity-goldens: parity-program ## write the hardest of these combinations again as goldens for `make test`
	$(PARITY) --write-goldens

check: fmt clippy doc deny tidy ## formatting, lints, documentation, dependency rules, house rules

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --document-private-items

deny:
	@sh scripts/setup.sh deny
	$(CARGO) deny --all-features --locked check --hide-inclusion-graph bans licenses sources

advisories: ## known vulnerabilities in dependencies (fetches the advisory database)
	@sh scripts/setup.sh deny
	$(CARGO) deny --all-features --locked check advisories

# tests/tidy.rs needs the standard library alone, so it is checked here in seconds; `make test` runs it too.
tidy:
	@mkdir -p build
	rustc --edition 2024 --test tests/tidy.rs -o build/tidy
	build/tidy --quiet

bench: ## time encaje with and without --reuse, and against sentence-transformers and ONNX Runtime (installs torch into build/peers; BENCH="--quick")
	@sh scripts/setup.sh python model peers
	$(CARGO) build --release --locked --package encaje
	build/venv/bin/python scripts/bench_reuse.py --encaje "$(ENCAJE)" --model "$(MODEL)"
	build/venv/bin/python scripts/bench.py --encaje "$(ENCAJE)" --model "$(MODEL)" --peer-python build/peers/bin/python $(BENCH)

# The wheel is built with the dependencies of the workspace's release build, and tried in an environment that has NumPy alone.
wheel: ## build dist/encaje-*.whl, which gives `import encaje` and the command, and dist/encaje-*.tar.gz
	@sh scripts/setup.sh wheel model
	@sh scripts/wheel.sh

wheel-cuda: ## the same in dist/cuda, with kernels for NVIDIA GPUs (CUDA_ARCHS="80 90" builds for fewer)
	@sh scripts/setup.sh wheel model
	@sh scripts/cuda.sh kernels
	@ENCAJE_CUDA_KERNELS="$(CURDIR)/build/cuda/kernels.fatbin" CARGO_TARGET_DIR=build/cuda/target sh scripts/wheel.sh --features cuda

bench-python: wheel ## time encaje.Model.encode against sentence-transformers, a million texts, and encaje.Embed inside the engines
	@sh scripts/setup.sh peers
	for python in build/peers/bin/python build/python/bin/python; do \
		$$python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/encaje-*.whl; done
	build/peers/bin/python scripts/bench_python.py --model "$(MODEL)"
	build/python/bin/python scripts/bench_engines.py --model "$(MODEL)"

bench-families: ## time every family of models against sentence-transformers, in f32 on short texts (SHAPES="qwen3-0.6b static")
	@sh scripts/setup.sh python model peers
	$(CARGO) build --release --locked --package encaje
	$(CARGO) build --release --locked --package engine --example throughput
	build/venv/bin/python scripts/bench_families.py --encaje "$(ENCAJE)" --tokenizer "$(MODEL)" \
		--throughput "$(TARGET_DIR)/release/examples/throughput" --peer-python build/peers/bin/python $(SHAPES)

bench-control: ## leases and commits per second, a million shards, 10,000 workers: on SQLite and PostgreSQL
	$(CARGO) run --release --locked --workspace --example store_bench -- $(BENCH_CONTROL)

bench-umap: ## compare encaje project with umap-learn: time, trustworthiness, label accuracy (SET=DIR:COLUMN adds vectors)
	@sh scripts/setup.sh python model umap
	$(CARGO) build --release --locked --package encaje --package dataset --example pack_vectors --bin encaje
	build/umap/bin/python scripts/bench_umap.py --encaje "$(ENCAJE)" --pack "$(TARGET_DIR)/release/examples/pack_vectors" \
		--model "$(MODEL)" --peer-python build/umap/bin/python $(if $(SET),--set "$(SET)")

cuda: ## build build/cuda/encaje, for NVIDIA GPUs too (installs nvcc into build/cuda; CUDA_ARCHS="80 90" builds for fewer)
	@sh scripts/cuda.sh

gpu-kit: ## make build/gpu-kit, a folder to carry to a machine with a GPU: run.sh there proves and measures in eight minutes
	@CUDA_ARCHS="$(or $(CUDA_ARCHS),80 90)" sh scripts/cuda.sh
	@sh scripts/setup.sh python model
	build/venv/bin/python scripts/gpu_kit.py --encaje build/cuda/encaje --model "$(MODEL)" --out build/gpu-kit

bench-gpu: cuda ## on a machine with a GPU: tokens per second, share of the peak, against sentence-transformers in fp16
	@sh scripts/setup.sh python model peers
	build/peers/bin/python scripts/bench_gpu.py --encaje build/cuda/encaje --model "$(or $(GPU_MODEL),$(MODEL))" \
		--peer-python build/peers/bin/python --device $(or $(DEVICE),cuda:0)

clean: ## remove build/, dist/ and cargo's target directory
	rm -rf build dist
	$(CARGO) clean
