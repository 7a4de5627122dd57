#!/usr/bin/env python3
"""Times `encaje run --reuse`: a corpus of which 1 % is new, against the first run, in one sitting.

build/venv/bin/python scripts/bench_reuse.py --encaje BIN --model DIR [--rows 20000]

The first run embeds N distinct short texts (two sentences each). The next corpora lack 1 % of them and have 1 % new ones, in the
same order and shuffled. All are timed as whole commands, from the CSV on disk to the Parquet on disk, with start and loading.
Fails where one of them takes more than 5 % of the first run.
"""

import argparse
import csv
import json
import pathlib
import random
import shutil
import sys

import bench

SHARE_NEW = 0.01
SHARE_MAX = 0.05


def read_texts(path):
    with path.open(encoding="utf8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def write_texts(path, texts):
    with path.open("w", encoding="utf8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["text"])
        writer.writerows([text] for text in texts)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--encaje", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=int, default=20000)
    args = parser.parse_args()
    bench.FOLDER = pathlib.Path("build/bench-reuse")
    shutil.rmtree(bench.FOLDER, ignore_errors=True)
    bench.FOLDER.mkdir(parents=True)

    def embed(texts, name, *more):
        corpus = bench.FOLDER / f"{name}.csv"
        write_texts(corpus, texts)
        command = [args.encaje, "run", str(corpus), "--model", args.model, "--out", str(bench.FOLDER / name), "--json", *more]
        printed, seconds, memory = bench.run(command)
        return json.loads(printed), seconds, memory

    new = int(args.rows * SHARE_NEW)
    pool = bench.FOLDER / "pool.csv"
    bench.make_corpus(pool, "short", args.rows + new)
    texts = read_texts(pool)
    first, added = texts[: args.rows], texts[args.rows :]
    chance = random.Random(7)
    gone = set(chance.sample(range(args.rows), new))
    same_order = [text for place, text in enumerate(first) if place not in gone]
    for text in added:
        same_order.insert(chance.randrange(len(same_order) + 1), text)
    shuffled = chance.sample(same_order, len(same_order))

    _, base, memory = embed(first, "first")
    print(f"{args.rows} short texts, of which {new} are new the next time; whole commands, CSV to Parquet\n")
    print("| run | seconds | of the first run | embedded | reused | peak MiB |\n|---|---|---|---|---|---|")
    print(f"| first | {base:.2f} | 100 % | {args.rows} | 0 | {memory:.0f} |")
    slow = False
    for name, corpus in [("in the same order", same_order), ("shuffled", shuffled)]:
        summary, seconds, memory = embed(corpus, name.replace(" ", "-"), "--reuse", str(bench.FOLDER / "first"))
        assert (summary["embedded"], summary["reused"]) == (new, args.rows - new), summary
        slow |= seconds > SHARE_MAX * base
        print(f"| {name} | {seconds:.2f} | {seconds / base:.1%} | {new} | {args.rows - new} | {memory:.0f} |")
    if slow:
        sys.exit(f"a run with {SHARE_NEW:.0%} new texts took more than {SHARE_MAX:.0%} of the first run")


if __name__ == "__main__":
    main()
