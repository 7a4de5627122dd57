"""Architectures and the keys of their config.json. Unsupported families are refused by name."""

import json

from .registry import TESTDATA, base, drop, put

CONFIG = "config.json"

base("modernbert", "bpe json modernbert plain roberta-names", "modernbert")
base("deberta_v2", "unigram json deberta-v2 plain bert-names", "deberta_v2")
base("nomic_bert", "wordpiece json nomic_bert plain bert-names", "nomic_bert")
base("mpnet", "wordpiece json mpnet plain roberta-names", "mpnet")
base("electra", "wordpiece json electra plain bert-names", "electra")
base("gte", "unigram json gte plain roberta-names", "gte")
base("eurobert", "bpe json eurobert plain", "eurobert")
base("qwen3", "bpe json qwen3 plain", "qwen3")

SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)


def made(name, model_type, tokenizer_of, **config):
    """A random model of an architecture of transformers, with the tokenizer of a base of the test data."""
    def make(folder):
        import torch
        from transformers import AutoConfig, AutoModel

        source = TESTDATA / tokenizer_of
        for file in ("tokenizer.json", "tokenizer_config.json"):
            folder.write(file, (source / file).read_text())
        size = max(json.loads((source / "config.json").read_text())["vocab_size"], 300)
        torch.manual_seed(7)
        built = AutoConfig.for_model(model_type, **{"vocab_size": size, **config})
        model = AutoModel.from_config(built).eval().float()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                centre = 1.0 if parameter.dim() == 1 and key.endswith("weight") else 0.0
                parameter.copy_(centre + (0.25 if parameter.dim() > 1 else 0.1) * torch.randn_like(parameter))
        model.save_pretrained(folder.path)

    base(name, f"made {model_type} {name}-family", make)


made("electra-5", "electra", "distilbert", embedding_size=32, max_position_embeddings=64, pad_token_id=0, **SIZES)
made("electra-projected", "electra", "distilbert", embedding_size=16, max_position_embeddings=64, pad_token_id=0, **SIZES)
made("mpnet-5", "mpnet", "distilbert", max_position_embeddings=66, pad_token_id=1, **SIZES)
made("albert", "albert", "distilbert", embedding_size=16, max_position_embeddings=64, pad_token_id=0, **SIZES)
made("t5", "t5", "xlm_roberta", d_model=32, d_ff=64, d_kv=8, num_layers=2, num_heads=4, pad_token_id=1)
made("roberta-prelayernorm", "roberta-prelayernorm", "bertin", max_position_embeddings=66, pad_token_id=1, **SIZES)
made("xlm-roberta-xl", "xlm-roberta-xl", "xlm_roberta", max_position_embeddings=66, pad_token_id=1, **SIZES)
made("deberta", "deberta", "bertin", max_position_embeddings=64, pad_token_id=1, relative_attention=True, pos_att_type=["c2p", "p2c"], **SIZES)
made("convbert", "convbert", "distilbert", embedding_size=32, max_position_embeddings=64, **SIZES)
made("big_bird", "big_bird", "xlm_roberta", max_position_embeddings=64, attention_type="original_full", **SIZES)
made("roformer", "roformer", "distilbert", embedding_size=32, max_position_embeddings=64, **SIZES)
made("gpt2", "gpt2", "bertin", n_embd=32, n_layer=2, n_head=4, n_positions=64)
made("qwen3-5", "qwen3", "bertin", max_position_embeddings=64, num_key_value_heads=2, head_dim=8, **SIZES)
made("gemma3_text", "gemma3_text", "xlm_roberta", max_position_embeddings=64, num_key_value_heads=2, head_dim=8, **SIZES)
made("mistral", "mistral", "bertin", max_position_embeddings=64, num_key_value_heads=2, head_dim=8, **SIZES)
made("eurobert-5", "eurobert", "bertin", max_position_embeddings=64, num_key_value_heads=4, pad_token_id=1, **SIZES)
made("xmod", "xmod", "xlm_roberta", max_position_embeddings=66, pad_token_id=1, languages=["es_XX"], default_language="es_XX", **SIZES)
made("longformer", "longformer", "bertin", max_position_embeddings=66, pad_token_id=1, attention_window=[16, 16], **SIZES)
made("mobilebert", "mobilebert", "distilbert", max_position_embeddings=64, embedding_size=16, intra_bottleneck_size=32, true_hidden_size=32, **SIZES)
made("squeezebert", "squeezebert", "distilbert", max_position_embeddings=64, embedding_size=32, q_groups=1, k_groups=1, v_groups=1, post_attention_groups=1, intermediate_groups=1, output_groups=1, **SIZES)
made("ernie", "ernie", "distilbert", max_position_embeddings=64, **SIZES)
made("megatron-bert", "megatron-bert", "distilbert", max_position_embeddings=64, **SIZES)
made("gte-5", "gte", "distilbert", max_position_embeddings=64, pad_token_id=0, type_vocab_size=0, **SIZES)
made("nystromformer", "nystromformer", "distilbert", max_position_embeddings=64, **SIZES)
made("data2vec-text", "data2vec-text", "bertin", max_position_embeddings=66, pad_token_id=1, **SIZES)
made("camembert-5", "camembert", "camembert", max_position_embeddings=66, pad_token_id=1, **SIZES)
made("bert-5", "bert", "mbert", max_position_embeddings=64, **SIZES)
made("distilbert-5", "distilbert", "distilbert", max_position_embeddings=64, dim=32, n_layers=2, n_heads=4, hidden_dim=64)
made("modernbert-5", "modernbert", "modernbert", max_position_embeddings=128, num_hidden_layers=4, hidden_size=32, num_attention_heads=4, intermediate_size=48, local_attention=16, pad_token_id=1)
made("deberta-v2-5", "deberta-v2", "deberta_v2", max_position_embeddings=64, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=16, norm_rel_ebd="layer_norm", share_att_key=True, type_vocab_size=0, **SIZES)
made("deberta-v2-conv", "deberta-v2", "deberta_v2", max_position_embeddings=64, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=16, conv_kernel_size=3, conv_act="tanh", type_vocab_size=0, position_biased_input=False, **SIZES)

