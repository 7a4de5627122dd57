"""Settings of sentence-transformers: modules.json, pooling, sentence_bert_config.json, prompts; and the command's options."""

from .registry import TESTDATA, base, drop, option, put, setting

MODULES, POOLING = "modules.json", "1_Pooling/config.json"
LENGTH, PROMPTS = "sentence_bert_config.json", "config_sentence_transformers.json"


def modules(*kinds, prefix="sentence_transformers.models."):
    """A modules.json: pairs of a path and a class."""
    return [{"idx": i, "name": str(i), "path": path, "type": prefix + kind} for i, (path, kind) in enumerate(kinds)]


TRANSFORMER, MEAN, NORMALIZE = ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")


def around(name, *more, **pooling):
    """A base of the test data with the files of sentence-transformers around it."""
    def make(folder):
        folder.copy(TESTDATA / name)
        config = folder.json("config.json")
        hidden = config.get("hidden_size") or config.get("dim") or config.get("n_embd") or config.get("d_model")
        folder.write(MODULES, modules(TRANSFORMER, MEAN, *more))
        folder.write(POOLING, {"word_embedding_dimension": hidden, **(pooling or {"pooling_mode_mean_tokens": True})})
        folder.write(LENGTH, {"max_seq_length": 48, "do_lower_case": False})
        folder.write(PROMPTS, {"__version__": {"sentence_transformers": "5.0.0"}, "prompts": {}, "default_prompt_name": None})

    return make


base("st-mbert", "sentence bert st-wordpiece", around("mbert"))
base("st-beto", "sentence bert st-wordpiece", around("beto", NORMALIZE))
base("st-bertin", "sentence roberta st-bpe", around("bertin", NORMALIZE, pooling_mode_cls_token=True))
base("st-xlm_roberta", "sentence xlm-roberta st-unigram", around("xlm_roberta"))
base("st-distilbert", "sentence distilbert st-wordpiece", around("distilbert"))
base("st-modernbert", "sentence modernbert st-bpe", around("modernbert"))
base("st-mpnet", "sentence mpnet st-wordpiece", around("mpnet", NORMALIZE))
base("st-mt5", "sentence mt5 st-unigram", around("mt5", NORMALIZE))
base("st-qwen3", "sentence qwen3 st-bpe", around("qwen3", NORMALIZE, pooling_mode_lasttoken=True))


def older(folder):
    """The layout of models saved before 2021, with the transformer in its own folder."""
    inner = type(folder)(folder.path / "0_Transformer")
    inner.copy(TESTDATA / "mbert")
    folder.write(MODULES, modules(("0_Transformer", "Transformer"), MEAN))
    folder.write(POOLING, {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True})
    folder.write("0_Transformer/" + LENGTH, {"max_seq_length": 40})
    folder.write("config.json", {"__version__": "0.4.0"})


base("st-older", "sentence bert st-wordpiece older", older)

base("sentence_t5", "sentence t5 st-unigram dense", "sentence_t5")
base("distiluse", "sentence distilbert st-wordpiece dense", "distiluse")
base("static_embedding", "static", "static_embedding")


def step(folder, name, config, weights="model.safetensors", **tensors):
    """Writes a module with weights: the tensors by name, with a low line for each dot."""
    from safetensors.torch import save_file
    import torch

    folder.write(f"{name}/config.json", config)
    folder.remove(f"{name}/model.safetensors", f"{name}/pytorch_model.bin")
    tensors = {key.replace("_", ".", 1): tensor.contiguous() for key, tensor in tensors.items()}
    if weights.endswith(".safetensors"):
        save_file(tensors, folder.path / name / weights, {"format": "pt"})
    else:
        torch.save(tensors, folder.path / name / weights)


def linear(inputs, outputs, seed=21):
    import torch

    return 0.3 * torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- modules.json


def listed(name, *kinds, prefix="sentence_transformers.models.", keys=()):
    setting(
        f"modules-{name}", MODULES, lambda folder: folder.write(MODULES, modules(*kinds, prefix=prefix)), "sentence !older",
        keys=tuple(kind for _, kind in kinds) + keys, group="modules", vectors=True, module="sentence",
    )


