# Everything a developer types. Each target is one line of cargo or one script; see CONTRIBUTING.md.
#
# Build outputs lie outside the clone, in the user's cache, so that a fresh clone builds warm and `git clean`
# costs nothing. Set CARGO_TARGET_DIR to put them elsewhere.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mothership/target

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

.PHONY: build lint test test-rust test-planner test-clients postgres demo demo-clean

build: ## Build the release binary.
	cargo build --release -p mothership
	@echo "built $$CARGO_TARGET_DIR/release/mothership"

demo: postgres build ## Three shards, the router and a shop, until Ctrl-C. ARGS="--detach" returns when ready; "--stop" ends that.
	@"$$CARGO_TARGET_DIR/release/mothership" demo $(ARGS)

demo-clean: build ## End the demo and remove all that it made.
	@"$$CARGO_TARGET_DIR/release/mothership" demo --clean $(ARGS)

lint: ## Format and warnings, both strict.
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings

test: test-rust test-planner test-clients ## Everything: Rust tests on real PostgreSQL clusters, then real client programs.

# The end-to-end tests start the real binary: it is built first, into the folder where they look for it.
test-rust: postgres
	cargo build -p mothership --bins
	cargo test --workspace --no-fail-fast

# The planner's tests that ask PostgreSQL itself, on a cluster of their own: without one they fail, they do not pass.
test-planner: postgres
	cargo build -p mothership --bins
	cargo run -q -p mothership-tests --bin with-endpoint -- tests/planner

# psql, pgbench, libpq, psycopg, asyncpg, node-postgres, pgjdbc; what they need goes to the user's cache.
test-clients: postgres
	cargo run -q -p mothership-tests --bin with-endpoint -- tests/clients/run

postgres: ## Find PostgreSQL's server programs, or install them where we may.
	@tests/postgres