# ---------------------------------------------------------------- keys of config.json

# Model types whose config.json has the keys of BERT.
BERT_KEYS = "bert|roberta|xlm-roberta|camembert|mpnet|electra"
for activation in ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python", "quick_gelu", "relu", "relu2", "silu", "swish", "tanh", "mish", "gelu_10", "sigmoid", "leaky_relu", "linear", "gelu_accurate", "laplace"):
    put(f"act-{activation}", CONFIG, BERT_KEYS, hidden_act=activation, group="act", vectors=True)
    put(f"act-{activation}-distil", CONFIG, "distilbert", activation=activation, group="act", vectors=True)
    put(f"act-{activation}-modern", CONFIG, "modernbert", hidden_activation=activation, group="act", vectors=True)
    put(f"act-{activation}-nomic", CONFIG, "nomic_bert|deberta-v2|gte", hidden_act=activation, group="act", vectors=True)
put("eps-large", CONFIG, BERT_KEYS + "|deberta-v2", layer_norm_eps=0.1, vectors=True)
put("eps-small-distil", CONFIG, "distilbert", layer_norm_eps=0.1, vectors=True)
put("eps-modern", CONFIG, "modernbert", norm_eps=0.1, vectors=True)
put("eps-nomic", CONFIG, "nomic_bert|gte", layer_norm_eps=0.1, vectors=True)
put("pad-id-7", CONFIG, BERT_KEYS + "|distilbert|modernbert|deberta-v2|nomic_bert|gte", pad_token_id=7, vectors=True)
put("pad-id-null", CONFIG, BERT_KEYS + "|distilbert", pad_token_id=None, vectors=True)
drop("no-pad-id", CONFIG, BERT_KEYS + "|distilbert", "pad_token_id", vectors=True)
put("decoder", CONFIG, BERT_KEYS, is_decoder=True, vectors=True)
put("cross-attention", CONFIG, BERT_KEYS, add_cross_attention=True, vectors=True)
put("chunked", CONFIG, BERT_KEYS, chunk_size_feed_forward=4, vectors=True)
for kind in ("absolute", "relative_key", "relative_key_query"):
    put(f"positions-{kind}", CONFIG, BERT_KEYS, position_embedding_type=kind, vectors=True)
