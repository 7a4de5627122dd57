#!/usr/bin/env python3
"""Makes models of known shapes with random weights, and embeds with them by sentence-transformers: what
`make bench-families` compares encaje with.

python scripts/family_peer.py --make SHAPE --tokenizer MODEL_DIR --out DIR
python scripts/family_peer.py --encode MODEL_DIR --texts FILE --out FILE.npy [--threads N]

Encoding prints the seconds that it took, without imports and loading, as one JSON line.
"""

import argparse
import json
import os
import time

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer, models
from transformers import AutoTokenizer

# Class of the config, its differences from the defaults, and the pooling. Vocabularies are the tokenizer's.
SHAPES = {
    "mpnet-base": ("MPNetConfig", {}, "mean"),
    "modernbert-base": ("ModernBertConfig", {}, "cls"),
    "qwen3-0.6b": ("Qwen3Config", {
        "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128,
    }, "lasttoken"),
    "embeddinggemma-300m": ("Gemma3TextConfig", {
        "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 24, "num_attention_heads": 3,
        "num_key_value_heads": 1, "head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 512,
        "use_bidirectional_attention": True,
    }, "mean"),
    "t5-base": ("T5Config", {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}, "mean"),
}
STATIC_WIDTH = 256


def make(shape, tokenizer_dir, out):
    """Writes a model in sentence-transformers' layout."""
    torch.manual_seed(7)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    if shape == "static":
        from sentence_transformers.models import StaticEmbedding
        from tokenizers import Tokenizer

        words = Tokenizer.from_file(f"{tokenizer_dir}/tokenizer.json")
        words.no_padding()
        words.no_truncation()
        SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=STATIC_WIDTH)]).save(out)
        return
    name, settings, pooling = SHAPES[shape]
    tokens = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.cls_token_id,
              "eos_token_id": tokenizer.sep_token_id}
    config = getattr(transformers, name)(vocab_size=len(tokenizer), **tokens, **settings)
    folder = f"{out}-body"
    transformers.AutoModel.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    body = models.Transformer(folder, max_seq_length=512)
    width = body.get_embedding_dimension()
    SentenceTransformer(modules=[body, models.Pooling(width, pooling_mode=pooling)], device="cpu").save(out)


def encode(model_dir, texts_file, out, threads):
    torch.set_num_threads(threads)
    with open(texts_file, encoding="utf8") as file:
        texts = file.read().splitlines()
    model = SentenceTransformer(model_dir, device="cpu", model_kwargs={"dtype": torch.float32})
    model.encode(texts[:32], show_progress_bar=False)
    started = time.perf_counter()
    vectors = model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    seconds = time.perf_counter() - started
    np.save(out, vectors)
    print(json.dumps({"encode_seconds": seconds}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--make", choices=[*SHAPES, "static"])
    parser.add_argument("--tokenizer")
    parser.add_argument("--encode", metavar="MODEL_DIR")
    parser.add_argument("--texts")
    parser.add_argument("--out", required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    if args.make:
        make(args.make, args.tokenizer, args.out)
    else:
        encode(args.encode, args.texts, args.out, args.threads)


main()
