# Sourced by the scripts beside it: installs what is missing and says so. Needs Debian or Ubuntu with
# Rust (1.89 or newer) and Python (3.10 or newer).
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
venv=$target/venv
# What each step printed.
logs=$target/logs
failed=()
closing=()

say() { printf '\n== %s\n' "$*"; }

# step NAME COMMAND...: runs a step, keeps what it prints, and goes on if it fails. `finish` tells.
step() {
    local name=$1 log began=$SECONDS
    shift
    mkdir -p "$logs"
    log=$logs/${name//[^A-Za-z0-9]/-}.log
    say "$name: $*"
    if ! "$@" 2>&1 | tee "$log"; then
        failed+=("$name")
        closing+=("$name: FAILED, see $log")
    fi
    # The lines with which test runners end, but not those of runs without tests.
    local line
    while IFS= read -r line; do
        closing+=("$name: $line")
    done < <(grep -aE '^ *Summary \[|^test result: |^(=+ )?[0-9]+ (passed|failed|error|skipped).* in [0-9.]+s' \
        "$log" | grep -av ' 0 passed; 0 failed')
    closing+=("$name: $((SECONDS - began)) s")
}

# Prints how the steps ended; fails if one of them did.
finish() {
    say "$1"
    printf '%s\n' "${closing[@]}"
    if [ ${#failed[@]} -gt 0 ]; then
        printf '\n%s failed: %s\n' "$1" "$(IFS=,; echo "${failed[*]}")"
        return 1
    fi
    printf '\n%s passed\n' "$1"
}

# Installs Debian packages that are not there yet.
need_packages() {
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
    done
    if [ ${#missing[@]} -eq 0 ]; then return; fi
    say "Installing ${missing[*]} (apt)"
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
    "${sudo[@]}" apt-get update -qq
    # In this runlevel no service is started that comes with a package.
    "${sudo[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
}

need_tools() {
    local tool
    for tool in cargo python3; do
        if ! command -v "$tool" >/dev/null; then
            echo "$tool is not installed; see https://rustup.rs and your distribution's python3" >&2
            exit 1
        fi
    done
    # libzmq is compiled from source.
    need_packages g++
}

# Makes a virtual environment with the Python client; an argument names extra requirements.
need_python() {
    if [ ! -x "$venv/bin/pip" ]; then
        say "Making a Python environment in $venv"
        mkdir -p "$target"
        if ! python3 -m venv "$venv" 2>/dev/null; then
            need_packages python3-venv
            python3 -m venv --clear "$venv"
        fi
    fi
    say "Installing the Python client and what it needs into $venv (pip)"
    "$venv/bin/pip" install -q --disable-pip-version-check -e "$root/python${1:-}"
}

# The server that tests of the stores in DynamoDB and S3 use.
need_dynamodb_server() {
    say "Installing ministack (a server of DynamoDB and S3 for tests) into $venv (pip)"
    "$venv/bin/pip" install -q --disable-pip-version-check 'ministack==1.5.*'
}
