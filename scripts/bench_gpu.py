#!/usr/bin/env python3
"""Times `encaje run --device cuda:0`, Parquet to Parquet, against sentence-transformers in fp16 on the same card.

python scripts/bench_gpu.py --encaje build/cuda/encaje --model DIR --peer-python PYTHON [--device cuda:0] [--dtype f16]

For texts of 32, 50, 128 and 512 tokens and of mixed lengths: tokens per second of the whole command, of the command
without its start and loading (by a second run on few rows), and of the peer's encoding alone (SDPA, sorted by length, texts in
memory); how busy the card was, by nvidia-smi; the least cosine to transformers in f32 on some rows. The share of the peak is
of the bf16 product that `encaje worker --self-test` measures on the same card. Figures are of this card and this run.
"""

import argparse
import csv
import json
import os
import pathlib
import random
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet

SAMPLE = pathlib.Path("samples/frases.csv")
FOLDER = pathlib.Path("build/bench-gpu")
LENGTHS = {"32": [32], "50": [50], "128": [128], "512": [512], "mixed": [8, 16, 24, 32, 48, 64, 128, 256, 512]}
COMPARED = 256

PEER = r"""
import json, sys, time
import numpy as np, torch
from sentence_transformers import SentenceTransformer, models
import pyarrow.parquet as parquet
model_dir, corpus, max_length, rows, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
texts = parquet.read_table(corpus, columns=["text"]).column("text").to_pylist()[:rows]
def encoder(dtype):
    body = models.Transformer(model_dir, max_seq_length=max_length, model_args={"torch_dtype": dtype, "attn_implementation": "sdpa"})
    pooling = models.Pooling(body.get_word_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(modules=[body, pooling], device="cuda")
half = encoder(torch.float16)
tokens = sum(min(len(ids), max_length) for ids in half.tokenizer(texts)["input_ids"])
best = None
for batch in (128, 512, 1024):
    try:
        half.encode(texts[:batch], batch_size=batch, normalize_embeddings=True)
        torch.cuda.synchronize(); started = time.perf_counter()
        half.encode(texts, batch_size=batch, normalize_embeddings=True)
        torch.cuda.synchronize(); seconds = time.perf_counter() - started
        best = min(best or (seconds, batch), (seconds, batch))
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
del half
torch.backends.cuda.matmul.allow_tf32 = False
np.save(out, encoder(torch.float32).encode(texts[:int(sys.argv[6])], batch_size=32, normalize_embeddings=True))
print(json.dumps({"tokens": tokens, "seconds": best[0], "batch": best[1]}))
"""


