#!/usr/bin/env python3
"""Makes engine/testdata/settings: tiny models whose config.json has settings that few files have, and what transformers
computes with them.

    python scripts/make_setting_goldens.py

Each folder is what `save_pretrained` of the pinned transformers writes, with goldens.json: rows of token ids, and the vectors of
all tokens. Needs torch and transformers.
"""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel

OUT = Path(__file__).resolve().parent.parent / "engine" / "testdata" / "settings"

SIZES = dict(vocab_size=40, hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=12, max_position_embeddings=48)

CASES = {
    "modernbert_biases": ("modernbert", dict(
        SIZES, num_hidden_layers=3, attention_bias=True, mlp_bias=True, norm_bias=True, hidden_activation="gelu_new", norm_eps=1e-2,
        local_attention=6, pad_token_id=0, layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 500.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 70.0},
        },
    )),
    "modernbert_defaults": ("modernbert", dict(SIZES, num_hidden_layers=4, local_attention=4, pad_token_id=0)),
    "nomic_gelu": ("nomic_bert", dict(SIZES, hidden_act="gelu", type_vocab_size=3, rope_parameters={"rope_type": "default", "rope_theta": 50.0})),
    "deberta_convolution": ("deberta-v2", dict(
        SIZES, conv_kernel_size=3, conv_groups=2, conv_act="gelu", position_biased_input=True, type_vocab_size=2,
        embedding_size=6, relative_attention=True, pos_att_type=["c2p", "p2c"], share_att_key=False, norm_rel_ebd="none",
        hidden_act="gelu_new", layer_norm_eps=1e-3,
    )),
    "deberta_buckets": ("deberta-v2", dict(
        SIZES, conv_kernel_size=5, relative_attention=True, pos_att_type="p2c|c2p", share_att_key=True, position_buckets=8,
        norm_rel_ebd="layer_norm", position_biased_input=False,
    )),
    "deberta_content": ("deberta-v2", dict(SIZES, relative_attention=True, pos_att_type=["c2p"], max_relative_positions=5)),
    "deberta_absolute": ("deberta-v2", dict(SIZES, relative_attention=False, pos_att_type=["p2c"], hidden_act="relu")),
    "distilbert_epsilon": ("distilbert", dict(
        vocab_size=40, dim=8, n_heads=2, n_layers=2, hidden_dim=12, max_position_embeddings=48, activation="gelu_accurate",
        layer_norm_eps=0.5, position_embedding_type="absolute", sinusoidal_pos_embds=True,
    )),
    "camembert_odd": ("camembert", dict(SIZES, pad_token_id=3, type_vocab_size=1, layer_norm_eps=1e-2, hidden_act="swish")),
    "gte_plain": ("gte", dict(
        SIZES, type_vocab_size=0, pad_token_id=0, hidden_act="relu", layer_norm_eps=1e-2,
        rope_parameters={"rope_type": "default", "rope_theta": 70.0},
    )),
    "gte_linear": ("gte", dict(
        SIZES, type_vocab_size=3, pad_token_id=0, rope_theta=300.0, rope_scaling={"type": "linear", "factor": 2.5},
    )),
}


def rows():
    generator = torch.Generator().manual_seed(4)
    return [torch.randint(4, 40, (length,), generator=generator).tolist() for length in (1, 2, 5, 17, 40)]


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    for seed, (name, (model_type, settings)) in enumerate(CASES.items()):
        path = OUT / name
        path.mkdir(parents=True)
        torch.manual_seed(seed)
        model = AutoModel.from_config(AutoConfig.for_model(model_type, **settings)).float()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                centre = 1.0 if parameter.dim() == 1 and key.endswith("weight") else 0.0
                parameter.copy_(centre + 0.5 * torch.randn_like(parameter))
        model.save_pretrained(path)
        # Also writes keys that no configuration class has, such as DistilBERT's epsilon.
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**settings, **config}, indent=2) + "\n")
        model = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
        with torch.no_grad():
            vectors = [model(input_ids=torch.tensor([row])).last_hidden_state[0].tolist() for row in rows()]
        rounded = [[[round(x, 6) for x in token] for token in row] for row in vectors]
        (path / "goldens.json").write_text(json.dumps({"rows": rows(), "vectors": rounded}) + "\n")
        print(name, "made")


if __name__ == "__main__":
    main()
