#!/bin/sh
# Verifies and measures encaje on a machine with an NVIDIA GPU, in one call of at most eight minutes, without a network.
#
#   sh run.sh [OUT]       results go to the folder OUT, `out` beside this file by default: eight files, the table last
#
# PYTHON=...            with numpy and pyarrow; for the comparison also torch and sentence-transformers
# KIT_ARGS="..."        options of steps.py, such as --seconds 300 or --device cuda:1
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-python3}
command -v "$PYTHON" >/dev/null 2>&1 || { echo "run.sh: $PYTHON is missing: name a Python 3.11 or later in PYTHON" >&2; exit 2; }
"$PYTHON" -c 'import numpy, pyarrow' || { echo "run.sh: $PYTHON has no numpy or no pyarrow" >&2; exit 2; }
# shellcheck disable=SC2086
PYTHONUNBUFFERED=1 exec "$PYTHON" "$here/steps.py" --out "${1:-$here/out}" ${KIT_ARGS:-}
