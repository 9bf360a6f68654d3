# Sourced by the scripts beside it: installs what is missing and says so. Needs Debian or Ubuntu with
# Rust (1.89 or newer) and Python (3.10 or newer).
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/target/venv

say() { printf '\n== %s\n' "$*"; }

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
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
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
        say "Making a Python environment in target/venv"
        if ! python3 -m venv "$venv" 2>/dev/null; then
            need_packages python3-venv
            python3 -m venv --clear "$venv"
        fi
    fi
    "$venv/bin/pip" install -q --disable-pip-version-check -e "$root/python${1:-}"
}
