#!/usr/bin/env python3
"""Times `encaje run --device cuda:0`, Parquet to Parquet, against sentence-transformers in fp16 on the same card.

python scripts/bench_gpu.py --encaje build/cuda/encaje --model DIR --peer-python PYTHON [--device cuda:0] [--dtype f16]

For texts of 32, 50, 128 and 512 tokens and of mixed lengths: tokens per second of the whole command, of the command
without its start and loading (by a second run on few rows), and of the peer's encoding alone (SDPA, sorted by length, texts in
memory); how busy the card was, by nvidia-smi; the least cosine to sentence-transformers in f32 on some rows. The share of the
peak is of the bf16 product that `encaje self-test` measures on the same card. Figures are of this card and this run.
"""

import argparse
import csv
import json
import os
import pathlib
import random
import shutil
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
BATCHES = [128, 512, 1024]


class Failed(Exception):
    """A command or a peer failed; the text is its message."""


class Busy(threading.Thread):
    """Samples the utilisation of the card."""

    def __init__(self, device):
        super().__init__(daemon=True)
        query = ["nvidia-smi", "-i", device.removeprefix("cuda:"), "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
        self.process = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
        self.samples = []
        self.start()

    def run(self):
        for line in self.process.stdout:
            # A partitioned card (MIG) does not report it.
            self.samples.append(float(line) if line.strip().isdigit() else 0.0)

    def percent(self):
        self.process.terminate()
        self.join()
        # Excludes the start and the loading.
        working = [sample for sample in self.samples if sample > 0]
        return sum(working) / len(working) if working else 0.0


class Peer:
    """A process of gpu_peer.py."""

    def __init__(self, python, model, device="cuda"):
        script = pathlib.Path(__file__).with_name("gpu_peer.py")
        command = [python, script, "--model", model, "--device", device]
        # Logs go to a file, since nothing reads a pipe.
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.ready = self.problem = None

    def wait(self):
        """Returns its description, once it is loaded."""
        if self.problem is not None:
            raise Failed(self.problem)
        if self.ready is None:
            try:
                self.ready = self._answer()
            except Failed as error:
                self.problem = str(error)
                raise
        return self.ready

    def ask(self, **request):
        self.wait()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._answer()

    def _answer(self):
        # Libraries print to stdout too.
        for line in self.process.stdout:
            if line.startswith("{"):
                fields = json.loads(line)
                if "error" in fields:
                    raise Failed(f"sentence-transformers: {fields['error']}")
                return fields
        raise Failed(f"sentence-transformers ended with {self.process.wait()}")

    def close(self):
        self.process.kill()
        self.process.wait()


def sample_words(sample):
    with open(sample, encoding="utf8", newline="") as file:
        return " ".join(row["text"] for row in csv.DictReader(file)).split()


def make_corpus(path, lengths, rows, sample=SAMPLE):
    """Writes distinct texts with more tokens than needed: they are truncated by `--max-length` or by their number of words."""
    words, chance = sample_words(sample), random.Random(7)
    # A word has one or more tokens, so only a single length is exact, by truncation.
    exact = len(lengths) == 1
    words, starts, texts = words + words[:max(lengths)], range(len(words)), []
    for row in range(rows):
        count, start = lengths[0] if exact else max(2, chance.choice(lengths) * 2 // 3), chance.choice(starts)
        texts.append(f"{row} {' '.join(words[start:start + count])}")
    parquet.write_table(arrow.table({"text": texts}), path, row_group_size=65536)


def run_command(encaje, corpus, out, model, device, dtype, max_length=None):
    """Returns the arguments of a run."""
    command = [encaje, "run", corpus, "--model", model, "--out", out, "--device", device, "--dtype", dtype,
               "--keep", "none", "--json", "--quiet"]
    # sentence-transformers defaults to mean pooling where the model's files do not state it.
    if not (pathlib.Path(model) / "modules.json").exists():
        command += ["--pooling", "mean"]
    if max_length:
        command += ["--max-length", max_length]
    return [str(part) for part in command]


def embed(command):
    """Runs the arguments of `run_command`, and returns the summary and the elapsed seconds."""
    shutil.rmtree(command[command.index("--out") + 1], ignore_errors=True)
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(done.stderr.strip() or f"encaje ended with {done.returncode}")
    return json.loads(done.stdout), time.perf_counter() - started


def first_vectors(folder, count):
    part = sorted(pathlib.Path(folder).glob("part-*.parquet"))[0]
    column = parquet.read_table(part, columns=["embedding"]).column("embedding").combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)[:count]


def rate_without_start(tokens, seconds, idle):
    """Returns tokens per second without start and loading, unless the run was hardly longer than these."""
    return tokens / (seconds - idle if seconds > 1.2 * idle else seconds)


def least_cosine(theirs, ours):
    """Returns the smallest cosine of rows; NaN where a vector is not finite."""
    norms = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours, axis=1)
    return float(((theirs * ours).sum(1) / norms).min())


