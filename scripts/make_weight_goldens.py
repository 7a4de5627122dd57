#!/usr/bin/env python3
"""Makes engine/testdata/layouts: one tiny BERT whose `pytorch_model.bin` is stored in every way that PyTorch has, and
what transformers computes from each.

    python scripts/make_weight_goldens.py

views.bin       transposed, cut out of larger ones, repeated by a stride of 0, windows of one storage, parameters
numbers.bin     f16, bf16 and f64 beside f32
legacy.bin      the format before PyTorch 1.6, with the views of views.bin
big_endian.bin  as a big-endian machine writes views.bin
wrapped.bin     {"state_dict": ..., "epoch": 3}; not read by transformers, so its vectors are those of plain weights
integers.bin    a table of words in 64-bit integers, which is refused
Needs torch and transformers.
"""

import io
import json
import shutil
import zipfile
from pathlib import Path

import torch
from transformers import AutoModel, BertConfig, BertModel

OUT = Path(__file__).resolve().parent.parent / "engine" / "testdata" / "layouts"
ROWS = [[4, 7, 9, 5], [4, 5], [4, 11, 12, 13, 14, 15, 16, 17, 18, 5], [4, 39, 38, 37, 5]]


def views(tensors):
    """Stores each tensor in a different way, in turn."""
    shared = torch.cat([tensor.flatten() for tensor in tensors.values()])
    found, at = {}, 0
    for index, (name, tensor) in enumerate(tensors.items()):
        way = index % 5
        if way == 0 and tensor.dim() == 2:
            found[name] = tensor.t().contiguous().t()
        elif way == 1:
            wide = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 3), float("nan"))
            wide[..., 3::2] = tensor
            found[name] = wide[..., 3::2]
        elif way == 2:
            found[name] = shared[at:at + tensor.numel()].view(tensor.shape)
        elif way == 3:
            found[name] = torch.nn.Parameter(tensor.clone())
        else:
            found[name] = tensor
        at += tensor.numel()
    for name in found:
        # Every norm's shift is one number in make().
        if name.endswith("LayerNorm.bias"):
            found[name] = tensors[name][:1].clone().expand(tensors[name].shape)
    return found


def numbers(tensors):
    kinds = [torch.float16, torch.bfloat16, torch.float64, torch.float32]
    return {name: tensor.to(kinds[i % 4]) for i, (name, tensor) in enumerate(tensors.items())}


def big_endian(path, target):
    """Rewrites a checkpoint in the other byte order; all numbers are f32."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as out:
        for info in source.infolist():
            content = source.read(info)
            if "/data/" in info.filename:
                content = b"".join(content[i:i + 4][::-1] for i in range(0, len(content), 4))
            if info.filename.endswith("/byteorder"):
                content = b"big"
            out.writestr(zipfile.ZipInfo(info.filename, (1980, 1, 1, 0, 0, 0)), content)


def vectors(path):
    """Returns transformers' f32 vectors of the first tokens for a folder."""
    model = AutoModel.from_pretrained(path, dtype=torch.float32, add_pooling_layer=False).eval()
    with torch.no_grad():
        return [model(input_ids=torch.tensor([row])).last_hidden_state[0, 0].tolist() for row in ROWS]


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    torch.manual_seed(15)
    config = BertConfig(
        vocab_size=40, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, type_vocab_size=2, architectures=["BertModel"],
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4 + (1.0 if name.endswith("LayerNorm.weight") else 0.0))
            if name.endswith("LayerNorm.bias"):
                parameter.copy_(torch.full_like(parameter, parameter[0].item()))
    config.save_pretrained(OUT)
    tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items() if "position_ids" not in name and "token_type_ids" not in name}
    expected, work = {}, OUT / "work"
    work.mkdir()
    shutil.copy(OUT / "config.json", work)
    for name, content, options in [
        ("plain", tensors, {}),
        ("views", views(tensors), {}),
        ("numbers", numbers(tensors), {}),
        ("legacy", views(tensors), {"_use_new_zipfile_serialization": False}),
    ]:
        torch.save(content, work / "pytorch_model.bin", **options)
        expected[name] = vectors(work)
        if name != "plain":
            shutil.copy(work / "pytorch_model.bin", OUT / f"{name}.bin")
    expected["wrapped"] = expected["plain"]
    torch.save({"state_dict": tensors, "epoch": 3}, OUT / "wrapped.bin")
    big_endian(OUT / "views.bin", OUT / "big_endian.bin")
    shutil.copy(OUT / "big_endian.bin", work / "pytorch_model.bin")
    read = torch.load(io.BytesIO((OUT / "big_endian.bin").read_bytes()), weights_only=True)
    assert all(torch.equal(read[name].float(), tensor) for name, tensor in tensors.items()), "PyTorch reads it"
    expected["big_endian"] = expected["views"]
    words = "embeddings.word_embeddings.weight"
    torch.save({words: tensors[words].long()}, OUT / "integers.bin")
    shutil.rmtree(work)
    del expected["plain"]
    (OUT / "goldens.json").write_text(json.dumps({"rows": ROWS, "vectors": expected}) + "\n")


if __name__ == "__main__":
    main()
