# Daily commands; `just --list` shows them.

# Run all tests
test:
    scripts/test

# Everything CI runs
ci:
    .ci/run

# Format Rust and Python
fmt:
    cargo fmt
    target/venv/bin/ruff format python tests/e2e scripts

# Run the simulator over many seeds
sim seeds="10000":
    cargo run --release -- sim --seeds {{seeds}}

# The example with killed processes
quickstart:
    scripts/quickstart

# Measure against an echo floor
bench:
    scripts/bench/run.sh
