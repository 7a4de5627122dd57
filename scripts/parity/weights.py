"""Storage of weights: formats, number types, memory layouts, names, prefixes, shards."""

from .registry import put, setting

TRANSPOSED_NAMES = "dense query key value lin attention intermediate output Wqkv Wo Wi fc".split()


def stored(name, change, kinds="plain|sentence", keys=(), group="weights", numbers=False):
    """Registers a setting that rewrites all tensors by `change(folder, tensors)`."""
    setting(
        name, "model.safetensors", lambda folder: change(folder, folder.tensors()), kinds,
        keys=("pytorch_model.bin", *keys), group=group, vectors=True, numbers=numbers, module="weights",
    )


def bin_file(folder, tensors, **more):
    folder.save(tensors, "pytorch_model.bin")


def transposed(tensors):
    """As in files converted from TensorFlow: matrices with the strides of their transpose."""
    return {
        name: tensor.t().contiguous().t() if tensor.dim() == 2 and "embeddings" not in name else tensor
        for name, tensor in tensors.items()
    }


def legacy(folder, tensors):
    import torch

    folder.without_weights()
    torch.save(tensors, folder.path / (folder.root() + "pytorch_model.bin"), _use_new_zipfile_serialization=False)


def shared_storage(folder, tensors):
    """Stores every tensor as a slice of one storage, with offsets."""
    import torch

    flat = torch.cat([tensor.flatten().float() for tensor in tensors.values()])
    at, windows = 0, {}
    for name, tensor in tensors.items():
        windows[name] = flat[at:at + tensor.numel()].view(tensor.shape) if tensor.is_floating_point() else tensor
        at += tensor.numel()
    bin_file(folder, windows)


def cast(kind):
    import torch

    return {"f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64, "f32": torch.float32}[kind]


def as_type(kind, file):
    def change(folder, tensors):
        cast_one = lambda tensor: tensor.to(cast(kind)) if tensor.is_floating_point() else tensor  # noqa: E731
        folder.save({name: cast_one(tensor) for name, tensor in tensors.items()}, file)

    return change


def parts(count, extension):
    """Shards with an index."""
    def change(folder, tensors):
        stem, end = ("model", ".safetensors") if extension == "safetensors" else ("pytorch_model", ".bin")
        from safetensors.torch import save_file
        import torch

        folder.without_weights()
        names, weight_map = sorted(tensors), {}
        for part in range(count):
            file = f"{stem}-{part + 1:05}-of-{count:05}{end}"
            chosen = {name: tensors[name].contiguous() for i, name in enumerate(names) if i % count == part}
            path = folder.path / (folder.root() + file)
            save_file(chosen, path, {"format": "pt"}) if end == ".safetensors" else torch.save(chosen, path)
            weight_map |= {name: file for name in chosen}
        folder.write(folder.root() + f"{stem}{end}.index.json", {"metadata": {}, "weight_map": weight_map})

    return change


def renamed(change_name, file="model.safetensors"):
    return lambda folder, tensors: folder.save({change_name(name): tensor for name, tensor in tensors.items()}, file)


def strip_prefix(name):
    for prefix in ("bert.", "roberta.", "distilbert.", "model.", "deberta.", "mpnet.", "electra."):
        name = name.removeprefix(prefix)
    return name


def with_prefix(prefix):
    return lambda name: name if name.startswith(prefix) or name.startswith(("cls.", "lm_head", "vocab_")) else prefix + strip_prefix(name)


def without(*parts_of_names):
    return lambda folder, tensors: folder.save(
        {name: tensor for name, tensor in tensors.items() if not any(part in name for part in parts_of_names)}
    )


def extra_head(folder, tensors):
    import torch

    folder.save({**tensors, "classifier.weight": torch.ones(3, 5), "qa_outputs.bias": torch.zeros(2)})


def poisoned(value):
    def change(folder, tensors):
        tables = ("word_embeddings.weight", "tok_embeddings.weight", "embed_tokens.weight")
        name = next(name for name in sorted(tensors) if name.endswith(tables))
        tensors[name][:] = float(value)
        folder.save(tensors)

    return change


stored("bin", bin_file)
stored("bin-transposed", lambda folder, tensors: bin_file(folder, transposed(tensors)))
stored("bin-legacy", legacy)
stored("bin-legacy-transposed", lambda folder, tensors: legacy(folder, transposed(tensors)))
stored("bin-one-storage", shared_storage)
stored("bin-parameters", lambda folder, tensors: bin_file(folder, {n: _parameter(t) for n, t in tensors.items()}))
stored("bin-sliced", lambda folder, tensors: bin_file(folder, {n: _sliced(t) for n, t in tensors.items()}))
stored("bin-expanded", lambda folder, tensors: bin_file(folder, {n: _expanded(n, t) for n, t in tensors.items()}))
for kind in ("f16", "bf16", "f64"):
    stored(f"bin-{kind}", as_type(kind, "pytorch_model.bin"))
    stored(f"safetensors-{kind}", as_type(kind, "model.safetensors"))
stored("safetensors-parts", parts(3, "safetensors"))
stored("bin-parts", parts(2, "bin"))
stored("no-prefix", renamed(strip_prefix))
stored("prefix-bert", renamed(with_prefix("bert.")), "bert")
stored("prefix-roberta", renamed(with_prefix("roberta.")), "roberta|xlm-roberta|camembert")
stored("prefix-mpnet", renamed(with_prefix("mpnet.")), "mpnet")
stored("prefix-foreign", renamed(with_prefix("encoder_model.")))
stored("gamma-beta", renamed(lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")))
stored("extra-head", extra_head)
stored("no-pooler-no-head", without("pooler", "cls.", "lm_head", "vocab_"))
stored("missing-layer", without("layer.1.", "layers.1."), keys=("layer.1", "layers.1", "weight"))
stored("missing-bias", without("layer.0.output.LayerNorm.bias", "layer.0.output.LayerNorm.beta"), keys=("LayerNorm",))
stored("nan", poisoned("nan"), keys=("embeddings", "finite"), numbers=True)
stored("infinite", poisoned("inf"), keys=("embeddings", "finite"), numbers=True)


def _parameter(tensor):
    import torch

    return torch.nn.Parameter(tensor) if tensor.is_floating_point() else tensor


def _sliced(tensor):
    """A strided slice: every second number of a larger storage."""
    import torch

    wide = torch.zeros(*tensor.shape[:-1], tensor.shape[-1] * 2, dtype=tensor.dtype) if tensor.dim() else tensor
    if not tensor.dim():
        return tensor
    wide[..., ::2] = tensor
    return wide[..., ::2]


def _expanded(name, tensor):
    """A norm whose weights are one number, expanded with stride 0."""
    return tensor[:1].clone().expand(tensor.shape[0]) if tensor.dim() == 1 and "LayerNorm.bias" in name else tensor


put("torch-dtype-f16", "config.json", "plain|sentence", torch_dtype="float16", vectors=True)
put("dtype-bf16", "config.json", "plain|sentence", dtype="bfloat16", vectors=True)
