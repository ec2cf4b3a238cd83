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

# The proxy is compiled for the way that its branches went under traffic (`make profile`). The profile is of rustc 1.95's LLVM and for x86_64: a compiler
# that is older cannot read it, and builds without.
RUST_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
RUST_LLVM = $(shell rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
# Under a name of its content, and not written again: cargo goes by flags and by the time of the file.
PROFILE_FILE = $(CARGO_TARGET_DIR)/profile/$(shell sha256sum crates/sheer-proxy/proxy.profdata | cut -c1-16).profdata
PROFILE = $(if $(and $(findstring x86_64,$(RUST_HOST)),$(shell test $(RUST_LLVM) -ge 22 && echo yes)),RUSTFLAGS="-Cprofile-use=$(PROFILE_FILE)")

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
	cargo build --release --locked -p sheer
	test -e $(PROFILE_FILE) || install -D -m 644 crates/sheer-proxy/proxy.profdata $(PROFILE_FILE)
	$(PROFILE) cargo build --release --locked -p sheer-proxy --target $(RUST_HOST)
	install -m 755 $(CARGO_TARGET_DIR)/$(RUST_HOST)/release/sheer-proxy $(CARGO_TARGET_DIR)/release/sheer-proxy

.PHONY: demo
demo: setup-demo build ## sets up, builds and runs the sample on a mesh on this machine
	$(BIN)/sheer demo $(DEMO_ARGS)

.PHONY: test
test: setup-test lint deny ## sets up what it needs and runs every test
	# One command builds tests and binaries: a second one would resolve other features and build every dependency again.
	cargo test --locked --profile quick --workspace --no-run
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
