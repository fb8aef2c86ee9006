#!/usr/bin/env bash
# Runs every test, from the smallest to the largest. `make test` sets up first.
set -euo pipefail
cd "$(dirname "$0")/.."

# The same random cases each time, so that a run tells of the code and not of luck. Others: another number, or a random
# one with `cargo test` alone; the fuzz targets look for what nobody thought of.
export PROPTEST_RNG_SEED="${PROPTEST_RNG_SEED:-7112026}"

say() { echo; echo "==> $*"; }

if [ "$(id -u)" != 0 ]; then
    echo "turnpike: the tests make network namespaces and TAPs: run them as root." >&2
    exit 1
fi

say "Building"
cargo build --workspace --all-targets

say "Unit, property and integration tests"
cargo test --workspace --exclude tests

say "Loom: every interleaving of readers and writer of the snapshot (QSBR)"
RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p dataplane --lib loom_tests

if cargo miri --version > /dev/null 2>&1; then
    say "Miri: undefined behaviour in the data plane's tests"
    cargo miri test -p dataplane --lib
else
    say "Miri is not in this toolchain: left out (rustup component add miri, on nightly, brings it)"
fi

say "Instructions of the packet path by stage, against perf/baselines/instructions.json"
cargo run --release --quiet -p perf -- pipeline --stages --check

say "End to end: real routers and hosts in network namespaces"
cargo test -p tests --no-fail-fast -- --test-threads=1
