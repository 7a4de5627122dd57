#!/usr/bin/env python3
"""Embeds one CSV with sentence-transformers, the way a user would: what `make bench` compares encaje with.

python scripts/peers.py --model DIR --csv FILE --out FILE.npy [--pooling auto|cls|mean] [--batch 32] [--threads N]

Prints one JSON line: rows, tokens, and the seconds that `encode` alone took, without imports and model loading.
"""

import argparse
import csv
import json
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--csv", required=True)
parser.add_argument("--out", required=True)
parser.add_argument("--pooling", default="auto", choices=["auto", "cls", "mean"])
parser.add_argument("--text-column", default="text")
parser.add_argument("--max-length", type=int)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--threads", type=int, default=os.cpu_count())
args = parser.parse_args()

import numpy as np
import torch
from sentence_transformers import SentenceTransformer, models

torch.set_num_threads(args.threads)
with open(args.csv, encoding="utf8", newline="") as file:
    texts = [row[args.text_column] for row in csv.DictReader(file)]

if args.pooling == "auto":
    model = SentenceTransformer(args.model, device="cpu")
else:
    encoder = models.Transformer(args.model)
    pooling = models.Pooling(encoder.get_word_embedding_dimension(), pooling_mode=args.pooling)
    model = SentenceTransformer(modules=[encoder, pooling], device="cpu")
if args.max_length:
    model.max_seq_length = args.max_length

started = time.perf_counter()
vectors = model.encode(texts, batch_size=args.batch, normalize_embeddings=True, show_progress_bar=False)
seconds = time.perf_counter() - started

np.save(args.out, vectors.astype(np.float32))
ids = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
print(json.dumps({"rows": len(texts), "tokens": sum(map(len, ids)), "encode_seconds": seconds}))