put("one-layer", CONFIG, BERT_KEYS, num_hidden_layers=1, group="layers", vectors=True)
put("three-layers", CONFIG, BERT_KEYS, num_hidden_layers=3, group="layers", vectors=True)
put("two-heads", CONFIG, BERT_KEYS, num_attention_heads=2, vectors=True)
put("heads-5", CONFIG, BERT_KEYS, num_attention_heads=5, vectors=True)
put("hidden-16", CONFIG, BERT_KEYS, hidden_size=16, vectors=True)
put("vocabulary-small", CONFIG, BERT_KEYS, vocab_size=50, vectors=True)
put("positions-40", CONFIG, BERT_KEYS, max_position_embeddings=40, vectors=True)
put("types-1", CONFIG, "bert", type_vocab_size=1, vectors=True)
put("untied", CONFIG, BERT_KEYS, tie_word_embeddings=False, vectors=True)
put("hidden-states", CONFIG, BERT_KEYS, output_hidden_states=True, vectors=True)
put("no-return-dict", CONFIG, BERT_KEYS, return_dict=False, vectors=True)
put("pruned-heads", CONFIG, BERT_KEYS, pruned_heads={"0": [1]}, vectors=True)
put("attention-eager", CONFIG, BERT_KEYS, _attn_implementation="eager", vectors=True)
put("quantized", CONFIG, BERT_KEYS, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}, vectors=True)
put("remote-model", CONFIG, BERT_KEYS, auto_map={"AutoModel": "modeling.Own"}, vectors=True)
put("dropout-high", CONFIG, BERT_KEYS, hidden_dropout_prob=0.9, vectors=True)
put("problem-type", CONFIG, BERT_KEYS, problem_type="regression", id2label={"0": "a"}, vectors=True)
drop("no-model-type", CONFIG, BERT_KEYS, "model_type", vectors=True)
drop("no-architectures", CONFIG, BERT_KEYS, "architectures", vectors=True)
drop("no-sizes", CONFIG, BERT_KEYS, "hidden_act", "layer_norm_eps", "type_vocab_size", vectors=True)
for other in ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra"):
    put(f"type-{other}", CONFIG, BERT_KEYS, model_type=other, vectors=True)
put("encoder-decoder", CONFIG, BERT_KEYS, is_encoder_decoder=True, vectors=True)
put("sinusoidal", CONFIG, "distilbert", sinusoidal_pos_embds=True, vectors=True)
put("config-unknown-key", CONFIG, BERT_KEYS, some_key_of_tomorrow=1, vectors=True)

for key in ("attention_bias", "mlp_bias", "norm_bias", "decoder_bias", "embedding_bias"):
    put(f"modern-{key}", CONFIG, "modernbert", **{key: True}, vectors=True)
