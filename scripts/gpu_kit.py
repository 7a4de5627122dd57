#!/usr/bin/env python3
"""Assembles the GPU kit: one folder to carry to a machine with a GPU, and there `sh run.sh` (scripts/gpu_kit/run.sh).

python scripts/gpu_kit.py --encaje build/cuda/encaje --model build/models/all-MiniLM-L6-v2 --out build/gpu-kit [--plain]

In it: the program, the model with its weights in f16 (both compressed, unless --plain), samples/frases.csv with its vectors by
sentence-transformers (scripts/gpu_kit/reference.py), and the scripts. 60 MiB at most in all.
"""

import argparse
import hashlib
import json
import lzma
import pathlib
import shutil
import sys

import numpy as np

SCRIPTS = pathlib.Path(__file__).parent
CORPUS = SCRIPTS.parent / "samples/frases.csv"
BYTES_MAX = 60 << 20
FILES = ["gpu_kit/run.sh", "gpu_kit/steps.py", "bench_gpu.py", "gpu_peer.py"]
REFERENCE = ["reference.npy", "reference.json"]
# Filters for compression: jump addresses of programs, and the more regular byte of f16 numbers.
PROGRAM = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 64 << 20}]
WEIGHTS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 3, "lp": 1, "pb": 1, "mode": lzma.MODE_FAST, "nice_len": 16, "dict_size": 1 << 20}]
# Files of a model that tokenizers and sentence-transformers read.
MODEL_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json",
               "merges.txt", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
               "1_Pooling/config.json"]


def in_halves(path):
    """Returns a safetensors file with its f32 tensors rounded to f16."""
    data = path.read_bytes()
    header_bytes = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:8 + header_bytes]), memoryview(data)[8 + header_bytes:]
    parts, at = [], 0
    for name, info in header.items():
        if name == "__metadata__":
            continue
        begin, end = info["data_offsets"]
        part = bytes(body[begin:end])
        if info["dtype"] == "F32":
            halves = np.frombuffer(part, "<f4").astype("<f2")
            if not np.isfinite(halves).all():
                sys.exit(f"{path}: `{name}` has numbers that f16 cannot hold")
            info["dtype"], part = "F16", halves.tobytes()
        info["data_offsets"] = [at, at + len(part)]
        parts.append(part)
        at += len(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    # Tensors are aligned to eight bytes.
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def copy_model(source, target):
    """Copies a model with its weights in f16."""
    for name in MODEL_FILES:
        if (source / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)
    (target / "model.safetensors").write_bytes(in_halves(source / "model.safetensors"))


def digests(model):
    """Returns the inputs of the reference vectors."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in
            {"corpus": CORPUS, "weights": model / "model.safetensors", "tokenizer": model / "tokenizer.json"}.items() if path.exists()}


def compress(source, target, filters):
    target.write_bytes(lzma.compress(source.read_bytes(), filters=filters))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--encaje", "--model", "--out"):
        parser.add_argument(name, required=True, type=pathlib.Path)
    parser.add_argument("--plain", action="store_true", help="compress nothing and link the program, whatever its size")
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    copy_model(args.model, args.out / "model")
    for name in FILES:
        shutil.copy(SCRIPTS / name, args.out)
    shutil.copy(CORPUS, args.out)
    made_of = json.loads((SCRIPTS / "gpu_kit/reference.json").read_text())
    if made_of.items() >= digests(args.out / "model").items():
        for name in REFERENCE:
            shutil.copy(SCRIPTS / "gpu_kit" / name, args.out)
    else:
        print("gpu-kit: the reference vectors are not of this model and corpus: the kit goes without (scripts/gpu_kit/reference.py "
              "makes them)", file=sys.stderr)
    if args.plain:
        (args.out / "encaje").symlink_to(args.encaje.resolve())
    else:
        print("gpu-kit: compressing (a minute)", file=sys.stderr)
        compress(args.encaje, args.out / "encaje.xz", PROGRAM)
        weights = args.out / "model/model.safetensors"
        compress(weights, weights.with_name("model.safetensors.xz"), WEIGHTS)
        weights.unlink()
    total = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    if total > BYTES_MAX and not args.plain:
        sys.exit(f"gpu-kit: {args.out} has {total / 2**20:.1f} MiB, more than {BYTES_MAX >> 20}")
    print(f"gpu-kit: {args.out} has {total / 2**20:.1f} MiB; on a machine with a GPU: sh run.sh OUT", file=sys.stderr)


if __name__ == "__main__":
    main()
