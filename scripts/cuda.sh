#!/bin/sh
# Builds build/cuda/encaje: the same program with GPU kernels in it. It starts on machines without a GPU as well, and needs
# neither a GPU nor a driver to be built.
#
#   scripts/cuda.sh [kernels|binary]      without arguments: both
#
# NVCC=PATH       compiles with this nvcc (12.0 or later) instead of the one from PyPI.
# CUDA_ARCHS=...  machine code for these GPUs, as two or three digits; the default is 80 90 100 120 (A100 to Blackwell). GPUs of
#                 the same first digit run it too, newer ones compile the PTX of 8.0 that is always included.
set -eu
cd "$(dirname "$0")/.."

SOURCES=engine/src/cuda/kernels
KERNELS=build/cuda/kernels.fatbin
ARCHS=${CUDA_ARCHS:-80 90 100 120}
CARGO=${CARGO:-cargo}

say() { printf 'cuda: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

find_nvcc() {
    [ -n "${NVCC:-}" ] && return 0
    sh scripts/setup.sh cuda
    for NVCC in build/cuda/venv/lib/python3*/site-packages/nvidia/cu13/bin/nvcc; do
        [ -x "$NVCC" ] && return 0
    done
    die "nvcc is not where pip puts it; name one in NVCC"
}

# Compiles every kernel for every kind of GPU into one file. Warnings are errors.
compile_kernels() {
    mkdir -p build/cuda
    set -- --fatbin -O3 -std=c++17 --Werror all-warnings -gencode arch=compute_80,code=compute_80
    known=$("$NVCC" --list-gpu-code)
    for arch in $ARCHS; do
        case "$known" in
            *sm_"$arch"*) set -- "$@" -gencode "arch=compute_$arch,code=sm_$arch" ;;
            *) say "this nvcc knows no sm_$arch: such GPUs will compile the PTX themselves" ;;
        esac
    done
    stamp="$("$NVCC" --version | tail -n 1) $* $(cat "$SOURCES"/*.cu "$SOURCES"/*.cuh | cksum)"
    if [ -f "$KERNELS" ] && [ "$stamp" = "$(cat "$KERNELS.stamp" 2>/dev/null)" ]; then return 0; fi
    say "compiling the kernels for $ARCHS (a minute or two)"
    "$NVCC" "$@" -o "$KERNELS.new" "$SOURCES/kernels.cu" || die "the kernels do not compile"
    mv "$KERNELS.new" "$KERNELS"
    printf '%s' "$stamp" >"$KERNELS.stamp"
}

build_binary() {
    [ -f "$KERNELS" ] || die "$KERNELS is missing: run scripts/cuda.sh kernels"
    # Its own target folder, so that the CPU build stays unchanged.
    ENCAJE_CUDA_KERNELS="$PWD/$KERNELS" CARGO_TARGET_DIR=build/cuda/target \
        "$CARGO" build --release --locked --package encaje --features cuda
    cp build/cuda/target/release/encaje build/cuda/encaje.new
    mv build/cuda/encaje.new build/cuda/encaje
    say "built build/cuda/encaje; on a machine with a GPU, prove it: build/cuda/encaje self-test --device cuda:0"
}

[ $# -gt 0 ] || set -- kernels binary
for part in "$@"; do
    case $part in
        kernels) find_nvcc && compile_kernels ;;
        binary) build_binary ;;
        *) die "unknown part: $part" ;;
    esac
done
