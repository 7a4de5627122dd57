#!/usr/bin/env python3
"""Makes engine/testdata/fill_mask.json: what the `fill-mask` pipeline of transformers answers, on the tiny models.

    python scripts/make_fill_mask_goldens.py

`without` names tensors that are taken out of the model's file first: a decoder that is tied, a bias that is missing.
`scaled` multiplies a tensor by a number and writes it under a second name; `untied` sets `tie_word_embeddings` to false.
Needs torch, transformers, safetensors; run it after make_tiny_models.py.
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import pipeline

DATA = Path(__file__).resolve().parent.parent / "engine" / "testdata"

TEXTS = [
    "Hoy vamos a comer unos {} de canasta.",
    "{}",
    "¡Qué {}! ¿Cómo estás, niño?",
    "El {} del vecino ladra toda la {}.",
    "Me{} la pasé {} el día {}",
]

BERT = ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias", "cls.predictions.decoder")
ROBERTA = ("roberta.embeddings.word_embeddings.weight", "lm_head.bias", "lm_head.decoder")


def own_decoder(words, bias, decoder):
    return [[words, f"{decoder}.weight", -0.5], [bias, f"{decoder}.bias", -2.0]]


CASES = [
    {"model": "beto"},
    {"model": "bertin"},
    {"model": "mbert"},
    {"model": "mex_large"},
    {"model": "camembert"},
    {"model": "distilbert"},
    {"model": "mpnet"},
    {"model": "electra"},
    {"model": "electra", "without": ["generator_lm_head.weight"]},
    {"model": "albert"},
    {"model": "albert", "without": ["predictions.decoder.weight", "predictions.decoder.bias"]},
    {"model": "mbert", "without": ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"]},
    {"model": "mbert", "without": ["cls.predictions.bias", "cls.predictions.decoder.bias"]},
    {"model": "bertin", "without": ["lm_head.decoder.weight", "lm_head.decoder.bias"]},
    {"model": "bertin", "without": ["lm_head.bias", "lm_head.decoder.bias"]},
    {"model": "distilbert", "without": ["vocab_projector.weight"]},
    {"model": "mbert", "scaled": own_decoder(*BERT), "untied": True},
    {"model": "mbert", "scaled": own_decoder(*BERT)},
    {"model": "mbert", "scaled": own_decoder(*BERT)[:1], "without": ["cls.predictions.decoder.bias"], "untied": True},
    {"model": "bertin", "scaled": own_decoder(*ROBERTA), "untied": True},
    {"model": "bertin", "scaled": own_decoder(*ROBERTA)},
    {"model": "bertin", "scaled": own_decoder(*ROBERTA)[1:], "without": ["lm_head.decoder.weight"]},
]


def answers(directory):
    fill = pipeline("fill-mask", model=str(directory), device="cpu", top_k=5, dtype=torch.float32)
    mask = fill.tokenizer.mask_token
    return [{"text": text, "answer": fill(text.replace("{}", mask))} for text in TEXTS]


def changed(directory, case, copy):
    """Returns a copy of a model with what a case changes."""
    target = Path(copy) / case["model"]
    shutil.copytree(directory, target, ignore=shutil.ignore_patterns("*.bin"))
    tensors = load_file(target / "model.safetensors")
    for source, name, factor in case.get("scaled", []):
        tensors[name] = tensors[source] * factor
    tensors = {name: tensor for name, tensor in tensors.items() if name not in case.get("without", [])}
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    if case.get("untied"):
        config = json.loads((target / "config.json").read_text())
        (target / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    return target


def main():
    cases = []
    for case in CASES:
        directory = DATA / case["model"]
        with tempfile.TemporaryDirectory() as copy:
            if len(case) > 1:
                directory = changed(directory, case, copy)
            cases.append({**case, "answers": answers(directory)})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (DATA / "fill_mask.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
