"""Every field that transformers' configuration class of a family has, changed: none may be dropped silently. A field that comes
new with a release is covered without a line here."""

import dataclasses

from .registry import put

CONFIG = "config.json"

# The kinds of bases, by the family whose class has the fields.
FAMILIES = {
    "bert": "bert", "roberta": "roberta", "xlm-roberta": "xlm-roberta", "camembert": "camembert", "distilbert": "distilbert",
    "modernbert": "modernbert", "nomic_bert": "nomic_bert", "deberta-v2": "deberta-v2",
    "mpnet": "mpnet", "electra": "electra", "gte": "gte", "eurobert": "eurobert",
    "qwen3": "qwen3", "gemma3_text": "gemma3_text",
}

# Read by the modeling code through getattr, so that no class has them.
MORE = {
    "deberta-v2": {
        "share_att_key": [True, False], "norm_rel_ebd": ["none", "layer_norm", "layer_norm|none", "batch"], "position_buckets": [4, -1, 16],
        "conv_kernel_size": [0, 3, 4], "conv_act": ["relu"], "conv_groups": [2], "attention_head_size": [4], "embedding_size": [16, 32],
        "pos_att_type": ["c2p", "p2c|c2p", ["c2p", "p2c"], ["p2p"], "c2p|p2p"],
    },
    "modernbert": {
        "global_attn_every_n_layers": [1, 2], "global_rope_theta": [100.0, 7], "local_rope_theta": [100.0], "sliding_window": [2],
        "layer_norm_eps": [0.3], "head_dim": [8, 16], "rope_theta": [10.0], "partial_rotary_factor": [0.5],
        "rope_scaling": [{"rope_type": "linear", "factor": 2.0}],
        "rope_parameters": [
            {"full_attention": {"rope_theta": 50.0}}, {"sliding_attention": {"rope_theta": 50.0, "rope_type": "default"}},
            {"rope_theta": 50.0, "rope_type": "default"}, {"full_attention": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 5.0}},
        ],
    },
    "nomic_bert": {
        "rope_theta": [100.0], "rope_scaling": [{"rope_type": "linear", "factor": 2.0}], "partial_rotary_factor": [0.5],
        "rope_parameters": [{"rope_theta": 50.0}, {"rope_type": "default"}, {"rope_type": "linear", "factor": 4.0, "rope_theta": 9.0}],
        "n_embd": [32, 16], "n_layer": [2, 1], "n_head": [4, 2], "n_inner": [64], "layer_norm_epsilon": [0.2], "n_positions": [12],
        "activation_function": ["swiglu", "gelu"],
    },
    "gte": {
        "rope_theta": [100.0], "partial_rotary_factor": [0.5], "rope_scaling": [{"type": "linear", "factor": 2.0}, {}, {"type": "ntk", "factor": 2.0}],
        "rope_parameters": [{"rope_theta": 50.0}, {"rope_type": "linear", "factor": 0.5}, {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 9.0}],
        "head_dim": [8, 16],
    },
    "eurobert": {
        "rope_theta": [100.0], "partial_rotary_factor": [0.5], "rope_scaling": [{"rope_type": "linear", "factor": 2.0}, {}],
        "rope_parameters": [{"rope_theta": 50.0}, {"rope_type": "default"}, {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 9.0}],
        "num_key_value_heads": [1, 3], "head_dim": [7, 16],
    },
    "gemma3_text": {
        "rope_theta": [100.0], "rope_local_base_freq": [100.0], "sliding_window_pattern": [2], "_sliding_window_pattern": [2],
        "rope_scaling": [{"rope_type": "linear", "factor": 2.0}, {}, {"rope_theta": 70.0}],
        "rope_parameters": [{"full_attention": {"rope_theta": 50.0}}, {"rope_theta": 50.0, "rope_type": "default"}, {"sliding_attention": None}],
        "num_key_value_heads": [1, 3], "head_dim": [7, 32],
    },
    "qwen3": {"rope_theta": [100.0], "use_sliding_window": [True], "max_window_layers": [0, 1], "head_dim": [8, 7], "num_key_value_heads": [1, 4, 3]},
    "distilbert": {"hidden_size": [32], "num_hidden_layers": [1, 2], "num_attention_heads": [2], "layer_norm_eps": [0.3], "hidden_act": ["relu"]},
    "mpnet": {"relative_attention_num_buckets": [16, 40], "type_vocab_size": [1], "position_embedding_type": ["relative_key"]},
    "bert": {"embedding_size": [16], "dim": [16], "n_layers": [1], "activation": ["relu"], "rope_theta": [5.0], "norm_eps": [0.3]},
}


# Only read for generation or classification, but type-checked by transformers, unlike by Encaje.
OF_OTHER_TASKS = ("bos_token_id", "eos_token_id", "classifier_pooling")

# Values for a field whose default is None, by a word of its annotation.
WITHOUT_DEFAULT = [("list", ["full_attention"]), ("dict", {"a": 1}), ("int", 3), ("float", 0.3), ("str", "text")]


def others(value, annotation):
    """Returns other values of a default's type."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 0]
    if isinstance(value, float):
        return [value * 3 + 0.1]
    if isinstance(value, str):
        return ["relu" if value in ("gelu", "silu") else value + "x"]
    return [other for word, other in WITHOUT_DEFAULT if word in annotation][:1] if value is None else []


def fill():
    from transformers import AutoConfig

    for family, kinds in FAMILIES.items():
        config = AutoConfig.for_model(family)
        fields = {field.name: str(field.type) for field in dataclasses.fields(config)}
        found = {name: others(getattr(config, name, None), annotation) for name, annotation in fields.items()}
        # The model class is tested elsewhere, and labels are objects with their own format.
        for name in ("transformers_version", "architectures", "id2label", "label2id", "dtype", "problem_type", *OF_OTHER_TASKS):
            found.pop(name, None)
        for name, values in {**found, **MORE.get(family, {})}.items():
            for place, value in enumerate(values):
                put(f"{family}-{name}-{place}", CONFIG, kinds, also={name: value}, vectors=True)


fill()
