#!/bin/sh
# Builds the wheel of the Python package, and its source distribution, and installs and tries the wheel.
#
#   scripts/wheel.sh [--features cuda]
set -eu
cd "$(dirname "$0")/.."

PYTHON=build/python/bin/python
OUT=dist
[ "$*" = "" ] || OUT=dist/cuda

say() { printf 'wheel: %s\n' "$*" >&2; }

rm -rf "$OUT"
mkdir -p "$OUT"
"$PYTHON" -m maturin build --release --locked --out "$OUT" "$@" >&2
[ "$*" != "" ] || "$PYTHON" -m maturin sdist --out "$OUT" >&2

# Nothing but NumPy, as `pip install` brings it.
say "trying it in an environment of its own"
TRIAL=build/wheel-trial
rm -rf "$TRIAL"
"$PYTHON" -m venv "$TRIAL"
"$TRIAL/bin/pip" install --quiet --disable-pip-version-check "$OUT"/encaje-*.whl >&2
"$TRIAL/bin/python" scripts/try_wheel.py --model build/models/all-MiniLM-L6-v2 --corpus samples/frases.csv
ls -l "$OUT"/encaje-* >&2
