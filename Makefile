# Everything a developer types. Each target is one line of cargo or one script; see docs/proofs.md and docs/benchmarks.md.
#
# Build outputs lie outside the clone, in the user's cache, so that a fresh clone builds warm and `git clean`
# costs nothing. Set CARGO_TARGET_DIR to put them elsewhere.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mothership/target

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

.PHONY: build release lint test test-rust test-planner test-grammar test-clients test-orm test-documents test-proofs test-long grammar routing fuzz canary tpcb crash restarts faults failover patroni soak freshness deadlocks contention oracle judges views pipelines merge-proof scatter tpch hostile proofs ready regress shapes sim bench bench-micro flame postgres compose demo demo-clean sqlsmith mutants test-parts

# Programs that proofs are better with, and Debian's packages of them.
FAULTS := iptables=iptables ip=iproute2 faketime=faketime
PATRONI := patroni=patroni patroni=python3-etcd etcd=etcd-server

build: ## Build the release binary.
	cargo build --release -p mothership
	@echo "built $$CARGO_TARGET_DIR/release/mothership"

# Benchmarks and flame graphs run the binary with its line tables; a package has them in a file beside it, where gdb looks.
release: build ## The binary for packages, stripped, and its line tables in a file beside it.
	mkdir -p "$$CARGO_TARGET_DIR/package"
	cd "$$CARGO_TARGET_DIR/package" && objcopy --only-keep-debug ../release/mothership mothership.debug \
	  && objcopy --strip-all --add-gnu-debuglink=mothership.debug ../release/mothership mothership && ls -sh mothership*

# Quicker to build than the release binary, and slower to run.
DEMO := cargo build --profile demo -p mothership

# Where no mongod can be had tests/mongod says why, and the demo goes on without.
demo: postgres ## Three shards, a replica set of MongoDB, the router and a shop, until Ctrl-C. ARGS="--detach" returns when ready; "--stop" ends that.
	$(DEMO)
	@export MONGOD_BIN="$(if $(filter --stop --clean,$(ARGS)),$${MONGOD_BIN:-},$$(tests/mongod || echo "$${MONGOD_BIN:-}"))"; \
	  exec "$$CARGO_TARGET_DIR/demo/mothership" demo $(ARGS)

demo-clean: ## End the demo and remove all that it made.
	$(DEMO)
	@"$$CARGO_TARGET_DIR/demo/mothership" demo --clean $(ARGS)

lint: ## Format and warnings, both strict.
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo check -q -p mothership --no-default-features

# Everything that `make test` builds, so that nothing is compiled in two ways: cargo gives libraries the features that all
# packages of a command ask for, so the packages are the same in each, too.
TESTED := --profile proof
PROGRAMS := $(TESTED) -p mothership -p mothership-driver -p mothership-tests --bins

TEST_PARTS := test-rust test-planner test-grammar test-clients test-orm test-documents test-proofs

test: ## Everything: Rust tests on real PostgreSQL clusters, real client programs, the proofs in short. Ends with the minutes of each part.
	@tests/parts $(TEST_PARTS)

# For whoever runs and times them one by one.
test-parts:
	@echo $(TEST_PARTS)

grammar: COUNT ?= 1000000
grammar: ## The planner's reading against PostgreSQL's grammar, over a million statements. COUNT=..., SEED=...
	cargo build -q --release -p mothership-tests --bin parse-trees
	tests/grammar/run "$$CARGO_TARGET_DIR/release/parse-trees" --count $(COUNT) $(if $(SEED),--seed $(SEED)) --cases "$(CURDIR)/router/plan/src/tests/cases.txt"

# The end-to-end tests start the real binary: it is built first, into the folder where they look for it.
# They wait more than they compute, so one more runs at a time than there are cores.
test-rust: postgres compose
	cargo build $(PROGRAMS)
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(($$(nproc) + 1))} cargo test $(TESTED) --workspace --no-fail-fast
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(($$(nproc) + 1))} tests/long 3

test-long: postgres ## All end-to-end tests that take ten seconds or more; `make test` draws a third of them. SEED=...
	cargo build -q $(PROGRAMS)
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(($$(nproc) + 1))} tests/long