listed("normalize", TRANSFORMER, MEAN, NORMALIZE)
listed("no-pooling", TRANSFORMER)
listed("pooling-twice", TRANSFORMER, MEAN, MEAN)
listed("dense", TRANSFORMER, MEAN, ("3_Dense", "Dense"))
listed("layer-norm", TRANSFORMER, MEAN, ("3_LayerNorm", "LayerNorm"))
listed("dropout", TRANSFORMER, MEAN, ("3_Dropout", "Dropout"))
listed("normalize-first", TRANSFORMER, NORMALIZE, MEAN)
listed("remote-code", ("", "custom_st.Transformer"), MEAN, prefix="")
listed("own-pooling", ("", "sentence_transformers.models.Transformer"), ("1_Pooling", "own.Pooling"), prefix="")
listed("newer-names", ("", "base.modules.transformer.Transformer"), ("1_Pooling", "sentence_transformer.modules.pooling.Pooling"), prefix="sentence_transformers.")
listed("router", ("", "Router"), MEAN)
listed("static", ("", "StaticEmbedding"))
listed("empty")
drop("no-modules", MODULES, "sentence !older", vectors=True)

# ---------------------------------------------------------------- Dense, LayerNorm, StaticEmbedding

DENSE = "2_Dense/config.json"
for name in ("activation.Tanh", "linear.Identity", "activation.ReLU", "activation.GELU", "activation.SiLU", "activation.Sigmoid", "activation.Mish", "activation.PReLU", "activation.GLU"):
    put(f"dense-{name.split('.')[-1].lower()}", DENSE, "dense", activation_function=f"torch.nn.modules.{name}", vectors=True)
put("dense-short-class", DENSE, "dense", activation_function="torch.nn.ReLU", vectors=True)
put("dense-own-class", DENSE, "dense", activation_function="own.Tanh", vectors=True)
put("dense-null-class", DENSE, "dense", activation_function=None, vectors=True)
put("dense-function", DENSE, "dense", activation_function="torch.tanh", vectors=True)
drop("dense-no-class", DENSE, "dense", "activation_function", vectors=True)
put("dense-bias-false", DENSE, "dense", bias=False, vectors=True)
drop("dense-no-bias-key", DENSE, "dense", "bias", vectors=True)
setting("dense-in-31", DENSE, lambda folder: folder.update(DENSE, in_features=31), "dense", keys=("linear.weight",), group="dense", vectors=True)
drop("dense-no-outputs", DENSE, "dense", "out_features", vectors=True)
put("dense-residual", DENSE, "dense", use_residual=True, vectors=True)
put("dense-no-residual", DENSE, "dense", use_residual=False, vectors=True)
put("dense-of-tokens", DENSE, "dense", module_input_name="token_embeddings", vectors=True)
put("dense-input-named", DENSE, "dense", module_input_name="sentence_embedding", module_output_name=None, vectors=True)
put("dense-output-other", DENSE, "dense", module_output_name="other", vectors=True)
put("dense-unknown-key", DENSE, "dense", some_key_of_tomorrow=1, vectors=True)
drop("dense-no-config", DENSE, "dense", vectors=True)
setting("dense-no-weights", "2_Dense/model.safetensors", lambda folder: folder.remove("2_Dense/model.safetensors"), "dense", keys=("model.safetensors",), group="dense", vectors=True)


def stepped(name, *kinds, make, keys=()):
    """Writes modules with weights, after a Transformer and a Pooling that give vectors of `hidden` components."""
    def change(folder):
        config = folder.json("config.json")
        make(folder, config.get("hidden_size") or config.get("dim") or config.get("d_model"))
        folder.write(MODULES, modules(TRANSFORMER, MEAN, *kinds, prefix="sentence_transformers.sentence_transformer.modules."))

    setting(
        f"modules-{name}", MODULES, change, "sentence !older", keys=("in_features", *keys), group="modules", vectors=True,
        module="sentence",
    )


IDENTITY = "torch.nn.modules.linear.Identity"