put("modern-local", CONFIG, "modernbert", local_attention=8, vectors=True)
put("modern-every-2", CONFIG, "modernbert", global_attn_every_n_layers=2, vectors=True)
put("modern-theta", CONFIG, "modernbert", global_rope_theta=1000.0, vectors=True)
put("modern-local-theta", CONFIG, "modernbert", local_rope_theta=500.0, vectors=True)
put("modern-local-theta-null", CONFIG, "modernbert", local_rope_theta=None, vectors=True)
put("modern-layer-types", CONFIG, "modernbert", layer_types=["sliding_attention", "full_attention"] * 2, vectors=True)
put("modern-rope-parameters", CONFIG, "modernbert", rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 1000.0}, "sliding_attention": {"rope_type": "default", "rope_theta": 500.0}}, vectors=True)
put("modern-rope-linear", CONFIG, "modernbert", rope_parameters={"full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0}, "sliding_attention": {"rope_type": "default", "rope_theta": 500.0}}, vectors=True)
put("modern-pooling", CONFIG, "modernbert", classifier_pooling="cls", vectors=True)
put("deberta-biased", CONFIG, "deberta-v2", position_biased_input=True, vectors=True)
put("deberta-c2p", CONFIG, "deberta-v2", pos_att_type=["c2p"], vectors=True)
put("deberta-p2c", CONFIG, "deberta-v2", pos_att_type="p2c", vectors=True)
put("deberta-none", CONFIG, "deberta-v2", pos_att_type=[], vectors=True)
put("deberta-no-relative", CONFIG, "deberta-v2", relative_attention=False, vectors=True)
put("deberta-buckets", CONFIG, "deberta-v2", position_buckets=8, vectors=True)
put("deberta-buckets-none", CONFIG, "deberta-v2", position_buckets=-1, vectors=True)
put("deberta-conv", CONFIG, "deberta-v2", conv_kernel_size=3, conv_act="gelu", vectors=True)
put("deberta-own-keys", CONFIG, "deberta-v2", share_att_key=False, vectors=True)
put("deberta-norm-none", CONFIG, "deberta-v2", norm_rel_ebd="none", vectors=True)
put("deberta-types", CONFIG, "deberta-v2", type_vocab_size=2, vectors=True)
put("deberta-z-steps", CONFIG, "deberta-v2", z_steps=2, vectors=True)
put("nomic-rope-scaling", CONFIG, "nomic_bert", rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0}, vectors=True)
put("nomic-rope-base", CONFIG, "nomic_bert", rotary_emb_base=500, vectors=True)
put("nomic-theta", CONFIG, "nomic_bert", rope_theta=500.0, vectors=True)
put("nomic-qkv-bias", CONFIG, "nomic_bert", qkv_proj_bias=True, vectors=True)
put("nomic-prenorm", CONFIG, "nomic_bert", prenorm=True, vectors=True)

LLAMA_KEYS = "eurobert|qwen3"
for activation in ("gelu", "gelu_pytorch_tanh", "relu", "silu", "relu2"):
    put(f"act-{activation}-llama", CONFIG, LLAMA_KEYS, hidden_act=activation, group="act", vectors=True)
put("llama-attention-bias", CONFIG, LLAMA_KEYS, attention_bias=True, vectors=True)
put("llama-mlp-bias", CONFIG, "eurobert", mlp_bias=True, vectors=True)
put("llama-eps", CONFIG, LLAMA_KEYS, rms_norm_eps=0.1, vectors=True)
put("llama-theta", CONFIG, LLAMA_KEYS, rope_theta=500.0, vectors=True)
put("llama-rope-parameters", CONFIG, LLAMA_KEYS, rope_parameters={"rope_type": "default", "rope_theta": 700.0}, vectors=True)
put("llama-rope-both", CONFIG, LLAMA_KEYS, rope_parameters={"rope_type": "default", "rope_theta": 700.0}, rope_scaling={"type": "default", "rope_theta": 90.0}, vectors=True)
put("llama-rope-linear", CONFIG, LLAMA_KEYS, rope_scaling={"type": "linear", "factor": 2.0}, vectors=True)
put("llama-rope-yarn", CONFIG, LLAMA_KEYS, rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, vectors=True)
put("llama-heads", CONFIG, LLAMA_KEYS, num_key_value_heads=1, vectors=True)
put("llama-heads-3", CONFIG, LLAMA_KEYS, num_key_value_heads=3, vectors=True)
put("llama-head-size", CONFIG, LLAMA_KEYS, head_dim=16, vectors=True)
put("llama-one-layer", CONFIG, LLAMA_KEYS, num_hidden_layers=1, vectors=True)
put("llama-layer-more", CONFIG, LLAMA_KEYS, num_hidden_layers=3, vectors=True)
put("llama-tied", CONFIG, LLAMA_KEYS, tie_word_embeddings=True, vectors=True)
put("llama-positions-40", CONFIG, LLAMA_KEYS, max_position_embeddings=40, vectors=True)
drop("llama-no-sizes", CONFIG, LLAMA_KEYS, "hidden_act", "rms_norm_eps", "head_dim", "num_key_value_heads", vectors=True)
drop("llama-no-theta", CONFIG, LLAMA_KEYS, "rope_theta", vectors=True)
put("qwen3-causal", CONFIG, "qwen3", is_causal=False, vectors=True)
put("qwen3-window", CONFIG, "qwen3", use_sliding_window=True, sliding_window=7, max_window_layers=1, vectors=True)
put("qwen3-window-1", CONFIG, "qwen3", use_sliding_window=True, sliding_window=1, max_window_layers=0, vectors=True)
put("qwen3-window-default", CONFIG, "qwen3", use_sliding_window=True, max_window_layers=0, vectors=True)
put("qwen3-window-unused", CONFIG, "qwen3", sliding_window=7, max_window_layers=0, vectors=True)
put("qwen3-layer-types", CONFIG, "qwen3", use_sliding_window=True, sliding_window=5, layer_types=["full_attention", "sliding_attention"], vectors=True)
put("qwen3-layer-types-no-window", CONFIG, "qwen3", layer_types=["full_attention", "sliding_attention"], vectors=True)
put("gte-rope-default", CONFIG, "gte", rope_parameters={"rope_type": "default", "rope_theta": 500.0}, vectors=True)
put("gte-rope-none", CONFIG, "gte", rope_parameters=None, rope_theta=700.0, vectors=True)
put("gte-rope-scaling", CONFIG, "gte", rope_scaling={"type": "linear", "factor": 2.0}, vectors=True)
put("gte-rope-ntk", CONFIG, "gte", rope_scaling={"type": "ntk", "factor": 8.0}, vectors=True)
put("gte-rope-dynamic", CONFIG, "gte", rope_parameters={"rope_type": "dynamic", "factor": 2.0}, vectors=True)
put("gte-types-0", CONFIG, "gte", type_vocab_size=0, vectors=True)
put("gte-types-2", CONFIG, "gte", type_vocab_size=2, vectors=True)
