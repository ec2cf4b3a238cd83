# Two commands are all that a newcomer types: `make demo` and `make test`. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# Built things and test tools live outside the clone, so that a second clone is quick; without the folder all works the same.
CACHE ?= $(or $(SHEER_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sheer)
export SHEER_CACHE := $(CACHE)
export CARGO_TARGET_DIR ?= $(CACHE)/target
BIN := $(CARGO_TARGET_DIR)/quick

.PHONY: help
help: ## what there is to type
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup-demo setup-test
setup-demo:
	@tools/setup.sh demo
setup-test:
	@tools/setup.sh test

.PHONY: build
build: ## the binaries, quick to compile and quick enough to run
	cargo build --profile quick --locked -p sheer -p sheer-proxy -p bank

.PHONY: release
release: ## the binaries as they ship
	cargo build --release --locked -p sheer -p sheer-proxy

.PHONY: demo
demo: setup-demo build ## sets up, builds and runs the sample on a mesh on this machine
	$(BIN)/sheer demo $(DEMO_ARGS)

.PHONY: test
test: setup-test lint deny build ## sets up what it needs and runs every test
	SHEER_TEST_BIN=$(BIN) cargo test --locked --profile quick --workspace --no-fail-fast

.PHONY: lint
lint: ## formatting and lints
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: deny
deny: ## licences, bans and sources of every dependency (deny.toml)
	$(CACHE)/tools/bin/cargo-deny --offline check --hide-inclusion-graph bans licenses sources

-include bench/bench.mk
-include tests/interop/interop.mk
