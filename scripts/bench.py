#!/usr/bin/env python3
"""Times `encaje run` against sentence-transformers on one corpus and one machine, taking turns, and compares the vectors.

build/venv/bin/python scripts/bench.py --encaje BIN --model DIR --peer-python PYTHON [--rows 4000] [--rounds 3] [--csv FILE]

Both are timed as whole commands: start, load, read, embed, write. The seconds inside sentence-transformers' `encode` are
given too, and the ratio to them, which is the stricter comparison. Every text is distinct, since encaje embeds an exact
repeat once. Only the ratios carry over to other machines.
"""

import argparse
import csv
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as parquet

SAMPLE = pathlib.Path("samples/frases.csv")
FOLDER = pathlib.Path("build/bench")


def make_corpus(path, rows):
    """Writes `rows` distinct texts: the sample's sentences, then seeded pairs of them."""
    with SAMPLE.open(encoding="utf8", newline="") as file:
        sentences = [row["text"] for row in csv.DictReader(file)]
    texts = dict.fromkeys(sentences)
    chance = random.Random(7)
    while len(texts) < rows:
        texts[" ".join(chance.sample(sentences, 2))] = None
    with path.open("w", encoding="utf8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["text"])
        writer.writerows([text] for text in list(texts)[:rows])


def run(command):
    """Runs a command; returns its standard output, wall seconds and peak memory in MiB."""
    started = time.perf_counter()
    with (FOLDER / "stderr.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status != 0:
        sys.exit(f"{command[0]} failed:\n{(FOLDER / 'stderr.txt').read_text()}")
    return out, seconds, usage.ru_maxrss / 1024


def read_vectors(folder):
    tables = [parquet.read_table(part, columns=["row", "embedding"]) for part in sorted(folder.glob("part-*.parquet"))]
    columns = [column.combine_chunks() for table in tables for column in [table.column("embedding")]]
    return np.concatenate([column.flatten().to_numpy().reshape(len(column), -1) for column in columns])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--encaje", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--csv", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pooling", default="auto")
    args = parser.parse_args()

    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    corpus = args.csv or FOLDER / "corpus.csv"
    if not args.csv:
        make_corpus(corpus, args.rows)
    ours, theirs = FOLDER / "encaje", FOLDER / "peer.npy"

    rounds = []
    for number in range(1, args.rounds + 1):
        shutil.rmtree(ours, ignore_errors=True)
        common = ["--model", args.model, "--pooling", args.pooling]
        _, seconds, memory = run([args.encaje, "run", str(corpus), *common, "--out", str(ours)])
        peer = [args.peer_python, "scripts/peers.py", *common, "--csv", str(corpus), "--out", str(theirs)]
        out, peer_seconds, peer_memory = run(peer)
        facts = json.loads(out.strip().splitlines()[-1])
        rounds.append((seconds, peer_seconds, facts["encode_seconds"], memory, peer_memory))
        print(f"round {number}: encaje {seconds:.2f} s, sentence-transformers {peer_seconds:.2f} s "
              f"(encode alone {facts['encode_seconds']:.2f} s)")

    seconds, peer_seconds, encode_seconds, memory, peer_memory = (statistics.median(c) for c in zip(*rounds))
    rows, tokens = facts["rows"], facts["tokens"]
    cosine = np.einsum("ij,ij->i", read_vectors(ours), np.load(theirs))
    print(f"\n{rows} rows, {tokens} tokens, {os.cpu_count()} cores, medians of {args.rounds} rounds in turns")
    print(f"  encaje, whole command                 {seconds:8.2f} s {tokens / seconds:10.0f} tokens/s {memory:8.0f} MiB")
    print(f"  sentence-transformers, whole command  {peer_seconds:8.2f} s {tokens / peer_seconds:10.0f} tokens/s {peer_memory:8.0f} MiB")
    print(f"  sentence-transformers, encode alone   {encode_seconds:8.2f} s {tokens / encode_seconds:10.0f} tokens/s")
    print(f"encaje is {peer_seconds / seconds:.2f} times as fast as the whole command, "
          f"{encode_seconds / seconds:.2f} times as fast as encode alone")
    print(f"least cosine between the two over all rows: {cosine.min():.7f}")


main()