class Busy(threading.Thread):
    """Samples how busy the card is."""

    def __init__(self, ordinal):
        super().__init__(daemon=True)
        query = ["nvidia-smi", "-i", ordinal, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
        self.process = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
        self.samples = []
        self.start()

    def run(self):
        for line in self.process.stdout:
            # A card that is cut into several does not say.
            self.samples.append(float(line) if line.strip().isdigit() else 0.0)

    def percent(self):
        self.process.terminate()
        self.join()
        # The start and the loading are no work of the card.
        working = [sample for sample in self.samples if sample > 0]
        return sum(working) / len(working) if working else 0.0


def make_corpus(path, lengths, rows):
    """Writes distinct texts that are longer than their number of tokens: `--max-length` cuts them to it, or their words do."""
    with SAMPLE.open(encoding="utf8", newline="") as file:
        words = " ".join(row["text"] for row in csv.DictReader(file)).split()
    chance = random.Random(7)
    # A word has a token or more: with so many, only a single length is exact, by truncation.
    exact = len(lengths) == 1
    texts = [f"{row} " + " ".join(chance.choices(words, k=lengths[0] if exact else max(2, chance.choice(lengths) * 2 // 3))) for row in range(rows)]
    parquet.write_table(arrow.table({"text": texts}), path, row_group_size=65536)


def encaje(args, corpus, out, max_length):
    subprocess.run(["rm", "-rf", out], check=True)
    command = [args.encaje, "run", corpus, "--model", args.model, "--out", out, "--device", args.device, "--dtype", args.dtype,
               "--pooling", "mean", "--max-length", str(max_length), "--keep", "none", "--json", "--quiet"]
    started = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout), time.perf_counter() - started


def first_vectors(folder, count):
    part = sorted(pathlib.Path(folder).glob("part-*.parquet"))[0]
    column = parquet.read_table(part, columns=["embedding"]).column("embedding").combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)[:count]


def self_test(args):
    """Returns the fastest product in TFLOP/s, and the operations of a token; ends where a check fails."""
    command = [args.encaje, "worker", "--self-test", "--json", "--device", args.device, "--model", args.model]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    for event in events:
        if event["event"] == "check" and not event["passed"]:
            print(f"FAILED: {event}")
        if event["event"] == "measure":
            print(f"{event['name']}: {event['value']:,.1f} {event['unit']}")
    if done.returncode != 0:
        sys.exit(done.stderr or "the self-test failed")
    peak = max(e["value"] for e in events if e["event"] == "measure" and e["unit"] == "TFLOP/s" and "bf16" in e["name"])
    config = json.loads((pathlib.Path(args.model) / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    return peak, lambda tokens: config["num_hidden_layers"] * (8 * hidden**2 + 4 * hidden * inner + 4 * hidden * tokens)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--encaje", "--model", "--peer-python"):
        parser.add_argument(name, required=True)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--dtype", default="f16", choices=["f16", "bf16"])
    parser.add_argument("--rows-at-50", type=int, default=400_000, help="texts of 50 tokens; other lengths get as many tokens")
    args = parser.parse_args()
    # The numbers of nvidia-smi.
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    FOLDER.mkdir(parents=True, exist_ok=True)
    card = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True)
    print(card.stdout.strip())
    peak, operations = self_test(args)
    print(f"peak taken: {peak:.0f} TFLOP/s (measured bf16 product)\n")
    print("| tokens | encaje, whole | without start | of peak | card busy | peer | ratio | least cosine |\n|---|---|---|---|---|---|---|---|")
    for name, lengths in LENGTHS.items():
        mean = sum(lengths) / len(lengths)
        rows, corpus = int(args.rows_at_50 * 50 / mean), FOLDER / f"{name}.parquet"
        make_corpus(corpus, lengths, rows)
        make_corpus(FOLDER / "few.parquet", lengths, 64)
        _, idle = encaje(args, FOLDER / "few.parquet", FOLDER / "few", max(lengths))
        busy = Busy(args.device.removeprefix("cuda:"))
        summary, seconds = encaje(args, corpus, FOLDER / "out", max(lengths))
        percent = busy.percent()
        peer_rows = min(rows, int(4_000_000 / mean))
        peer = subprocess.run([args.peer_python, "-c", PEER, args.model, corpus, str(max(lengths)), str(peer_rows),
                               FOLDER / "peer.npy", str(COMPARED)], capture_output=True, text=True)
        if peer.returncode != 0:
            sys.exit(peer.stderr)
        peer = json.loads(peer.stdout.splitlines()[-1])
        theirs, ours = np.load(FOLDER / "peer.npy"), first_vectors(FOLDER / "out", COMPARED)
        cosine = (theirs * ours).sum(1) / np.linalg.norm(theirs, axis=1) / np.linalg.norm(ours, axis=1)
        tokens, net = summary["tokens"], max(seconds - idle, 1e-9)
        share = tokens / net * operations(tokens / rows) / (peak * 1e12)
        rate = peer["tokens"] / peer["seconds"]
        print(f"| {name} | {tokens / seconds:,.0f} | {tokens / net:,.0f} | {share:.0%} | {percent:.0f} % "
              f"| {rate:,.0f} (batch {peer['batch']}) | {tokens / net / rate:.2f} | {cosine.min():.6f} |", flush=True)


if __name__ == "__main__":
    main()
