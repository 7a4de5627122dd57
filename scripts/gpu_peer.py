#!/usr/bin/env python3
"""sentence-transformers on one GPU, for `bench_gpu.py` and the GPU kit: one JSON object per line in, one per line out.

python scripts/gpu_peer.py --model DIR [--device cuda]

{"encode": FILE.parquet, "rows": N, "max_length": N, "attention": "sdpa" | "flash_attention_2", "batches": [N, ...]}
    encodes the column `text` in fp16, sorted by length, with each batch size; the answer has the fastest: tokens, seconds, batch
{"reference": FILE.parquet, "rows": N, "max_length": N, "out": FILE.npy}    vectors in f32, without TF32
{"peak": N}            TFLOP/s of products of NxN matrices in bf16
{"hold_all_but": N}    takes the card's memory but for N bytes; 0 gives it back

Where something fails, the answer is {"error": ...}. The first line says what is there: {"ready": true, "torch": ..., ...}.
"""

import argparse
import gc
import json
import pathlib
import sys
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", required=True)
parser.add_argument("--device", default="cuda")
args = parser.parse_args()


def answer(**fields):
    print(json.dumps(fields), flush=True)


try:
    import numpy as np
    import pyarrow.parquet as parquet
    import sentence_transformers
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer

    if args.device != "cpu" and not torch.cuda.is_available():
        raise RuntimeError("torch sees no GPU")
except Exception as error:
    answer(error=f"{type(error).__name__}: {error}")
    sys.exit(1)

encoders = {}
held = []


def synchronize():
    if args.device != "cpu":
        torch.cuda.synchronize(args.device)


def encoder(dtype, attention):
    """Returns the model as its own files describe it, by default with mean pooling."""
    if (dtype, attention) not in encoders:
        kwargs = {"dtype": dtype, "attn_implementation": attention}
        encoders[dtype, attention] = SentenceTransformer(args.model, device=args.device, model_kwargs=kwargs)
    return encoders[dtype, attention]


def texts_of(path, rows):
    return parquet.read_table(path, columns=["text"]).column("text").to_pylist()[:rows]


def encode(model, texts, batch):
    return model.encode(texts, batch_size=batch, normalize_embeddings=True, show_progress_bar=False)


def fastest(request):
    texts = texts_of(request["encode"], request["rows"])
    model = encoder(torch.float16, request.get("attention", "sdpa"))
    model.max_seq_length = request["max_length"]
    ids = model.tokenizer(texts, truncation=True, max_length=request["max_length"])["input_ids"]
    best = None
    for batch in request["batches"]:
        try:
            encode(model, texts[:batch], batch)
            synchronize()
            started = time.perf_counter()
            encode(model, texts, batch)
            synchronize()
            seconds = time.perf_counter() - started
            best = min(best or (seconds, batch), (seconds, batch))
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
    if best is None:
        raise RuntimeError("out of memory with every batch size")
    return {"tokens": sum(map(len, ids)), "seconds": best[0], "batch": best[1]}


def reference(request):
    torch.backends.cuda.matmul.allow_tf32 = False
    model = encoder(torch.float32, "sdpa")
    model.max_seq_length = request["max_length"]
    np.save(request["out"], encode(model, texts_of(request["reference"], request["rows"]), 32))
    return {"saved": request["out"]}


def peak(size):
    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=args.device) for _ in range(2))
    for _ in range(3):
        a @ b
    synchronize()
    started = time.perf_counter()
    for _ in range(10):
        a @ b
    synchronize()
    return {"tflops": 10 * 2 * size**3 / (time.perf_counter() - started) / 1e12}


def hold_all_but(left):
    held.clear()
    encoders.clear()
    gc.collect()
    torch.cuda.empty_cache()
    if left:
        while (free := torch.cuda.mem_get_info(args.device)[0]) > left + (1 << 20):
            # In parts, since a single allocation of nearly everything may fail.
            held.append(torch.empty(min(free - left, 8 << 30), dtype=torch.uint8, device=args.device))
    return {"free": torch.cuda.mem_get_info(args.device)[0]}


def do(request):
    if "encode" in request:
        return fastest(request)
    if "reference" in request:
        return reference(request)
    if "peak" in request:
        return peak(request["peak"])
    return hold_all_but(request["hold_all_but"])


versions = {module.__name__: module.__version__ for module in (torch, transformers, sentence_transformers)}
answer(ready=True, model=str(pathlib.Path(args.model)), **versions)
for line in sys.stdin:
    try:
        answer(**do(json.loads(line)))
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}".splitlines()[0])
