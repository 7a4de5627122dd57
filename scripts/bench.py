#!/usr/bin/env python3
"""Times `encaje run` against sentence-transformers and ONNX Runtime on one machine, in turns, and compares the vectors.

build/venv/bin/python scripts/bench.py --encaje BIN --model DIR --peer-python PYTHON [--rounds 5] [--quick] [--csv FILE]

Encaje is timed as a whole command, from the CSV on disk to the verified Parquet on disk, with start and loading. The peers
are timed more kindly: only the seconds of encoding, on texts in memory, without start, loading or export. Models are the
given one (real weights) and, unless --csv is given, one of BERT-base's shape with random weights; texts are short (about
30 tokens), long (512 and more) and mixed. Every text is distinct, since encaje embeds an exact repeat once. Contenders take
turns; figures are medians, and only the ratios carry over to other machines.
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
OURS = ["f32", "bf16", "int8"]
PEERS = ["st", "ort", "ort-int8"]
NAMES = {"st": "sentence-transformers f32", "ort": "ONNX Runtime f32", "ort-int8": "ONNX Runtime dynamic int8"}
# Rows of each corpus, for a small model; the larger one gets a tenth.
ROWS = {"short": 6000, "long": 400, "mixed": 2400}


def make_corpus(path, kind, rows):
    """Writes distinct texts: seeded concatenations of the sample's sentences, as many as the kind of corpus needs."""
    with SAMPLE.open(encoding="utf8", newline="") as file:
        sentences = [row["text"] for row in csv.DictReader(file)]
    chance = random.Random(7)
    lengths = {"short": lambda: 2, "long": lambda: 60, "mixed": lambda: chance.choice([1, 1, 2, 2, 4, 8, 16, 32])}[kind]
    texts = {}
    while len(texts) < rows:
        texts[" ".join(chance.choices(sentences, k=lengths()))] = None
        if len(texts) == len(sentences) and kind == "mixed":
            lengths = lambda: chance.choice([2, 2, 3, 4, 8, 16, 32])
    with path.open("w", encoding="utf8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["text"])
        writer.writerows([text] for text in texts)


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


def sgemm_peak():
    """Returns the GFLOP/s of numpy's product of two large f32 matrices on all cores: the machine's peak."""
    side = 3072
    left, right = (np.random.default_rng(seed).random((side, side), dtype=np.float32) for seed in (1, 2))
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds) / 1e9


def read_vectors(folder):
    tables = [parquet.read_table(part, columns=["row", "embedding"]) for part in sorted(folder.glob("part-*.parquet"))]
    columns = [column.combine_chunks() for table in tables for column in [table.column("embedding")]]
    return np.concatenate([column.flatten().to_numpy().reshape(len(column), -1) for column in columns])


class Contest:
    """One model on one corpus."""

    def __init__(self, args, model, corpus, threads):
        self.args, self.model, self.corpus, self.threads = args, model, corpus, threads
        self.seconds, self.memory, self.vectors, self.facts = {}, {}, {}, {}

    def turn(self, who):
        if who in OURS:
            out = FOLDER / f"encaje-{who}"
            shutil.rmtree(out, ignore_errors=True)
            command = [self.args.encaje, "run", str(self.corpus), "--model", str(self.model), "--pooling", "cls",
                       "--dtype", who, "--threads", str(self.threads), "--out", str(out)]
            _, seconds, memory = run(command)
            self.vectors.setdefault(who, read_vectors(out))
        else:
            out = FOLDER / "peer.npy"
            command = [self.args.peer_python, "scripts/peers.py", "--mode", who, "--model", str(self.model),
                       "--csv", str(self.corpus), "--out", str(out), "--threads", str(self.threads)]
            printed, _, memory = run(command)
            self.facts = json.loads(printed.strip().splitlines()[-1])
            seconds = self.facts["encode_seconds"]
            self.vectors.setdefault(who, np.load(out))
        self.seconds.setdefault(who, []).append(seconds)
        self.memory[who] = memory

    def report(self, title, peak):
        rows, tokens = self.facts["rows"], self.facts["tokens"]
        print(f"\n### {title}: {rows} texts, {tokens} tokens, {self.threads} threads\n")
        print("| who | seconds (spread) | texts/s | tokens/s | GFLOP/s | of sgemm | peak MiB | least cosine | speed, of st | of ORT f32 | of ORT int8 |")
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        for who, seconds in self.seconds.items():
            middle = statistics.median(seconds)
            cosine = np.einsum("ij,ij->i", self.vectors[who], self.vectors["st"]).min()
            speed = tokens * self.facts["flops_per_token"] / middle / 1e9
            ratios = [f"{statistics.median(self.seconds[peer]) / middle:.2f}" for peer in PEERS]
            name = f"encaje {who}" if who in OURS else NAMES[who]
            print(f"| {name} | {middle:.2f} ({min(seconds):.2f}–{max(seconds):.2f}) | {rows / middle:.0f} | {tokens / middle:.0f} "
                  f"| {speed:.0f} | {speed / peak:.0%} | {self.memory[who]:.0f} | {cosine:.6f} | {' | '.join(ratios)} |")
        f32 = statistics.median(self.seconds["f32"])
        print(f"\nbf16 is {f32 / statistics.median(self.seconds['bf16']):.2f} times, int8 "
              f"{f32 / statistics.median(self.seconds['int8']):.2f} times as fast as f32.")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--encaje", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--csv", type=pathlib.Path, help="one corpus of your own, column `text`, instead of those made")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="the given model on short texts alone")
    args = parser.parse_args()

    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    cores = len(os.sched_getaffinity(0))
    models = {"given model": pathlib.Path(args.model)}
    kinds = ["short"] if args.quick or args.csv else list(ROWS)
    if not (args.quick or args.csv):
        models["BERT-base shape, random weights"] = FOLDER / "bert-base"
        run([args.peer_python, "scripts/peers.py", "--make-bert-base", str(FOLDER / "bert-base"), "--model", args.model])
    peak = sgemm_peak()
    print(f"{cores} cores; medians of {args.rounds} rounds, taking turns; GFLOP/s are those of the linear layers")
    print(f"of sgemm: of the {peak:.0f} GFLOP/s that numpy reaches with two large f32 matrices on all cores")
    print("encaje: the whole command, CSV to Parquet. Peers: encoding alone, texts and model in memory.")
    for name, model in models.items():
        for kind in kinds:
            corpus = args.csv or FOLDER / f"{kind}.csv"
            if not args.csv:
                make_corpus(corpus, kind, ROWS[kind] // (1 if model == pathlib.Path(args.model) else 10))
            contest = Contest(args, model, corpus, cores)
            for _ in range(args.rounds):
                for who in [item for pair in zip(OURS, PEERS) for item in pair]:
                    contest.turn(who)
            contest.report(f"{name}, {'your' if args.csv else kind} texts", peak)
    scaling(args, FOLDER / "short.csv", cores)


def scaling(args, corpus, cores):
    """Returns the speedup of all cores over one."""
    if args.csv or cores == 1:
        return
    make_corpus(corpus, "short", ROWS["short"])
    one, all_cores = Contest(args, args.model, corpus, 1), Contest(args, args.model, corpus, cores)
    for _ in range(args.rounds):
        one.turn("f32")
        all_cores.turn("f32")
    ratio = statistics.median(one.seconds["f32"]) / statistics.median(all_cores.seconds["f32"])
    print(f"\n{cores} threads are {ratio:.2f} times as fast as one (f32, short texts, whole command).")


if __name__ == "__main__":
    main()