def gemma(folder, hidden):
    for name, inputs, outputs in (("2_Dense", hidden, 48), ("3_Dense", 48, hidden)):
        config = {"in_features": inputs, "out_features": outputs, "bias": False, "activation_function": IDENTITY}
        step(folder, name, config, linear_weight=linear(inputs, outputs))


def labse(folder, hidden):
    config = {"in_features": hidden, "out_features": hidden, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
    step(folder, "2_Dense", config, "pytorch_model.bin", linear_weight=linear(hidden, hidden), linear_bias=linear(1, hidden)[:, 0])


def normed(folder, hidden):
    step(folder, "2_LayerNorm", {"dimension": hidden}, norm_weight=1 + linear(1, hidden)[:, 0], norm_bias=linear(1, hidden, 22)[:, 0])


def joined(folder, hidden):
    folder.write(POOLING, {"embedding_dimension": hidden, "pooling_mode": ["mean", "cls", "weightedmean"]})
    step(folder, "2_Dense", {"in_features": 3 * hidden, "out_features": 20}, linear_weight=linear(3 * hidden, 20).half(), linear_bias=linear(1, 20)[:, 0].half())


stepped("gemma", ("2_Dense", "Dense"), ("3_Dense", "Dense"), ("4_Normalize", "Normalize"), make=gemma)
stepped("labse", ("2_Dense", "Dense"), ("3_Normalize", "Normalize"), make=labse)
stepped("norm-before-dense", ("3_Normalize", "Normalize"), ("2_Dense", "Dense"), make=labse)
stepped("norm-between", ("4_Normalize", "Normalize"), ("2_Dense", "Dense"), ("4_Normalize", "Normalize"), ("3_Dense", "Dense"), make=gemma)
stepped("layer-norm-whole", ("2_LayerNorm", "LayerNorm"), ("3_Normalize", "Normalize"), make=normed)
stepped("joined-dense", ("2_Dense", "Dense"), make=joined)
stepped("dense-too-wide", ("3_Dense", "Dense"), make=gemma)

STATIC = "0_StaticEmbedding/"


def static(name, change, *keys):
    setting(f"static-{name}", STATIC + "model.safetensors", change, "static", keys=keys, group="static", vectors=True)


def tabled(name, function):
    """Writes other tensors, made of the table."""
    def change(folder):
        from safetensors.torch import load_file, save_file

        table = load_file(folder.path / STATIC / "model.safetensors")["embedding.weight"]
        folder.remove(STATIC + "model.safetensors")
        save_file(function(table), folder.path / STATIC / "model.safetensors", {"format": "pt"})

    static(name, change, "embedding", "embeddings", "mapping", "weights")


def model2vec(table, **more):
    import torch

    rows = torch.arange(table.shape[0] - 1, -1, -1)
    given = {"mapping": rows, "weights": torch.linspace(0.5, 2, table.shape[0], dtype=torch.float64)}
    return {"embeddings": table, **{name: given[name] for name in more}}


tabled("half", lambda table: {"embedding.weight": table.half()})
tabled("model2vec", lambda table: model2vec(table))
tabled("model2vec-mapping", lambda table: model2vec(table, mapping=True))
tabled("model2vec-weights", lambda table: model2vec(table, weights=True))
tabled("model2vec-both", lambda table: model2vec(table, mapping=True, weights=True))
tabled("int8", lambda table: {"embedding.weight": (table * 30).char()})
tabled("other-name", lambda table: {"table": table})


def static_steps(name, *kinds, make=lambda folder: None):
    def change(folder):
        make(folder)
        folder.write(MODULES, modules((STATIC[:-1], "StaticEmbedding"), *kinds))

    setting(f"static-{name}", MODULES, change, "static", keys=("Pooling", "in_features"), group="modules", vectors=True, module="sentence")


static_steps("normalize", ("1_Normalize", "Normalize"))
static_steps("pooling", ("1_Pooling", "Pooling"))
static_steps("dense", ("2_Dense", "Dense"), ("1_Normalize", "Normalize"), make=lambda folder: labse(folder, 16))


def in_root(folder):
    """The layout of newer releases, and of potion-base-8M: the first module in the root."""
    for name in ("tokenizer.json", "model.safetensors"):
        (folder.path / STATIC / name).rename(folder.path / name)
    folder.write("config.json", {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": True})
    folder.write(MODULES, modules((".", "StaticEmbedding"), ("1_Normalize", "Normalize")))


setting("static-root", MODULES, in_root, "static", group="modules", vectors=True)
put("static-truncation", STATIC + "tokenizer.json", "static", truncation={"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}, vectors=True)
put("static-truncation-left", STATIC + "tokenizer.json", "static", truncation={"direction": "Left", "max_length": 5, "strategy": "LongestFirst", "stride": 2}, group="0_StaticEmbedding/tokenizer.json:truncation", vectors=True)
put("static-padding", STATIC + "tokenizer.json", "static", padding={"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}, vectors=True)
setting("static-no-tokenizer", STATIC + "tokenizer.json", lambda folder: folder.remove(STATIC + "tokenizer.json"), "static", keys=("tokenizer.json",), group="static", vectors=True)

# ---------------------------------------------------------------- pooling

for mode in ("cls", "mean", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"):
    setting(
        f"pooling-{mode}", POOLING,
        lambda folder, mode=mode: folder.write(POOLING, {"embedding_dimension": folder.json(POOLING)["word_embedding_dimension"], "pooling_mode": mode}),
        "sentence", keys=("pooling_mode", mode), group="pooling", vectors=True,
    )
for several in (["weightedmean", "cls"], ["mean", "mean"], ["max", "median"]):
    put(f"pooling-list-{'-'.join(several)}", POOLING, "sentence", pooling_mode=several, group="pooling", vectors=True)
FLAGS = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "last": "lasttoken", "weighted": "weightedmean_tokens", "sqrt": "mean_sqrt_len_tokens"}
for chosen in [("cls",), ("mean",), ("max",), ("last",), ("weighted",), ("sqrt",), ("cls", "mean"), ("mean", "max"), ("sqrt", "weighted", "last", "cls"), ()]:
    setting(
        "pooling-flags-" + ("-".join(chosen) or "none"), POOLING,
        lambda folder, chosen=chosen: folder.write(POOLING, {
            "word_embedding_dimension": folder.json(POOLING)["word_embedding_dimension"],
            **{f"pooling_mode_{flag}": name in chosen for name, flag in FLAGS.items()},
        }),
        "sentence", keys=("pooling_mode", *chosen), group="pooling", vectors=True,
    )
put("include-prompt-false", POOLING, "sentence", include_prompt=False, vectors=True)
put("pooling-dimension-wrong", POOLING, "sentence", word_embedding_dimension=7, vectors=True)
put("pooling-unknown-key", POOLING, "sentence", some_key_of_tomorrow=1, vectors=True)
drop("no-pooling-config", POOLING, "sentence", vectors=True)

# ---------------------------------------------------------------- sentence_bert_config.json

for length in (6, 47, 63, 64, 65, 200, None, 0):
    put(f"seq-length-{str(length).lower()}", LENGTH, "sentence", max_seq_length=length, vectors=True)
for value in (True, False):
    put(f"lower-{str(value).lower()}", LENGTH, "sentence", do_lower_case=value, vectors=True)
drop("no-length-file", LENGTH, "sentence", vectors=True)
put("model-args-empty", LENGTH, "sentence", model_args={}, vectors=True)
put("model-args-dtype", LENGTH, "sentence", model_args={"torch_dtype": "float32"}, vectors=True)
put("tokenizer-args-left", LENGTH, "sentence", tokenizer_args={"truncation_side": "left"}, vectors=True)
put("tokenizer-args-lower", LENGTH, "sentence", tokenizer_args={"do_lower_case": False}, vectors=True)
put("processor-kwargs-split", LENGTH, "sentence", processor_kwargs={"split_special_tokens": True}, vectors=True)
put("processor-kwargs-empty", LENGTH, "sentence", processor_kwargs={}, vectors=True)
put("config-args-act", LENGTH, "sentence", config_args={"hidden_act": "relu"}, vectors=True)
put("config-kwargs-layers", LENGTH, "sentence", config_kwargs={"num_hidden_layers": 1}, vectors=True)
put("model-kwargs-pooler", LENGTH, "sentence", model_kwargs={"add_pooling_layer": False}, vectors=True)
put("processing-kwargs-length", LENGTH, "sentence", processing_kwargs={"text": {"max_length": 8}}, vectors=True)
put("task-fill-mask", LENGTH, "sentence", transformer_task="fill-mask", vectors=True)
put("task-feature", LENGTH, "sentence", transformer_task="feature-extraction", vectors=True)
put("output-name", LENGTH, "sentence", module_output_name="sentence_embedding", vectors=True)
put("modality", LENGTH, "sentence", modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}}, module_output_name="token_embeddings", vectors=True)
put("modality-pooler", LENGTH, "sentence", modality_config={"text": {"method": "forward", "method_output_name": "pooler_output"}}, module_output_name="sentence_embedding", vectors=True)
put("length-unknown-key", LENGTH, "sentence", some_key_of_tomorrow=1, vectors=True)

put("query-length", LENGTH, "sentence", query_length=8, vectors=True)
put("document-length", LENGTH, "sentence", document_length=8, vectors=True)
put("unpad-inputs", LENGTH, "sentence", unpad_inputs=True, vectors=True)
put("query-expansion", LENGTH, "sentence", query_expansion={"length": 16}, vectors=True)
put("tokenizer-name", LENGTH, "sentence", tokenizer_name_or_path="bert-base-uncased", vectors=True)
put("config-args-eps", LENGTH, "sentence", config_args={"layer_norm_eps": 0.1}, vectors=True)
put("config-args-positions", LENGTH, "sentence", config_args={"max_position_embeddings": 32}, vectors=True)
put("config-args-empty", LENGTH, "sentence", config_args={}, vectors=True)
put("config-args-output", LENGTH, "sentence", config_args={"output_attentions": True}, vectors=True)
put("model-args-eager", LENGTH, "sentence", model_args={"attn_implementation": "eager"}, vectors=True)
put("model-args-remote", LENGTH, "sentence", model_args={"trust_remote_code": True}, vectors=True)
put("tokenizer-args-length", LENGTH, "sentence", tokenizer_args={"model_max_length": 9}, vectors=True)
put("tokenizer-args-empty", LENGTH, "sentence", tokenizer_args={}, vectors=True)
put("tokenizer-args-fast", LENGTH, "sentence", tokenizer_args={"use_fast": True}, vectors=True)
put("tokenizer-args-prefix-space", LENGTH, "sentence st-bpe", tokenizer_args={"add_prefix_space": True}, vectors=True)
put("processing-kwargs-empty", LENGTH, "sentence", processing_kwargs={}, vectors=True)
put("processing-kwargs-common", LENGTH, "sentence", processing_kwargs={"common": {"return_tensors": "pt"}}, vectors=True)
put("processing-kwargs-specials", LENGTH, "sentence", processing_kwargs={"text": {"add_special_tokens": False}}, vectors=True)
put("processing-kwargs-padding", LENGTH, "sentence", processing_kwargs={"text": {"padding": "max_length"}}, vectors=True)
put("processing-kwargs-truncation", LENGTH, "sentence", processing_kwargs={"text": {"truncation": False}}, vectors=True)
put("processor-kwargs-lower", LENGTH, "sentence", processor_kwargs={"do_lower_case": True}, vectors=True)
put("task-text-generation", LENGTH, "sentence", transformer_task="text-generation", group="sentence_bert_config.json:transformer_task", vectors=True)


def beside(name, file, content, *keys, kinds="sentence"):
    """Adds a file."""
    setting(name, file, lambda folder: folder.write(folder.root() + file, content), kinds, keys=keys, group=file, vectors=True, module="sentence")


def moved(name, file):
    """The length under one of the names that older models have for the file."""
    def change(folder):
        folder.write(folder.root() + file, {"max_seq_length": 11, "do_lower_case": True})
        folder.remove(folder.root() + LENGTH)

    setting(name, file, change, "sentence", keys=("max_seq_length",), group="length-file", vectors=True, module="sentence")


for kind in ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet", "other"):
    moved(f"length-file-{kind}", f"sentence_{kind}_config.json")
    beside(f"length-file-beside-{kind}", f"sentence_{kind}_config.json", {"max_seq_length": 11})
beside("chat-template", "chat_template.jinja", "{{ messages }}")
beside("adapter", "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "none", "r": 2, "target_modules": ["query"]}, kinds="sentence|plain")
beside("preprocessor", "preprocessor_config.json", {"processor_class": "BertProcessor", "feature_extractor_type": "ViTFeatureExtractor"})
beside("processor", "processor_config.json", {"processor_class": "CLIPProcessor"})
beside("generation", "generation_config.json", {"max_length": 5}, kinds="sentence|plain")
beside("router-config", "router_config.json", {"types": {}, "structure": {}})
beside("quantize-config", "quantize_config.json", {"bits": 4})
put("chat-template-key", "tokenizer_config.json", "sentence", chat_template="{{ messages }}", vectors=True)
put("processor-class-key", "tokenizer_config.json", "sentence", processor_class="CLIPProcessor", vectors=True)


def relisted(name, function, *keys):
    """Changes the list of modules."""
    def change(folder):
        if folder.json(MODULES) is not None:
            folder.write(MODULES, function(folder.json(MODULES)))

    setting(
        f"modules-{name}", MODULES, change, "sentence",
        keys=keys, group="modules", vectors=True, module="sentence",
    )


relisted("reversed", lambda modules: modules[::-1])
relisted("kwargs", lambda modules: [{**module, "kwargs": ["task"]} for module in modules], "kwargs")
relisted("dotted", lambda modules: [{**module, "path": "./" + module["path"]} for module in modules], "path")
relisted("no-path", lambda modules: [{k: v for k, v in module.items() if k != "path"} for module in modules], "path")
relisted("no-idx", lambda modules: [{k: v for k, v in module.items() if k != "idx"} for module in modules], "idx")
relisted("names", lambda modules: [{**module, "name": "transformer" if not module["idx"] else module["name"]} for module in modules], "name")
relisted("unknown-key", lambda modules: [{**module, "tomorrow": 1} for module in modules], "tomorrow")

# ---------------------------------------------------------------- config_sentence_transformers.json and the options

PROMPT = {"query": "consulta: ", "doc": "Texto: ", "empty": ""}
for default in (None, "doc", "query", "empty", "absent"):
    put(f"prompts-{str(default).lower()}", PROMPTS, "sentence|static", prompts=PROMPT, default_prompt_name=default, group="prompts", vectors=True)
put("prompt-special", PROMPTS, "sentence|static", prompts={"doc": "[MASK] <s> "}, default_prompt_name="doc", group="prompts", vectors=True)
put("truncate-dim", PROMPTS, "sentence|static", truncate_dim=11, vectors=True)
put("truncate-dim-large", PROMPTS, "sentence|static", truncate_dim=999, vectors=True)
put("truncate-dim-null", PROMPTS, "sentence|static", truncate_dim=None, vectors=True)
put("similarity-dot", PROMPTS, "sentence|static", similarity_fn_name="dot", vectors=True)
put("model-type-sparse", PROMPTS, "sentence|static", model_type="SparseEncoder", vectors=True)
put("model-type-sentence", PROMPTS, "sentence|static", model_type="SentenceTransformer", vectors=True)
put("prompts-unknown-key", PROMPTS, "sentence|static", some_key_of_tomorrow=1, vectors=True)
drop("no-prompts-file", PROMPTS, "sentence|static", vectors=True)

for name in ("query", "doc", "empty", "absent", ""):
    option(f"opt-prompt-{name or 'none'}", "sentence|static", prompt=name)
option("opt-max-length-9", "sentence|plain", max_length=9)
option("opt-max-length-600", "sentence|plain", max_length=600)
option("opt-prefix", "sentence|plain|static", prefix="passage: ")
option("opt-prefix-special", "sentence|plain|static", prefix="[MASK]")
option("opt-pooling-max", "sentence|plain", pooling="max")
option("opt-pooling-last", "sentence|plain", pooling="last")
option("opt-dimensions", "sentence|plain|static", dimensions=10)
option("opt-no-normalize", "sentence|plain|static", no_normalize=True)
