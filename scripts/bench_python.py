"""Time `encaje.Model.encode` against sentence-transformers in one process each, in turns, and weigh a million texts.

build/peers/bin/python scripts/bench_python.py --model DIR [--texts 2000] [--rounds 5] [--million 1000000]

Both encode the same short texts in memory, in f32; seconds are those of the call alone. Then the vectors are compared, and the
peak memory of `encode` on a million short texts, given as a generator, is held against that of the result.
"""

import argparse
import csv
import json
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import time

SAMPLE = pathlib.Path("samples/frases.csv")


def texts_of(count, seed=11):
    """Make distinct short texts: seeded pairs of the sample's sentences."""
    with SAMPLE.open(encoding="utf8", newline="") as file:
        sentences = [row["text"] for row in csv.DictReader(file)]
    chance = random.Random(seed)
    texts = {}
    while len(texts) < count:
        texts[" ".join(chance.choices(sentences, k=2))] = None
    return list(texts)


def work(side, model, count, out):
    """Be one of the sides: answer each line of stdin with the seconds of a call."""
    import numpy as np

    texts = texts_of(count)
    if side == "encaje":
        import encaje

        loaded = encaje.Model(model)
        encode = lambda: loaded.encode(texts, show_progress_bar=False)
    else:
        from sentence_transformers import SentenceTransformer

        loaded = SentenceTransformer(model, device="cpu")
        encode = lambda: loaded.encode(texts, show_progress_bar=False, normalize_embeddings=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        vectors = encode()
        print(time.perf_counter() - started, flush=True)
    np.save(out, vectors)


def million(model, count):
    """Encode many short texts, and print the peak of memory, before and after, and the size of the result."""
    import encaje

    loaded = encaje.Model(model)
    loaded.encode(["uno"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    vectors = loaded.encode((f"{number} perro" for number in range(count)), show_progress_bar=False)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"before": before >> 10, "after": after >> 10, "result": vectors.nbytes >> 20, "seconds": seconds}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--million", type=int, default=1_000_000)
    parser.add_argument("--side", choices=["encaje", "st", "million"], help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side == "million":
        return million(arguments.model, arguments.million)
    if arguments.side:
        return work(arguments.side, arguments.model, arguments.texts, arguments.out)

    import numpy as np

    again = [sys.executable, __file__, "--model", arguments.model, "--texts", str(arguments.texts)]
    folder = pathlib.Path("build/bench-python")
    folder.mkdir(parents=True, exist_ok=True)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    sides = {
        side: subprocess.Popen([*again, "--side", side, "--out", str(folder / f"{side}.npy")], **pipes)
        for side in ("encaje", "st")
    }
    seconds = {side: [] for side in sides}
    # The first turn warms both.
    for turn in range(arguments.rounds + 1):
        for side, process in sides.items():
            print(file=process.stdin, flush=True)
            took = float(process.stdout.readline())
            if turn:
                seconds[side].append(took)
    for process in sides.values():
        process.stdin.close()
        assert process.wait() == 0
    ours, theirs = (np.load(folder / f"{side}.npy").astype(np.float64) for side in sides)
    cosine = ((ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)).min()
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    ratios = sorted(theirs / ours for ours, theirs in zip(seconds["encaje"], seconds["st"]))
    print(f"{arguments.texts} short texts, f32, {arguments.rounds} rounds in turns:")
    print(f"  encaje {medians['encaje']:.2f} s, sentence-transformers {medians['st']:.2f} s: "
          f"{medians['st'] / medians['encaje']:.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    print(f"  least cosine {cosine:.8f}")
    done = subprocess.run([*again, "--side", "million", "--million", str(arguments.million)], check=True, stdout=subprocess.PIPE)
    found = json.loads(done.stdout)
    beyond = found["after"] - found["before"] - found["result"]
    print(f"{arguments.million} short texts: {found['seconds']:.0f} s, the result has {found['result']} MiB, "
          f"the peak {beyond} MiB beyond it and what was there before ({found['before']} MiB)")


if __name__ == "__main__":
    main()
