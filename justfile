# Short cargo lines that run by hand too. Checks never change the tree; `fix` does.

# List the recipes
default:
    @just --list

# Check the format
fmt:
    cargo fmt --all --check

# Check with clippy
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Run every test
test:
    cargo test --workspace

# Accept what the golden transcripts say now; read the diff before you commit it
golden-update:
    UPDATE_GOLDEN=1 INSTA_UPDATE=always cargo test -p foreplan -p foreplan-telemetry -p foreplan-tests

# Draw the pictures of docs/audit.md again, from a run over NATS
picture:
    FOREPLAN_PICTURE=1 cargo test --workspace --test picture

# Build Jaeger, outside of the clone, for the tests that read traces back
jaeger:
    sh deploy/jaeger.sh

# Start a whole deployment from local binaries, for the release example; Ctrl-C ends it
up:
    cargo build -p foreplan
    deploy/up.sh

# Let a deployment of an earlier commit be upgraded to today's while a run is under way
previous commit="":
    FOREPLAN_PREVIOUS="$(sh tests/previous.sh {{commit}})" && export FOREPLAN_PREVIOUS && \
        cargo build --workspace --bins && cargo test --workspace --test upgrade

# Run one seed of the simulation (docs/simulation.md)
sim seed:
    FOREPLAN_SIM_SEED={{seed}} cargo test -p foreplan-core --test simulation -- --nocapture

# Kill, stop and cut off the processes of a deployment under load, for about an hour; FOREPLAN_CHAOS_SEED says which
chaos kills="1000" runs="1000" seconds="7200":
    FOREPLAN_CHAOS_KILLS={{kills}} FOREPLAN_CHAOS_RUNS={{runs}} FOREPLAN_CHAOS_SECONDS={{seconds}} \
        cargo test --workspace --test chaos -- --nocapture

# Build the API documentation
doc:
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps

# Measure
bench:
    cargo bench -p foreplan-core
    cargo build --release -p foreplan --example orchestration
    for threads in 1 2; do target/release/examples/orchestration --workload chain --mode memory --rounds 300 --threads $threads; done
    for workload in fan many latency; do target/release/examples/orchestration --workload $workload --mode memory; done
    for workload in chain many waiting start; do target/release/examples/orchestration --workload $workload --mode sqlite-full; done
    target/release/examples/orchestration --workload chain --mode nats
    target/release/examples/orchestration --workload many --mode nats --size 300 --rounds 25
    target/release/examples/orchestration --workload many --mode nats --size 300 --layers 30 --rounds 5
    for layers in 4 30; do target/release/examples/orchestration --workload many --mode nats --size 300 --layers $layers --rounds 9 --executors 1 --threads 1; done
    target/release/examples/orchestration --workload many --mode nats --size 100 --rounds 3 --replicas 3 --sync always
    target/release/examples/orchestration --workload recovery --mode nats
    target/release/examples/orchestration --workload latency --mode nats --size 24 --rounds 3 --slots 4 --executors 4

# Measure what traces cost: 20,000 spans encoded; then 1,000 runs at once, in pairs without and with traces
bench-traces:
    cargo bench -p foreplan-telemetry --bench encode
    cargo build --release -p foreplan --example orchestration
    for pair in 1 2 3 4 5; do for traces in "" "--traces file"; do target/release/examples/orchestration --workload many --mode sqlite-full --rounds 9 $traces; done; done

# Format, and apply what clippy can fix
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty

# What CI runs
ci:
    .ci/run