# The planner's tests that ask PostgreSQL itself, on a cluster of their own: without one they fail, they do not pass.
test-planner: postgres
	cargo build -q $(PROGRAMS)
	"$$CARGO_TARGET_DIR/proof/with-endpoint" tests/planner

# What the planner reads is what PostgreSQL's grammar reads: every pair of operators, every node, all cases. SEED=... repeats a run.
test-grammar:
	cargo build -q $(PROGRAMS)
	tests/grammar/run "$$CARGO_TARGET_DIR/proof/parse-trees" --count 20000 --least 1 $(if $(SEED),--seed $(SEED)) --cases "$(CURDIR)/router/plan/src/tests/cases.txt"

routing: postgres ## Random conditions on keys of every type, routed and computed by PostgreSQL. COUNT=1000000 for each type, SEED=, TYPES=.
	cargo build -q $(PROGRAMS)
	COUNT="$(or $(COUNT),1000000)" SEED="$(SEED)" TYPES="$(TYPES)" \
	  "$$CARGO_TARGET_DIR/proof/with-endpoint" tests/planner routing

# psql, pgbench, libpq, psycopg, asyncpg, node-postgres, pgjdbc; what they need goes to the user's cache.
test-clients: postgres
	cargo build -q $(PROGRAMS)
	"$$CARGO_TARGET_DIR/proof/with-endpoint" tests/clients/run

# What SQLAlchemy, Django and Prisma send, against sharded tables and one PostgreSQL.
test-orm: postgres
	cargo build -q $(PROGRAMS)
	TABLES="$(CURDIR)/tests/clients/orm/tables.toml" "$$CARGO_TARGET_DIR/proof/with-shards" tests/clients/orm/run

# What the drivers and Prisma do on tables of MongoDB, against a plain PostgreSQL. CLIENTS="psycopg prisma" picks.
test-documents: postgres
	cargo build -q $(PROGRAMS)
	MONGODB=1 SHARDS=2 CLIENTS="$(CLIENTS)" TABLES="$(CURDIR)/tests/clients/documents/tables.toml" "$$CARGO_TARGET_DIR/proof/with-shards" tests/clients/documents/run

# The proofs: long runs, each with a verdict. Numbers are given like CLIENTS=50; SEED repeats the choices of a run.
PROOFS := test-long canary tpcb crash restarts faults failover patroni soak freshness deadlocks contention oracle judges views sqlsmith pipelines merge-proof scatter hostile tpch sim shapes grammar fuzz

proofs: ## All proofs at full length, one after the other, for a night. Ends with the minutes of each.
	@tests/parts $(PROOFS)

ready: postgres build

BUILT = cargo build --release -p mothership-tests --bin $@
PROOF = "$$CARGO_TARGET_DIR/release/$@"

canary: ready ## CLIENTS for SECONDS, each asking for its own values only: nothing foreign, nothing hangs, nothing is left.
	$(BUILT)
	@env CLIENTS=$(CLIENTS) SECONDS=$(SECONDS) SEED=$(SEED) $(PROOF)

tpcb: ready ## pgbench -S and TPC-B over shards with CLIENTS, SECONDS each in all protocol modes: no failure, balances agree.
	$(BUILT)
	@env CLIENTS=$(CLIENTS) SECONDS=$(SECONDS) SCALE=$(SCALE) $(PROOF)

crash: ready ## kill -9 of the router under TPC-B, KILLS times: nothing lost, nothing made up, nothing left prepared.
	$(BUILT)
	@env CLIENTS=$(CLIENTS) KILLS=$(KILLS) SCALE=$(SCALE) SEED=$(SEED) $(PROOF)

restarts: ready ## Servers, the router and pgbench are killed by turns EVERY few of SECONDS under TPC-B over shards: nothing lost, nothing made up.
	$(BUILT)
	@env CLIENTS=$(CLIENTS) SECONDS=$(SECONDS) EVERY=$(EVERY) COMPARE=$(COMPARE) SCALE=$(SCALE) SEED=$(SEED) $(PROOF)