def operations_per_token(model):
    """Returns a function from the tokens of a text to the floating-point operations per token."""
    config = json.loads((pathlib.Path(model) / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    return lambda tokens: config["num_hidden_layers"] * (8 * hidden**2 + 4 * hidden * inner + 4 * hidden * tokens)


def peak_of(events):
    """Returns the fastest bf16 product of a self-test, in TFLOP/s."""
    return max((e["value"] for e in events if e["event"] == "measure" and e["unit"] == "TFLOP/s" and "bf16" in e["name"]), default=None)


def self_test(args):
    """Returns the fastest product in TFLOP/s; exits if a check fails."""
    command = [args.encaje, "self-test", "--json", "--device", args.device, "--model", args.model]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    for event in events:
        if event["event"] == "check" and not event["passed"]:
            print(f"FAILED: {event}")
        if event["event"] == "measure":
            print(f"{event['name']}: {event['value']:,.1f} {event['unit']}")
    if done.returncode != 0:
        raise Failed(done.stderr or "the self-test failed")
    return peak_of(events)


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
    peak, operations = self_test(args), operations_per_token(args.model)
    print(f"peak taken: {peak:.0f} TFLOP/s (measured bf16 product)\n")
    print("| tokens | encaje, whole | without start | of peak | card busy | peer | ratio | least cosine |\n|---|---|---|---|---|---|---|---|")
    peer = Peer(args.peer_python, args.model, args.device)

    def run(corpus, out, longest):
        return embed(run_command(args.encaje, corpus, out, args.model, args.device, args.dtype, longest))

    for name, lengths in LENGTHS.items():
        mean = sum(lengths) / len(lengths)
        rows, corpus, longest = int(args.rows_at_50 * 50 / mean), FOLDER / f"{name}.parquet", max(lengths)
        make_corpus(corpus, lengths, rows)
        make_corpus(FOLDER / "few.parquet", lengths, 64)
        _, idle = run(FOLDER / "few.parquet", FOLDER / "few", longest)
        busy = Busy(args.device)
        summary, seconds = run(corpus, FOLDER / "out", longest)
        percent = busy.percent()
        theirs = peer.ask(encode=str(corpus), rows=min(rows, int(4_000_000 / mean)), max_length=longest, batches=BATCHES)
        peer.ask(reference=str(corpus), rows=COMPARED, max_length=longest, out=str(FOLDER / "peer.npy"))
        cosine = least_cosine(np.load(FOLDER / "peer.npy"), first_vectors(FOLDER / "out", COMPARED))
        tokens = summary["tokens"]
        ours, rate = rate_without_start(tokens, seconds, idle), theirs["tokens"] / theirs["seconds"]
        share = ours * operations(tokens / rows) / (peak * 1e12)
        print(f"| {name} | {tokens / seconds:,.0f} | {ours:,.0f} | {share:.0%} | {percent:.0f} % "
              f"| {rate:,.0f} (batch {theirs['batch']}) | {ours / rate:.2f} | {cosine:.6f} |", flush=True)
    peer.close()


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(str(error))
