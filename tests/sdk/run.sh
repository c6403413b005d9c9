#!/usr/bin/env bash
# Runs the official Python SDK against the emulator of a built pagemill.
#
#   tests/sdk/run.sh target/debug/pagemill
#   tests/sdk/run.sh --base-url http://127.0.0.1:8787     an emulator that runs already
#
# Makes a virtual environment in a temporary folder and removes it afterwards. Builds nothing.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
if [[ $# -eq 1 ]]; then
    target=(--binary "$1")
elif [[ $# -eq 2 && "$1" == --base-url ]]; then
    target=(--base-url "$2")
else
    echo "usage: $0 BINARY | --base-url URL" >&2
    exit 2
fi

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
"$folder/venv/bin/python" "$here/test_sdk.py" "${target[@]}"