faults: ready ## The table of faults, each with a bank running behind: what clients see, and nothing lost, doubled or left. ROWS=20-24,47 picks, SEED=.
	tests/packages $(FAULTS)
	$(BUILT)
	@env ROWS=$(ROWS) SEED=$(SEED) $(PROOF)

failover: ready ## How long clients wait while a primary changes, TIMES by SWITCHOVER and TIMES by a crash. CLIENTS=.
	$(BUILT)
	@env TIMES=$(TIMES) CLIENTS=$(CLIENTS) $(PROOF)

soak: ready ## The bank for MINUTES through two routers while one fault follows the other: nothing lost, doubled or made up. CLIENTS=, SEED=, ASYNC=1.
	$(BUILT)
	@env MINUTES=$(MINUTES) CLIENTS=$(CLIENTS) ASYNC=$(ASYNC) SEED=$(SEED) $(PROOF)

freshness: ready ## READS through two routers beside delayed standbys, the primary killed in the middle: none misses what its level promises; what replicas serve without writes and under pgbench for SECONDS. READERS=, DELAY=, SEED=, INJECT=any.
	$(BUILT)
	@env READS=$(READS) READERS=$(READERS) DELAY=$(DELAY) SECONDS=$(SECONDS) INJECT=$(INJECT) SEED=$(SEED) $(PROOF)

oracle: ready ## COUNT random statements, each on one PostgreSQL and through the router over shards: equal or refused. SEED=, LAYOUT=, SHARDS=, ONLY=, JOBS=, WRITES=1.
	$(BUILT)
	@env COUNT=$(COUNT) SEED=$(SEED) LAYOUT=$(LAYOUT) SHARDS=$(SHARDS) ONLY=$(ONLY) INJECT=$(INJECT) ONE_IN=$(ONE_IN) JOBS=$(JOBS) WRITES=$(WRITES) VERBOSE=$(VERBOSE) $(PROOF)

judges: ready ## The oracle itself, judged: falsified answers of every kind, which it has to find.
	cargo build --release -p mothership-tests --bin oracle
	@tests/judges "$$CARGO_TARGET_DIR/release"

views: ready ## COUNT random statements over random views of everything, each on one PostgreSQL and through the router over shards: equal or refused. SEED=, LAYOUT=, SHARDS=, ONLY=, JOBS=, WRITES=1, VIEWS= of each world.
	cargo build --release -p mothership-tests --bin oracle
	@env COUNT=$(or $(COUNT),10000) VIEWS=$(or $(VIEWS),24) SEED=$(SEED) LAYOUT=$(LAYOUT) SHARDS=$(SHARDS) ONLY=$(ONLY) JOBS=$(JOBS) WRITES=$(WRITES) VERBOSE=$(VERBOSE) "$$CARGO_TARGET_DIR/release/oracle"

sqlsmith: ready ## COUNT statements of sqlsmith, a generator that knows nothing of this project, each on one PostgreSQL and through the router: equal or refused. SEED=, SHARDS=, VERBOSE=1.
	tests/packages sqlsmith=sqlsmith
	$(BUILT)
	@env COUNT=$(COUNT) SEED=$(SEED) SHARDS=$(SHARDS) VERBOSE=$(VERBOSE) $(PROOF)

pipelines: ready ## COUNT random conversations of the protocol, each with one PostgreSQL and with the router over shards: every message alike, the same stored, nothing left. SEED=, ONLY=, JOBS=.
	$(BUILT)
	@env COUNT=$(COUNT) SEED=$(SEED) ONLY=$(ONLY) JOBS=$(JOBS) VERBOSE=$(VERBOSE) $(PROOF)

merge-proof: ready ## Every type that the router compares itself, COUNT pairs of each as PostgreSQL sorts them. SEED=, TYPE=.
	$(BUILT)
	@env COUNT=$(COUNT) SEED=$(SEED) TYPE=$(TYPE) $(PROOF)

regress: ready ## psql scripts of the folder FILES, such as PostgreSQL's regression tests, on one PostgreSQL and through the router. NAMES=, TABLES=, LIMIT=, FILE_LIMIT=, OUT=.
	cargo build --release -p mothership-tests --bin with-shards
	@env LIMIT=$(LIMIT) FILE_LIMIT=$(FILE_LIMIT) OUT=$(OUT) TABLES=$(TABLES) "$$CARGO_TARGET_DIR/release/with-shards" tests/regress/run "$(FILES)" $(NAMES)

