#!/usr/bin/env python3
"""Times the families of models against sentence-transformers on one machine, in f32 on short texts, in turns.

build/venv/bin/python scripts/bench_families.py --encaje BIN --throughput BIN --tokenizer MODEL_DIR --peer-python PYTHON
    [--rounds 3] [SHAPE...]

Models have the shapes of real ones and random weights; all have the tokenizer of the given model. Both sides tokenize and
embed texts in memory, loading excluded, on all cores. The vectors of `encaje run` are compared with the peer's.
"""

import argparse
import csv
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

import numpy as np

from bench import make_corpus, read_vectors

FOLDER = pathlib.Path("build/bench-families")
# Texts of each shape, about 30 tokens long.
SHAPES = {
    "mpnet-base": 600, "modernbert-base": 600, "qwen3-0.6b": 100, "embeddinggemma-300m": 300, "t5-base": 600,
    "static": 20000,
}


def output(command):
    """Runs a command and returns its standard output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def contest(args, shape, cores):
    """Returns texts per second of both sides over the rounds, and the least cosine."""
    model, corpus, texts = (FOLDER / name for name in (shape, f"{shape}.csv", f"{shape}.txt"))
    make_corpus(corpus, "short", SHAPES[shape])
    lines = one_line_each(corpus)
    texts.write_text("\n".join(lines) + "\n", encoding="utf8")
    output([args.peer_python, "scripts/family_peer.py", "--make", shape, "--tokenizer", args.tokenizer, "--out", str(model)])
    ours, peers = [], []
    for _ in range(args.rounds):
        printed = output([args.throughput, str(model), str(texts)])
        ours.append(float(re.match(r"([\d.]+) texts/s", printed)[1]))
        printed = output([args.peer_python, "scripts/family_peer.py", "--encode", str(model), "--texts", str(texts),
                          "--out", str(FOLDER / "peer.npy"), "--threads", str(cores)])
        peers.append(len(lines) / json.loads(printed.splitlines()[-1])["encode_seconds"])
    out = FOLDER / "out"
    shutil.rmtree(out, ignore_errors=True)
    output([args.encaje, "run", str(corpus), "--model", str(model), "--out", str(out)])
    cosine = np.einsum("ij,ij->i", read_vectors(out), np.load(FOLDER / "peer.npy")).min()
    shutil.rmtree(model)
    shutil.rmtree(f"{model}-body", ignore_errors=True)
    return ours, peers, cosine


def one_line_each(corpus):
    """Rewrites a corpus so that no text has more than one line, and returns its texts."""
    with corpus.open(encoding="utf8", newline="") as file:
        lines = [" ".join(row["text"].split()) for row in csv.DictReader(file)]
    with corpus.open("w", encoding="utf8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["text"], *([line] for line in lines)])
    return lines


def spread(values):
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--encaje", required=True)
    parser.add_argument("--throughput", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("shapes", nargs="*", default=list(SHAPES))
    args = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, f32, medians of {args.rounds} rounds in turns; tokenizing and encoding alone on both sides\n")
    print("| shape | texts | encaje texts/s (spread) | sentence-transformers texts/s (spread) | ratio | least cosine |")
    print("|---|---|---|---|---|---|")
    for shape in args.shapes:
        ours, peers, cosine = contest(args, shape, cores)
        ratio = statistics.median(ours) / statistics.median(peers)
        print(f"| {shape} | {SHAPES[shape]} | {spread(ours)} | {spread(peers)} | {ratio:.2f} | {cosine:.7f} |", flush=True)


main()
