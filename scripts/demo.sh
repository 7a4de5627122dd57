#!/bin/sh
# The demo of `make demo`: a real text file, a real model, Parquet out, verified. Called by the Makefile.
set -eu
cd "$(dirname "$0")/.."
: "${ENCAJE:?}" "${MODEL:?}" "${DEMO:?}"

say() { printf '\n$ %s\n' "$*"; "$@"; }

# Starts from scratch; `encaje run` into a finished folder would do nothing.
rm -rf "$DEMO"
say "$ENCAJE" run samples/frases.csv --model "$MODEL" --out "$DEMO"
say "$ENCAJE" verify "$DEMO" --corpus samples/frases.csv
printf '\nWhat is in it, and the three sentences nearest to one of them:\n\n'
build/venv/bin/python scripts/show_vectors.py "$DEMO"
printf '\nThe vectors are in %s\n' "$(ls "$DEMO"/part-*.parquet | tr '\n' ' ')"
# The plots: one to explore, one to print.
say "$ENCAJE" project "$DEMO" --label label --out "$DEMO.html" --force
say "$ENCAJE" project "$DEMO" --label label --out "$DEMO.png" --force
printf '\nOpen %s in a browser; %s is the same to print.\n' "$DEMO.html" "$DEMO.png"