scatter: ready ## What statements over three shards cost the router, for SECONDS each, and its memory while it merges ROWS sorted rows.
	$(BUILT)
	@env SECONDS=$(SECONDS) ROWS=$(ROWS) $(PROOF)

patroni: ready ## Behind the router a real Patroni with etcd, ROUNDS times: a switchover by the console, one by patronictl, kill -9 of the leader; what CLIENTS see, and for how long.
	tests/packages $(PATRONI)
	$(BUILT)
	@env CLIENTS=$(CLIENTS) ROUNDS=$(ROUNDS) SCALE=$(SCALE) $(PROOF)

hostile: ready ## What strangers may do to others, kind by kind: each is held off. SEED=, ONLY= runs some of them.
	$(BUILT)
	@env SEED=$(SEED) ONLY="$(ONLY)" $(PROOF)

deadlocks: ready ## ROUNDS deadlocks over two shards, through one router and through two: each ends within 3 s on one side.
	$(BUILT)
	@env ROUNDS=$(ROUNDS) PAIRS=$(PAIRS) SEED=$(SEED) $(PROOF)

contention: ready ## COUNT schedules of up to CLIENTS clients that write and lock the same rows, on one PostgreSQL and over three shards: sums, SQLSTATEs, time; BARS=0 judges the sums alone. LOAD=N: transactions in a second, FSYNC=1. SEED=, ONLY=.
	$(BUILT)
	@env COUNT=$(COUNT) CLIENTS=$(CLIENTS) SEED=$(SEED) ONLY=$(ONLY) BARS=$(BARS) $(PROOF)

tpch: ready ## The 22 queries of TPC-H at SCALE over shards, in two layouts: equal to one PostgreSQL, and how long in ROUNDS. SEED=, LAYOUT=, ONLY=, TIMEOUT=.
	$(BUILT)
	@env SCALE=$(SCALE) ROUNDS=$(ROUNDS) SEED=$(SEED) LAYOUT=$(LAYOUT) ONLY=$(ONLY) TIMEOUT=$(TIMEOUT) VERBOSE=$(VERBOSE) $(PROOF)

mutants: postgres ## Breaks the planner and the merge in COUNT random places, one at a time: unit tests or 3,000 statements of the oracle notice each. SEED=, STATEMENTS=, FILES=, FROM=, ONLY=.
	command -v cargo-mutants >/dev/null || cargo install -q --locked cargo-mutants
	@env COUNT=$(COUNT) SEED=$(SEED) STATEMENTS=$(STATEMENTS) FILES="$(FILES)" FROM=$(FROM) ONLY=$(ONLY) tests/mutants/run "$$(dirname "$$CARGO_TARGET_DIR")/mutants"

test-proofs: postgres ## The proofs in short.
	cargo build $(PROGRAMS)
	tests/packages $(PATRONI) sqlsmith=sqlsmith
	tests/proofs

