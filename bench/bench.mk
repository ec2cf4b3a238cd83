# `make bench` measures; results are in bench/results/, those of telemetry, recorder and tap are printed. It fails where a mark is missed (`BENCH_CHECK=` only measures).
BENCH_CHECK ?= --check

.PHONY: setup-bench bench
setup-bench:
	@tools/setup.sh bench

bench: setup-bench release ## CPU, throughput, latency and memory beside Envoy, nghttpx and a bare forwarder
	cargo build --release --locked -p sheer-bench
	$(CARGO_TARGET_DIR)/release/sheer-bench run --envoy $(CACHE)/bench-python/bin/envoy --out bench/results $(BENCH_CHECK) $(BENCH_ARGS)
	$(CARGO_TARGET_DIR)/release/sheer-bench telemetry $(BENCH_CHECK)
	$(CARGO_TARGET_DIR)/release/sheer-bench telemetry --of recorder $(BENCH_CHECK)
	$(CARGO_TARGET_DIR)/release/sheer-bench tap $(BENCH_CHECK)

.PHONY: bench-recorder bench-tap soak-recorder
bench-tap: setup-bench release ## what a tap of 1 % of the requests costs them, in CPU and throughput
	cargo build --release --locked -p sheer-bench
	$(CARGO_TARGET_DIR)/release/sheer-bench tap $(BENCH_CHECK)

bench-recorder: setup-bench release ## what the recorder costs in CPU a request, on against off
	cargo build --release --locked -p sheer-bench
	$(CARGO_TARGET_DIR)/release/sheer-bench telemetry --of recorder $(BENCH_CHECK)

soak-recorder: ## ten million header blocks of honest traffic: no false alarm, and memory stays
	cargo test --locked --profile quick --workspace --lib -- --ignored ten_million --nocapture

.PHONY: soak
soak: setup-bench release ## ten million requests through a pair of sidecars: memory stays
	cargo build --release --locked -p sheer-bench
	$(CARGO_TARGET_DIR)/release/sheer-bench soak

.PHONY: hot-code
hot-code: release ## finds which code runs while traffic passes, for the linker (root, valgrind)
	cargo build --release --locked -p sheer-bench
	bench/train.py hot-code --bin $(CARGO_TARGET_DIR)/release

# Where every sidecar may write, whatever user it runs as.
PROFILE_RAW = /tmp/sheer-profile-raw
.PHONY: profile
profile: ## measures the proxy for profile-guided optimisation (root, llvm-profdata of rustc's LLVM)
	cargo build --release --locked -p sheer -p sheer-bench -p bank
	mkdir -p $(PROFILE_RAW)
	RUSTFLAGS="-Cprofile-generate=$(PROFILE_RAW)" CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/profile \
		cargo build --release --locked -p sheer-proxy --target $(RUST_HOST)
	bench/train.py profile --bin $(CARGO_TARGET_DIR)/release --instrumented $(CARGO_TARGET_DIR)/profile/$(RUST_HOST)/release/sheer-proxy \
		--raw $(PROFILE_RAW) --profdata llvm-profdata-$(RUST_LLVM)
