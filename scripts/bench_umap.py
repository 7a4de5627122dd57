#!/usr/bin/env python3
"""Compares `encaje project` with umap-learn on the same vectors, one after the other, by time and by quality.

bench_umap.py --encaje BIN --pack BIN --model DIR --peer-python PYTHON [--rows 10000] [--dimensions 768] [--set DIR:COLUMN ...]

Vectors: real texts embedded by the model (first lines of docstrings by package, paragraphs of crates' documents by crate,
Django's messages by language, the sample corpus), random clusters (each in a subspace of its own, with noise), and any
output of `encaje run` given by --set. Quality, by scikit-learn, for both: trustworthiness (k = 15) and how often the label
of a point is that of most of its 15 neighbours in the plane; means and standard deviations over seeds. Time: of the
projection alone on both sides, and of the whole `encaje` command with reading and writing beside it. numba's compiling is
not counted.
"""

import argparse
import ast
import collections
import csv
import gettext
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as parquet

FOLDER = pathlib.Path("build/bench-umap")
CLUSTERS, SUBSPACE = 40, 12
FEW_ROWS, SEEDS_OF_FEW, SEEDS = 2_000, 8, 5
#: A loss below this is level; so is one within two standard errors.
LOSS_MAX, SPEEDUP_MIN = 0.002, 5.0
TEXTS_MAX, LABEL_TEXTS_MIN = 12_000, 60
LANGUAGES = ["de", "en_GB", "es", "fi", "fr", "hu", "it", "nl", "pl", "pt", "sv", "tr"]


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


def docstrings():
    """First paragraphs of docstrings of the packages beside this one, by package."""
    for root in sorted(pathlib.Path(np.__file__).parents[1].iterdir()):
        for file in sorted(root.rglob("*.py")) if root.is_dir() else []:
            try:
                nodes = ast.walk(ast.parse(file.read_text()))
            except (SyntaxError, UnicodeDecodeError):
                continue
            kinds = (ast.FunctionDef, ast.ClassDef, ast.Module)
            for text in [ast.get_docstring(node) for node in nodes if isinstance(node, kinds)]:
                yield (text or "").split("\n\n")[0], root.name


def documents():
    """Paragraphs of the documents of the crates that this program is built of, by the first word of the crate's name."""
    registry = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo")) / "registry/src"
    for file in sorted(registry.glob("*/*/README.md")) + sorted(registry.glob("*/*/CHANGELOG.md")):
        for text in file.read_text(errors="replace").split("\n\n"):
            if "```" not in text and "|" not in text:
                yield re.sub(r"[#*`\[\]]|\(http[^)]*\)", " ", text), re.split("[-_]", file.parent.name)[0]


def messages():
    """Django's messages, by language."""
    import django

    for language in LANGUAGES:
        for file in sorted(pathlib.Path(django.__file__).parent.glob(f"**/locale/{language}/LC_MESSAGES/*.mo")):
            with file.open("rb") as opened:
                for text in gettext.GNUTranslations(opened)._catalog.values():
                    yield re.sub(r"<[^>]+>|%\([a-z_]+\)[sd]|%[sd]", " ", text), language


def texts(args, name, found):
    """Embeds texts of 5 to 80 words whose label is not rare; at most so many, evenly."""
    rows = [(" ".join(text.split()), label) for text, label in found]
    rows = [row for row in rows if 5 <= len(row[0].split()) <= 80]
    counts = collections.Counter(label for _, label in rows)
    rows = [row for row in rows if counts[row[1]] >= LABEL_TEXTS_MIN]
    rows = rows[:: max(1, -(-len(rows) // TEXTS_MAX))]
    corpus, out = FOLDER / f"{name}.csv", FOLDER / name
    with corpus.open("w", newline="") as opened:
        csv.writer(opened).writerows([("text", "label"), *rows])
    run([args.encaje, "run", corpus, "--model", args.model, "--out", out, "--quiet", "--json"])
    return name, out, "label"


def quality(vectors, runs, labels):
    """Trustworthiness and label accuracy of several runs with positions in the plane: means and standard deviations."""
    found = [quality_of(vectors, places, labels) for places in runs]
    return np.mean(found, axis=0), np.std(found, axis=0)


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
    runs = SEEDS_OF_FEW if len(vectors) < FEW_ROWS else SEEDS
    facts, places = [], []
    for seed in range(42, 42 + runs):
        facts.append(json.loads(run([args.encaje, "project", target, "--label", column, "--quiet", "--json", "--force",
                                     "--seed", seed, "--coords", ours, "--out", FOLDER / f"{name}.html"])))
        table = parquet.read_table(ours, columns=["x", "y"])
        places.append(np.stack([table.column("x").to_numpy(), table.column("y").to_numpy()], axis=1))
    seconds, whole = (np.mean([one[key] for one in facts]) for key in ("umap_seconds", "seconds"))
    own, own_spread = quality(vectors, places, labels)
    print(f"\n{name}: {vectors.shape[0]} x {vectors.shape[1]}, {labels.max() + 1} labels, {os.cpu_count()} cores, {runs} seeds")
    print(f"  {'':28}{'seconds':>9}{'trust (k=15)':>18}{'label accuracy':>18}")
    print(f"  {'encaje, whole command':28}{whole:9.2f}")
    print(f"  {'encaje, projection':28}{seconds:9.2f}{figures(own, own_spread)}")
    peer = json.loads(run([args.peer_python, "scripts/umap_peer.py", "--vectors", plain, "--out", theirs, "--runs", runs]))
    other, other_spread = quality(vectors, np.load(theirs), labels)
    speedup = peer["seconds"] / seconds
    print(f"  {'umap-learn, every core':28}{peer['seconds']:9.2f}{figures(other, other_spread)}   {speedup:.1f} times encaje's time")
    errors = np.sqrt((own_spread**2 + other_spread**2) / runs)
    level = bool(np.all(own >= other - np.maximum(LOSS_MAX, 2 * errors)))
    print(f"  level in both (at most {LOSS_MAX} or two standard errors below), at least {SPEEDUP_MIN:.0f} times as fast: "
          f"{'yes' if level and speedup >= SPEEDUP_MIN else 'NO'}", flush=True)
    return level and speedup >= SPEEDUP_MIN


def figures(means, spreads):
    return "".join(f"{mean:10.4f} ±{spread:6.4f}" for mean, spread in zip(means, spreads))


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
    sets = [texts(args, name, found()) for name, found in
            [("docstrings", docstrings), ("documents", documents), ("messages", messages)]]
    sets += [("clusters", random, "label"), ("sample", sample, "label")]
    for given in args.set:
        folder, _, column = given.rpartition(":")
        sets.append((pathlib.Path(folder).name, pathlib.Path(folder), column))
    held = [compare(args, *each) for each in sets]
    sys.exit(0 if all(held) else 1)


main()
