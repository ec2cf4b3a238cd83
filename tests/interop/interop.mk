# `make interop` runs the interop, balancing and fault cases alone; `make test` runs them with everything else.
# One group: `make interop CASES=grpc`.

.PHONY: interop
interop: setup-test build ## grpcio, grpc-js, curl, Redis, PostgreSQL … through the mesh, balancing, faults
	SHEER_TEST_BIN=$(BIN) cargo test --locked --profile quick -p sheer-interop -- $(CASES)
