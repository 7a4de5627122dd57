#!/usr/bin/env python3
"""Compares `encaje project` with umap-learn on the same vectors, one after the other, by time and by quality.

bench_umap.py --encaje BIN --pack BIN --model DIR --peer-python PYTHON [--rows 10000] [--dimensions 768] [--set DIR:COLUMN ...]

Vectors: random clusters (each in a subspace of its own, with noise), the sample corpus embedded by the model where there
is one, and any output of `encaje run` given by --set. Quality, by scikit-learn, for both: trustworthiness (k = 15) and
how often the label of a point is that of most of its 15 neighbours in the plane. Time: of the projection alone on both
sides, and of the whole `encaje` command with reading and writing beside it. numba's compiling is not counted. Of few rows
chance decides (another seed moves either program by more than the two differ): they are projected with several seeds, and
the numbers are means.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as parquet

FOLDER = pathlib.Path("build/bench-umap")
CLUSTERS, SUBSPACE = 40, 12
FEW_ROWS, SEEDS_OF_FEW = 2_000, 8
TRUST_LOSS_MAX, ACCURACY_LOSS_MAX, SPEEDUP_MIN = 0.01, 0.02, 5.0


def run(command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nfailed with exit code {done.returncode}")
    return done.stdout


def clusters(rows, dimensions):
    chance = np.random.default_rng(1)
    labels = chance.integers(0, CLUSTERS, rows)
    vectors = np.empty((rows, dimensions), "f4")
    for label in range(CLUSTERS):
        members = np.flatnonzero(labels == label)
        centre = 0.3 * chance.normal(size=dimensions)
        plane = 0.25 * chance.normal(size=(SUBSPACE, dimensions))
        noise = 0.25 * chance.normal(size=(len(members), dimensions))
        vectors[members] = centre + chance.normal(size=(len(members), SUBSPACE)) @ plane + noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def pack(program, out, vectors, labels):
    """Writes vectors as an output file of encaje."""
    raw, codes = out.with_suffix(".f32"), out.with_suffix(".u32")
    vectors.astype("<f4").tofile(raw)
    labels.astype("<u4").tofile(codes)
    run([program, raw, vectors.shape[1], codes, out])
    raw.unlink()
    codes.unlink()


def load(target, column):
    files = sorted(target.glob("part-*.parquet")) if target.is_dir() else [target]
    table = pa.concat_tables([parquet.read_table(file, columns=["embedding", "error", column]) for file in files])
    table = table.filter(pa.compute.is_null(table.column("error")))
    vectors = table.column("embedding").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    _, labels = np.unique(np.array(table.column(column).to_pylist(), dtype=str), return_inverse=True)
    return vectors.reshape(table.num_rows, -1).astype("f4"), labels


def quality(vectors, runs, labels):
    """Averages over several runs with positions in the plane, runs x rows x 2."""
    return np.mean([quality_of(vectors, places, labels) for places in runs], axis=0)


def quality_of(vectors, places, labels):
    from sklearn.manifold import trustworthiness
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=15).fit(places).kneighbors(return_distance=False)
    hits = [np.bincount(labels[row]).argmax() == own for row, own in zip(near, labels)]
    return trustworthiness(vectors, places, n_neighbors=15, metric="cosine"), float(np.mean(hits))


def compare(args, name, target, column):
    vectors, labels = load(target, column)
    plain, theirs, ours = FOLDER / f"{name}.npy", FOLDER / f"{name}.peer.npy", FOLDER / f"{name}.xy.parquet"
    np.save(plain, vectors)
    runs = SEEDS_OF_FEW if len(vectors) < FEW_ROWS else 1
    facts, places = [], []
    for seed in range(42, 42 + runs):
        facts.append(json.loads(run([args.encaje, "project", target, "--label", column, "--quiet", "--json", "--force",
                                     "--seed", seed, "--coords", ours, "--out", FOLDER / f"{name}.html"])))
        table = parquet.read_table(ours, columns=["x", "y"])
        places.append(np.stack([table.column("x").to_numpy(), table.column("y").to_numpy()], axis=1))
    seconds, whole = (np.mean([one[key] for one in facts]) for key in ("umap_seconds", "seconds"))
    trust, accuracy = quality(vectors, places, labels)
    print(f"\n{name}: {vectors.shape[0]} x {vectors.shape[1]}, {labels.max() + 1} labels, {os.cpu_count()} cores, "
          f"{runs} seed{'s' if runs > 1 else ''}")
    print(f"  {'':28}{'seconds':>9}{'trust (k=15)':>14}{'label accuracy':>16}")
    print(f"  {'encaje, whole command':28}{whole:9.2f}")
    print(f"  {'encaje, projection':28}{seconds:9.2f}{trust:14.4f}{accuracy:16.4f}")
    holds = True
    for words, seed in (("umap-learn, every core", []), ("umap-learn, seeded", ["--seed", "42"])):
        peer = json.loads(run([args.peer_python, "scripts/umap_peer.py", "--vectors", plain, "--out", theirs,
                               "--runs", runs, *seed]))
        their_trust, their_accuracy = quality(vectors, np.load(theirs), labels)
        speedup = peer["seconds"] / seconds
        print(f"  {words:28}{peer['seconds']:9.2f}{their_trust:14.4f}{their_accuracy:16.4f}   {speedup:.1f} times encaje's time")
        close = trust >= their_trust - TRUST_LOSS_MAX and accuracy >= their_accuracy - ACCURACY_LOSS_MAX
        holds = holds and close and speedup >= SPEEDUP_MIN
    print(f"  trust at most {TRUST_LOSS_MAX} and accuracy at most {ACCURACY_LOSS_MAX} below, at least "
          f"{SPEEDUP_MIN:.0f} times as fast: {'yes' if holds else 'NO'}", flush=True)
    return holds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--encaje", required=True)
    parser.add_argument("--pack", required=True, help="the example pack_vectors of the crate dataset")
    parser.add_argument("--model", required=True)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=768)
    parser.add_argument("--set", action="append", default=[], metavar="DIR:COLUMN")
    args = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    sample = FOLDER / "sample"
    run([args.encaje, "run", "samples/frases.csv", "--model", args.model, "--out", sample, "--quiet", "--json"])
    random = FOLDER / "clusters.parquet"
    vectors, labels = clusters(args.rows, args.dimensions)
    pack(args.pack, random, vectors, labels)
    sets = [("clusters", random, "label"), ("sample", sample, "label")]
    for given in args.set:
        folder, _, column = given.rpartition(":")
        sets.append((pathlib.Path(folder).name, pathlib.Path(folder), column))
    held = [compare(args, *each) for each in sets]
    sys.exit(0 if all(held) else 1)


main()
