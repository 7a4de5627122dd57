#!/usr/bin/env python3
"""Embeds one CSV the way a user would without encaje: what `make bench` compares it with. CLS tokens, normalised.

python scripts/peers.py --mode st|ort|ort-int8 --model DIR --csv FILE --out FILE.npy [--batch 32] [--threads N]
python scripts/peers.py --make-bert-base DIR --model DIR_WITH_A_TOKENIZER

Prints one JSON line: rows, tokens, the operations that a token's linear layers take, and the seconds that encoding alone
took, without imports, loading and export. Texts are sorted by length, as sentence-transformers does by itself.
"""

import argparse
import csv
import json
import os
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("--mode", choices=["st", "ort", "ort-int8"])
parser.add_argument("--make-bert-base", metavar="DIR")
parser.add_argument("--model", required=True)
parser.add_argument("--csv")
parser.add_argument("--out")
parser.add_argument("--text-column", default="text")
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--threads", type=int, default=os.cpu_count())
args = parser.parse_args()

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

torch.set_num_threads(args.threads)


def make_bert_base(folder):
    """Writes a model of BERT-base's shape with seeded random weights and the other model's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    torch.manual_seed(7)
    tokenizer.save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(tokenizer)), add_pooling_layer=False).save_pretrained(folder)


def sentence_transformers(max_length):
    from sentence_transformers import SentenceTransformer, models

    encoder = models.Transformer(args.model, max_seq_length=max_length)
    pooling = models.Pooling(encoder.get_word_embedding_dimension(), pooling_mode="cls")
    model = SentenceTransformer(modules=[encoder, pooling], device="cpu")
    return lambda texts: model.encode(texts, batch_size=args.batch, show_progress_bar=False)


def onnx_runtime(tokenizer, max_length, int8):
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = AutoModel.from_pretrained(args.model, add_pooling_layer=False, attn_implementation="eager").eval()
    example = tokenizer(["uno", "dos y tres"], return_tensors="pt", padding=True)
    names = list(example)

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model.requires_grad_(False)

        def forward(self, *inputs):
            return self.model(**dict(zip(names, inputs))).last_hidden_state

    folder = tempfile.mkdtemp()
    path = f"{folder}/model.onnx"
    torch.onnx.export(Encoder(), tuple(example[name] for name in names), path, input_names=names, output_names=["h"],
                      opset_version=17, dynamo=False, dynamic_axes={name: {0: "b", 1: "s"} for name in [*names, "h"]})
    if int8:
        quantize_dynamic(path, f"{folder}/int8.onnx", weight_type=QuantType.QInt8)
        path = f"{folder}/int8.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def encode(texts):
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
        out = [None] * len(texts)
        for start in range(0, len(order), args.batch):
            places = order[start:start + args.batch]
            batch = tokenizer([texts[at] for at in places], return_tensors="np", padding=True, truncation=True,
                              max_length=max_length)
            vectors = session.run(None, {name: batch[name] for name in names})[0][:, 0]
            for at, vector in zip(places, vectors):
                out[at] = vector
        return np.stack(out)

    return encode


def main():
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    with open(args.csv, encoding="utf8", newline="") as file:
        texts = [row[args.text_column] for row in csv.DictReader(file)]
    config = AutoModel.from_pretrained(args.model).config
    own = f"{args.model}/sentence_bert_config.json"
    max_length = config.max_position_embeddings
    if os.path.exists(own):
        with open(own) as file:
            max_length = json.load(file).get("max_seq_length") or max_length
    encode = sentence_transformers(max_length) if args.mode == "st" else onnx_runtime(tokenizer, max_length, args.mode == "ort-int8")
    encode(texts[:args.batch])

    started = time.perf_counter()
    vectors = np.asarray(encode(texts), dtype=np.float32)
    seconds = time.perf_counter() - started

    np.save(args.out, vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12))
    tokens = sum(map(len, tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]))
    hidden, inner = config.hidden_size, config.intermediate_size
    flops = 2 * config.num_hidden_layers * (4 * hidden * hidden + 2 * hidden * inner)
    print(json.dumps({"rows": len(texts), "tokens": tokens, "flops_per_token": flops, "encode_seconds": seconds}))


make_bert_base(args.make_bert_base) if args.make_bert_base else main()
