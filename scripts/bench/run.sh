#!/bin/sh
# Builds the release program and measures it: requests against the floor, then group commit.
#
#   scripts/bench/run.sh [DIR]
#
# DIR is where sockets and stores are put while it runs (default: the directory for temporary files).
# It should be on the kind of disk that the sidecar is to use; on tmpfs commits cost nothing. Other
# options for either measurement: IPC_OPTIONS and COMMIT_OPTIONS in the environment.
set -eu
cd "$(dirname "$0")/../.."
place=${1:-${TMPDIR:-/tmp}}

echo "== cargo build --release" >&2
cargo build --release --locked

aft=${CARGO_TARGET_DIR:-target}/release/aft

echo "== requests and transactions, the sidecar and the floor in turns (about 4 minutes)" >&2
# shellcheck disable=SC2086 # Options are several words.
"$aft" bench ipc --work-dir "$place" ${IPC_OPTIONS:---clients 1,4,16 --rounds 7 --seconds-per-round 2}

echo "== group commit (about 2 minutes)" >&2
# shellcheck disable=SC2086
"$aft" bench commit --data-dir "$place" ${COMMIT_OPTIONS:---rounds 5 --seconds-per-round 2}