# ROUNDS=, SECONDS=, CLIENTS=1,16,64, MODES=simple,extended,prepared, TARGETS=, CROWD=, ROWS=, DOCUMENTS=, IDLE=0, PLANNING=0; see docs/benchmarks.md.
bench: postgres build ## The router, PgBouncer, PostgreSQL itself and MongoDB's driver in one run, and which bars hold; QUICK=1 in 5 minutes. Samples go to $BENCH_OUT, a page with plots beside them. ROUNDS=, SECONDS=, WORKS=, CLIENTS=, MODES=, TARGETS=, CROWD=, ROWS=, DOCUMENTS=, IDLE=0, PLANNING=0. EARLIER=PROGRAM compares with another build of the router.
	cargo build -q -p mothership-benches --bin bench
	cargo build -q --release -p mothership-driver
	planning=$(if $(filter 0,$(PLANNING)),,$$(cargo bench -q -p mothership-benches --bench planning --no-run --message-format json \
	  | sed -n '/"name":"planning"/s/.*"executable":"\([^"]*\)".*/\1/p')); \
	out="$${BENCH_OUT:-$$CARGO_TARGET_DIR/bench.jsonl}"; pgbouncer=$$(benches/pgbouncer); exec "$$CARGO_TARGET_DIR/debug/bench" \
	  --router "$$CARGO_TARGET_DIR/release/mothership" --driver "$$CARGO_TARGET_DIR/release/mothership-driver" --pgbouncer "$$pgbouncer" $${planning:+--planning "$$planning"} --out "$$out" --report "$${out%.jsonl}.html" \
	  $(if $(EARLIER)$(QUICK)$(ROUNDS)$(SECONDS)$(WORKS)$(CLIENTS)$(MODES)$(TARGETS)$(ROWS)$(DOCUMENTS)$(IDLE)$(PLANNING),,--document docs/performance.md) \
	  $(if $(QUICK),--rounds 2 --crowd 0) $(if $(EARLIER),--earlier $(EARLIER)) \
	  $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(CLIENTS),--clients $(CLIENTS)) \
	  $(if $(MODES),--modes $(MODES)) $(if $(TARGETS),--targets $(TARGETS)) $(if $(WORKS),--works $(WORKS)) \
	  $(if $(CROWD),--crowd $(CROWD)) $(if $(ROWS),--rows $(ROWS)) $(if $(DOCUMENTS),--documents $(DOCUMENTS)) $(if $(IDLE),--idle $(IDLE))

# A build of its own keeps frame pointers, by which perf walks stacks; else it is the release build.
flame: postgres ## A flame graph of the router under point selects, by perf, as SVG. MODE=simple, CLIENTS=16, SECONDS=10, OUT=FILE.
	cargo build -q -p mothership-benches --bin flame
	"$$CARGO_TARGET_DIR/debug/flame" --check
	cargo install -q --locked --root "$$CARGO_TARGET_DIR/flame" inferno --version "^0.12"
	RUSTFLAGS="$${RUSTFLAGS:-} -C force-frame-pointers=yes" cargo build --release -p mothership --bin mothership --target-dir "$$CARGO_TARGET_DIR/flame"
	"$$CARGO_TARGET_DIR/debug/flame" --router "$$CARGO_TARGET_DIR/flame/release/mothership" --inferno "$$CARGO_TARGET_DIR/flame/bin" --out "$(or $(OUT),$$CARGO_TARGET_DIR/flame.svg)" \
	  $(if $(MODE),--mode $(MODE)) $(if $(CLIENTS),--clients $(CLIENTS)) $(if $(SECONDS),--seconds $(SECONDS))

MICRO = planning scanner framing merge hashing copy
bench-micro: ## Parts by themselves: planning, scanner, framing, merge, hashing, dividing COPY. MICRO="merge hashing" runs some of them.
	cargo bench -p mothership-benches $(MICRO:%=--bench %)

fuzz: SECONDS ?= 60
fuzz: ## Every fuzz target for SECONDS each, two at a time. TARGETS="planner key" runs some of them.
	SECONDS_EACH=$(SECONDS) tests/fuzz/run $(TARGETS)

shapes: COUNT ?= 10000000
shapes: ## COUNT random texts: the plan that is kept for a text's shape is the plan of the text itself. SEED=.
	env COUNT=$(COUNT) SEED=$(SEED) cargo test --release -p mothership-plan --lib -- --exact --nocapture \
	  tests::shapes::a_plan_of_a_shape_is_the_plan_of_every_text_that_it_serves

sim: COUNT ?= 10000
sim: ## COUNT seeds each of a simulated cluster and of sessions between simulated clients and servers, with random faults. SEED=.
	env SEEDS=$(COUNT) SEED=$(SEED) cargo test --release -p mothership --test sim -- --exact --nocapture \
	  the_decisions_hold_under_random_faults
	env SEEDS=$(COUNT) SEED=$(SEED) cargo test $(TESTED) -p mothership --test sessions -- --nocapture

compose:
	@tests/compose

postgres: ## Find PostgreSQL's server programs, or install them where we may.
	@tests/postgres
