#!/usr/bin/env python3
"""Makes reference.npy: the vectors of samples/frases.csv by sentence-transformers in f32 on a CPU, for all-MiniLM-L6-v2 with
weights rounded to f16, which is what the kit carries. reference.json says of what, so that a stale one is noticed.

python scripts/gpu_kit/reference.py --model build/models/all-MiniLM-L6-v2    # needs torch and sentence-transformers
"""

import argparse
import csv
import json
import pathlib
import sys
import tempfile

import numpy as np
import sentence_transformers
import torch

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import gpu_kit

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", required=True, type=pathlib.Path)
args = parser.parse_args()

with tempfile.TemporaryDirectory() as folder:
    model = pathlib.Path(folder) / "model"
    gpu_kit.copy_model(args.model, model)
    with gpu_kit.CORPUS.open(encoding="utf8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    encoder = sentence_transformers.SentenceTransformer(str(model), device="cpu", model_kwargs={"dtype": torch.float32})
    vectors = encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    assert vectors.dtype == np.float32 and np.isfinite(vectors).all()
    np.save(HERE / "reference.npy", vectors)
    made_of = gpu_kit.digests(model) | {"sentence-transformers": sentence_transformers.__version__}
    (HERE / "reference.json").write_text(json.dumps(made_of, indent=1) + "\n")
    print(f"{len(texts)} vectors of {vectors.shape[1]}")
