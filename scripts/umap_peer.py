#!/usr/bin/env python3
"""umap-learn on the vectors of an `encaje` output, timed, for `make bench-umap`.

umap_peer.py --vectors FILE.npy --out FILE.npy [--metric cosine] [--seed N] [--runs 1]

Compiling (numba) is done on other vectors first and not counted. Without --seed umap-learn uses every core; with one it
uses one, and the runs have the seeds N, N + 1, ... Writes places (runs x rows x 2) and prints one JSON object, with the
mean of the seconds.
"""

import argparse
import json
import time
import warnings

import numpy as np

warnings.filterwarnings("ignore")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vectors", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--metric", default="cosine")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--runs", type=int, default=1)
    args = parser.parse_args()
    import umap

    vectors = np.load(args.vectors)
    rest = np.random.default_rng(0).normal(size=(5000, vectors.shape[1])).astype("f4")
    for rows in (500, 5000):  # exact and approximate neighbours are compiled apart
        umap.UMAP(metric=args.metric, n_epochs=11, random_state=args.seed).fit(rest[:rows])
    places = []
    started = time.perf_counter()
    for run in range(args.runs):
        seed = None if args.seed is None else args.seed + run
        places.append(umap.UMAP(metric=args.metric, random_state=seed).fit_transform(vectors))
    seconds = (time.perf_counter() - started) / args.runs
    np.save(args.out, np.stack(places).astype("f4"))
    print(json.dumps({"seconds": seconds, "version": umap.__version__}))


main()
