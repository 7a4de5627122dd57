#!/usr/bin/env python3
"""umap-learn on the vectors of an `encaje` output, timed, for `make bench-umap`.

umap_peer.py --vectors FILE.npy --out FILE.npy [--metric cosine] [--seed N]

Compiling (numba) is done on other vectors first and not counted. Without --seed umap-learn uses every core; with one it
uses one. Prints one JSON object.
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
    args = parser.parse_args()
    import umap

    vectors = np.load(args.vectors)
    rest = np.random.default_rng(0).normal(size=(5000, vectors.shape[1])).astype("f4")
    for rows in (500, 5000):  # exact and approximate neighbours are compiled apart
        umap.UMAP(metric=args.metric, n_epochs=11, random_state=args.seed).fit(rest[:rows])
    started = time.perf_counter()
    places = umap.UMAP(metric=args.metric, random_state=args.seed).fit_transform(vectors)
    seconds = time.perf_counter() - started
    np.save(args.out, places.astype("f4"))
    print(json.dumps({"seconds": seconds, "version": umap.__version__}))


main()
