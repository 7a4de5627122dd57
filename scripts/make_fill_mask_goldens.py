#!/usr/bin/env python3
"""Makes worker/engine/testdata/fill_mask.json: what the `fill-mask` pipeline of transformers answers, on the tiny models.

    python scripts/make_fill_mask_goldens.py

`without` names tensors that are taken out of the model's file first: a decoder that is tied, a bias that is missing.
Needs torch, transformers, safetensors; run it after make_tiny_models.py.
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import pipeline

DATA = Path(__file__).resolve().parent.parent / "worker" / "engine" / "testdata"

TEXTS = [
    "Hoy vamos a comer unos {} de canasta.",
    "{}",
    "¡Qué {}! ¿Cómo estás, niño?",
    "El {} del vecino ladra toda la {}.",
    "Me{} la pasé {} el día {}",
]

CASES = [
    ("beto", []),
    ("bertin", []),
    ("mbert", []),
    ("mex_large", []),
    ("camembert", []),
    ("distilbert", []),
    ("mbert", ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"]),
    ("mbert", ["cls.predictions.bias", "cls.predictions.decoder.bias"]),
    ("bertin", ["lm_head.decoder.weight", "lm_head.decoder.bias"]),
    ("bertin", ["lm_head.bias", "lm_head.decoder.bias"]),
    ("distilbert", ["vocab_projector.weight"]),
]


def answers(directory):
    fill = pipeline("fill-mask", model=str(directory), device="cpu", top_k=5, dtype=torch.float32)
    mask = fill.tokenizer.mask_token
    return [{"text": text, "answer": fill(text.replace("{}", mask))} for text in TEXTS]


def main():
    cases = []
    for model, without in CASES:
        directory = DATA / model
        with tempfile.TemporaryDirectory() as copy:
            if without:
                directory = Path(copy) / model
                shutil.copytree(DATA / model, directory, ignore=shutil.ignore_patterns("*.bin"))
                tensors = load_file(directory / "model.safetensors")
                kept = {name: tensor for name, tensor in tensors.items() if name not in without}
                save_file(kept, directory / "model.safetensors", {"format": "pt"})
            cases.append({"model": model, "without": without, "answers": answers(directory)})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (DATA / "fill_mask.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
