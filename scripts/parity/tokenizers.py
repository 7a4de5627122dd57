"""Settings of tokenizers: tokenizer_config.json, special_tokens_map.json, added_tokens.json, tokenizer.json."""

from .registry import base, drop, put, setting

CONFIG, MAP, ADDED, TOKENIZER = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"

# Kinds: wordpiece, bpe, unigram; json where tokenizer.json is there, vocab where it is not; bert-like and roberta-like by
# the names of their special tokens.
base("mbert", "wordpiece json bert plain bert-names", "mbert")
base("beto", "wordpiece json bert plain bert-names", "beto")
base("bertin", "bpe json roberta plain roberta-names", "bertin")
base("mex_large", "wordpiece json roberta plain roberta-names", "mex_large")
base("xlm_roberta", "unigram json xlm-roberta plain roberta-names", "xlm_roberta")
base("camembert", "unigram json camembert plain roberta-names", "camembert")
base("distilbert", "wordpiece json distilbert plain bert-names", "distilbert")


def only_vocab(name):
    def make(folder):
        folder.copy(BASES_OF[name])
        folder.remove(TOKENIZER)

    return make


def _sources():
    from .registry import TESTDATA

    return {name: TESTDATA / name for name in ("beto", "bertin", "mbert", "mex_large")}


BASES_OF = _sources()
base("beto-vocab", "wordpiece vocab bert plain bert-names", only_vocab("beto"))
base("mbert-vocab", "wordpiece vocab bert plain bert-names", only_vocab("mbert"))
base("bertin-vocab", "bpe vocab roberta plain roberta-names", only_vocab("bertin"))
base("mex_large-vocab", "wordpiece vocab roberta plain roberta-names", only_vocab("mex_large"))

# ---------------------------------------------------------------- tokenizer_config.json: classes and their defaults

CLASSES = [
    "BertTokenizer", "BertTokenizerFast", "RobertaTokenizer", "RobertaTokenizerFast", "XLMRobertaTokenizer",
    "XLMRobertaTokenizerFast", "CamembertTokenizer", "DistilBertTokenizer", "DistilBertTokenizerFast", "ElectraTokenizer",
    "MPNetTokenizer", "DebertaV2Tokenizer", "DebertaTokenizer", "AlbertTokenizer", "PreTrainedTokenizerFast",
    "TokenizersBackend", "GPT2Tokenizer", "BertJapaneseTokenizer", "BertweetTokenizer", "CLIPTokenizer", "T5Tokenizer",
    "PhobertTokenizer", "NoSuchTokenizer", "LongformerTokenizer", "BartTokenizer", "FunnelTokenizer", "GemmaTokenizer",
    "Qwen2Tokenizer", "ByT5Tokenizer",
]
for name in CLASSES:
    put(f"class-{name}", CONFIG, "json|vocab", tokenizer_class=name, group="class")
drop("no-class", CONFIG, "json|vocab", "tokenizer_class")
drop("no-tokenizer-config", CONFIG, "json|vocab")
drop("no-map", MAP, "json|vocab")

for flag in ("do_lower_case", "tokenize_chinese_chars", "strip_accents", "split_special_tokens", "add_prefix_space",
             "trim_offsets", "clean_up_tokenization_spaces", "add_bos_token", "add_eos_token", "do_basic_tokenize",
             "keep_accents", "legacy", "use_fast", "from_slow"):
    for value in (True, False):
        put(f"{flag.replace('_', '-')}-{str(value).lower()}", CONFIG, "json|vocab", **{flag: value})
    drop(f"no-{flag.replace('_', '-')}", CONFIG, "json|vocab", flag)
put("strip-accents-null", CONFIG, "json|vocab", strip_accents=None)
put("do-lower-case-null", CONFIG, "json|vocab", do_lower_case=None)
put("never-split", CONFIG, "wordpiece", never_split=["niño", "hola"])
put("truncation-left", CONFIG, "json|vocab", truncation_side="left")
put("truncation-bad", CONFIG, "json|vocab", truncation_side="middle")
put("padding-left", CONFIG, "json|vocab", padding_side="left")
put("errors-ignore", CONFIG, "bpe", errors="ignore")
put("model-input-names", CONFIG, "json|vocab", model_input_names=["input_ids", "attention_mask"], vectors=True)
for length in (5, 12, 63, 64, 65, 10**30, 0, -1, 16.0, None, "16"):
    name = {10**30: "huge"}.get(length, str(length).replace("-", "minus-"))
    put(f"model-max-length-{name}", CONFIG, "json|vocab", model_max_length=length, group="length")
drop("no-model-max-length", CONFIG, "json|vocab", "model_max_length")
put("max-length-10", CONFIG, "json|vocab", max_length=10)
put("max-len-10", CONFIG, "json|vocab", max_len=10)
put("auto-map", CONFIG, "json|vocab", auto_map={"AutoTokenizer": [None, "tokenization.Own"]})

# ---------------------------------------------------------------- special and added tokens


def token(content, **flags):
    """Returns an added token as written in files."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True, **flags}
    return {"content": content, **flags}


def vocabulary_size(folder):
    tokenizer = folder.json(TOKENIZER)
    if tokenizer is None:
        vocab = folder.json("vocab.json")
        return len(vocab) if vocab else len((folder.path / "vocab.txt").read_text().splitlines())
    added = [entry["id"] + 1 for entry in tokenizer["added_tokens"]]
    return max([len(tokenizer["model"]["vocab"]), *added])


def decoder(folder, *tokens, at=None):
    """Adds tokens to `added_tokens_decoder`, besides those of tokenizer.json, from the first free id on."""
    config = folder.json(CONFIG) or {}
    have = {str(entry["id"]): {k: v for k, v in entry.items() if k != "id"} for entry in (folder.json(TOKENIZER) or {}).get("added_tokens", [])}
    have |= config.get("added_tokens_decoder", {})
    start = vocabulary_size(folder) if at is None else at
    have |= {str(start + i): entry for i, entry in enumerate(tokens)}
    folder.update(CONFIG, added_tokens_decoder=have)


def decoded(name, *tokens, at=None):
    setting(
        name, CONFIG, lambda folder: decoder(folder, *tokens, at=at), "json|vocab",
        keys=("added_tokens_decoder", *(entry["content"] for entry in tokens), "vocab_size", "embedding"), group="added", module="tokenizers",
    )


decoded("added-special", token("nuevo"))
decoded("added-plain", token("nuevo", special=False))
decoded("added-normalized", token("Nuevo", special=False, normalized=True))
decoded("added-single-word", token("a", single_word=True))
decoded("added-lstrip", token("nuevo", lstrip=True))
decoded("added-rstrip", token("nuevo", rstrip=True))
decoded("added-both-strips", token("nuevo", lstrip=True, rstrip=True))
decoded("added-two", token("nuevo"), token("nuev", special=False))
decoded("added-emoji", token("😀"))
decoded("added-space-inside", token("dos tres"))
decoded("added-far-id", token("nuevo"), at=5000)
decoded("added-over-vocabulary", token("nuevo"), at=20)

for role, value in [("cls_token", "[MASK]"), ("sep_token", "[MASK]"), ("cls_token", "hola"), ("mask_token", "de"),
                    ("unk_token", "de"), ("pad_token", "de"), ("bos_token", "de"), ("eos_token", "de"),
                    ("cls_token", None), ("sep_token", None), ("mask_token", None), ("unk_token", None),
                    ("sep_token", "<url>")]:
    plain = str(value).strip("[]<>").lower()
    put(f"{role.replace('_', '-')}-{plain}", CONFIG, "json|vocab", **{role: value})
    put(f"map-{role.replace('_', '-')}-{plain}", MAP, "json|vocab", **{role: value})
put("mask-lstrip", CONFIG, "roberta-names", mask_token={"__type": "AddedToken", **token("<mask>", lstrip=True)})
put("mask-no-lstrip", CONFIG, "roberta-names", mask_token={"__type": "AddedToken", **token("<mask>")})
put("mask-lstrip-bert", CONFIG, "bert-names", mask_token={"__type": "AddedToken", **token("[MASK]", lstrip=True)})
put("mask-normalized", CONFIG, "bert-names", mask_token={"__type": "AddedToken", **token("[MASK]", normalized=True)})
put("mask-plain-string", CONFIG, "roberta-names", mask_token="<mask>")
put("map-mask-lstrip", MAP, "roberta-names", mask_token=token("<mask>", lstrip=True))
for file in (CONFIG, MAP):
    where = "" if file == CONFIG else "map-"
    put(f"{where}extra-list", file, "json|vocab", extra_special_tokens=["nuevo", "<url>"])
    put(f"{where}extra-dict", file, "json|vocab", extra_special_tokens={"url_token": "<url>"})
    put(f"{where}extra-empty", file, "json|vocab", extra_special_tokens=[])
    put(f"{where}additional", file, "json|vocab", additional_special_tokens=["<url>"])
    put(f"{where}additional-objects", file, "json|vocab", additional_special_tokens=[token("<url>", lstrip=True)])
    put(f"{where}additional-known", file, "json|vocab", additional_special_tokens=["de"])
put("image-token", CONFIG, "json|vocab", image_token="<url>")
put("unknown-key", CONFIG, "json|vocab", some_key_of_tomorrow=7)


def added_tokens(name, *contents, at=None):
    def change(folder):
        start = vocabulary_size(folder) if at is None else at
        folder.update(ADDED, **{content: start + i for i, content in enumerate(contents)})

    setting(name, ADDED, change, "json|vocab", keys=contents, group="added", module="tokenizers")


added_tokens("added-file", "nuevo")
added_tokens("added-file-two", "nuevo", "<url>")
added_tokens("added-file-far", "nuevo", at=3000)
added_tokens("added-file-known", "de", at=9)

# ---------------------------------------------------------------- tokenizer.json


def json_setting(name, kinds, key, value):
    """Sets one part of tokenizer.json; `value` may be a function of the part."""
    def change(folder):
        content = folder.json(TOKENIZER)
        content[key] = value(content[key]) if callable(value) else value
        folder.write(TOKENIZER, content)

    setting(name, TOKENIZER, change, f"json {kinds}".strip(), keys=(key,), group=f"json-{key}", module="tokenizers")


def truncation(**values):
    return {"direction": "Right", "max_length": 12, "strategy": "LongestFirst", "stride": 0, **values}


def padding(**values):
    return {"strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "[PAD]", **values}


BERT_NORMALIZER = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
json_setting("json-truncation", "", "truncation", truncation())
json_setting("json-truncation-left", "", "truncation", truncation(direction="Left"))
json_setting("json-truncation-stride", "", "truncation", truncation(stride=3))
json_setting("json-padding", "", "padding", padding())
json_setting("json-padding-left", "", "padding", padding(direction="Left", strategy="BatchLongest"))
json_setting("json-normalizer-none", "", "normalizer", None)
json_setting("json-normalizer-nfc", "", "normalizer", {"type": "NFC"})
json_setting("json-normalizer-lower", "", "normalizer", {"type": "Lowercase"})
json_setting("json-normalizer-strip", "", "normalizer", {"type": "Strip", "strip_left": True, "strip_right": True})
json_setting("json-normalizer-prepend", "", "normalizer", {"type": "Prepend", "prepend": "▁"})
json_setting(
    "json-normalizer-sequence", "", "normalizer",
    lambda old: {"type": "Sequence", "normalizers": [{"type": "NFD"}, *([old] if old else [])]},
)
json_setting(
    "json-normalizer-replace", "", "normalizer",
    lambda old: {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "hola"}, "content": "adiós"}, *([old] if old else [])]},
)
json_setting("json-normalizer-bert", "", "normalizer", BERT_NORMALIZER)
json_setting("json-normalizer-bert-unclean", "wordpiece", "normalizer", {**BERT_NORMALIZER, "clean_text": False})
json_setting("json-normalizer-bert-accents", "wordpiece", "normalizer", {**BERT_NORMALIZER, "strip_accents": False})
json_setting("json-pre-whitespace", "", "pre_tokenizer", {"type": "Whitespace"})
json_setting("json-pre-split", "", "pre_tokenizer", {"type": "WhitespaceSplit"})
json_setting("json-pre-digits", "", "pre_tokenizer", lambda old: {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, *([old] if old else [])]})
json_setting("json-pre-metaspace-always", "unigram", "pre_tokenizer", {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True})
json_setting("json-pre-metaspace-first", "unigram", "pre_tokenizer", {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True})
json_setting("json-pre-metaspace-never", "unigram", "pre_tokenizer", {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True})
json_setting("json-post-none", "", "post_processor", None)
json_setting("json-model-unk-max", "wordpiece", "model", lambda old: {**old, "max_input_chars_per_word": 8})
json_setting("json-model-prefix", "wordpiece", "model", lambda old: {**old, "continuing_subword_prefix": "@@"})
json_setting("json-model-ignore-merges", "bpe", "model", lambda old: {**old, "ignore_merges": True})
json_setting("json-model-dropout", "bpe", "model", lambda old: {**old, "dropout": 0.5})
json_setting("json-model-byte-fallback", "bpe|unigram", "model", lambda old: {**old, "byte_fallback": True})
json_setting("json-added-lstrip", "", "added_tokens", lambda old: [{**entry, "lstrip": True} for entry in old])
json_setting("json-added-normalized", "", "added_tokens", lambda old: [{**entry, "normalized": True} for entry in old])
json_setting("json-added-not-special", "", "added_tokens", lambda old: [{**entry, "special": False} for entry in old])
json_setting("json-added-single-word", "", "added_tokens", lambda old: [{**entry, "single_word": True} for entry in old])

# ---------------------------------------------------------------- rarer classes, and where a class is declared

for name in ["PreTrainedTokenizer", "BloomTokenizerFast", "MobileBertTokenizer", "SqueezeBertTokenizerFast", "LxmertTokenizer",
             "LayoutLMTokenizer", "ConvBertTokenizer", "HerbertTokenizer", "LEDTokenizer", "MvpTokenizer", "BigBirdTokenizer",
             "BarthezTokenizer", "FNetTokenizer", "LlamaTokenizer", "LlamaTokenizerFast", "Phi3Tokenizer", "MBartTokenizer",
             "XLNetTokenizer", "RoFormerTokenizer", "SplinterTokenizer", "RemBertTokenizer", "EsmTokenizer", "CanineTokenizer",
             "NllbTokenizer", "GPTNeoXTokenizer", "CodeGenTokenizer", "WhisperTokenizer", "DPRQuestionEncoderTokenizer",
             "MarianTokenizer", "BertTokenizerLegacy", "BertGenerationTokenizer"]:
    put(f"class-{name}", CONFIG, "json|vocab", tokenizer_class=name, group="class")
for name in ["BertTokenizer", "RobertaTokenizerFast", "PreTrainedTokenizerFast", "BertJapaneseTokenizer", "NoSuchTokenizer",
             "MPNetTokenizer", "XLMRobertaTokenizer"]:
    put(f"model-class-{name}", "config.json", "json|vocab", tokenizer_class=name, group="model-class")
put("model-name-camembertv2", "config.json", "json|vocab", model_name="camembertv2-base")
put("auto-map-object", CONFIG, "json|vocab", auto_map={"AutoTokenizer": ["own.Own", None]}, group="auto-map")
put("auto-map-other", CONFIG, "json|vocab", auto_map={"AutoModel": "own.Own"}, group="auto-map")

put("add-prefix-space-null", CONFIG, "json|vocab", add_prefix_space=None)
put("split-by-punct", CONFIG, "json|vocab", split_by_punct=True)
put("unk-id-0", CONFIG, "json|vocab", unk_id=0)
put("extra-ids-5", CONFIG, "json|vocab", extra_ids=5)
put("sp-model-kwargs", CONFIG, "json|vocab", sp_model_kwargs={"enable_sampling": True, "alpha": 0.1})
put("init-inputs", CONFIG, "json|vocab", init_inputs=["vocab.txt"])
put("init-inputs-empty", CONFIG, "json|vocab", init_inputs=[])
put("fast-files", CONFIG, "json|vocab", fast_tokenizer_files=["tokenizer.json", "tokenizer.4.0.0.json"])
put("padding-bad", CONFIG, "json|vocab", padding_side="middle")
put("truncation-right", CONFIG, "json|vocab", truncation_side="right")
put("do-lower-case-text", CONFIG, "json|vocab", do_lower_case="yes")
put("vocab-file", CONFIG, "json|vocab", vocab_file="/nowhere/vocab.txt", tokenizer_file="/nowhere/tokenizer.json")

# ---------------------------------------------------------------- special tokens in every way of writing them

for role, content in (("cls_token", "[CLS]"), ("sep_token", "[SEP]"), ("mask_token", "[MASK]"), ("unk_token", "[UNK]")):
    plain = role.removesuffix("_token")
    put(f"{plain}-object-untyped", CONFIG, "bert-names", **{role: token(content)})
    put(f"{plain}-object", CONFIG, "bert-names", **{role: {"__type": "AddedToken", **token(content, rstrip=True)}})
    put(f"map-{plain}-object", MAP, "bert-names", **{role: token(content, lstrip=True, special=False)})
for role, content in (("cls_token", "<s>"), ("sep_token", "</s>"), ("bos_token", "<s>"), ("eos_token", "</s>")):
    plain = role.removesuffix("_token")
    put(f"{plain}-object-roberta", CONFIG, "roberta-names", **{role: {"__type": "AddedToken", **token(content, lstrip=True)}})
    put(f"map-{plain}-object-roberta", MAP, "roberta-names", **{role: token(content, rstrip=True, normalized=True)})
put("cls-and-bos-differ", CONFIG, "json|vocab", cls_token="hola", bos_token="de", eos_token="la", sep_token="el", group="cls")
put("image-token-object", CONFIG, "json|vocab", image_token={"__type": "AddedToken", **token("<url>", lstrip=True)}, group="image")
put("map-image-token", MAP, "json|vocab", image_token=token("<url>"))
put("two-own-tokens", CONFIG, "json|vocab", url_token="<url>", nuevo_token="nuevo", image_token={"__type": "AddedToken", **token("NUEVO")}, group="image")
put("extra-objects", CONFIG, "json|vocab", extra_special_tokens=[{"__type": "AddedToken", **token("<url>", rstrip=True)}, "nuevo"])
put("extra-object-of-objects", CONFIG, "json|vocab", extra_special_tokens={"url_token": {"__type": "AddedToken", **token("<url>")}, "n_token": "nuevo"})
put("map-extra-objects", MAP, "json|vocab", extra_special_tokens=[token("<url>", lstrip=True), "nuevo"])
put("additional-and-extra", CONFIG, "json|vocab", additional_special_tokens=["nuevo"], extra_special_tokens=["<url>"])
put("additional-null", CONFIG, "json|vocab", additional_special_tokens=None)
put("map-additional-typed", MAP, "json|vocab", additional_special_tokens=[{"__type": "AddedToken", **token("<url>")}])
put("decoder-empty", CONFIG, "json|vocab", added_tokens_decoder={}, group="added")
put("decoder-null", CONFIG, "json|vocab", added_tokens_decoder=None, group="added")
decoded("added-unnormalized-text", token("NUEVO", special=False, normalized=False))
decoded("added-upper-mask", token("[MASK] fin", lstrip=True))

# ---------------------------------------------------------------- parts of tokenizer.json that a class may or may not keep


def types_of_one(old):
    pieces = [{"Sequence": {"id": "A", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": pieces, "pair": pieces + [{"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {}}


json_setting("json-post-types", "", "post_processor", types_of_one)
json_setting("json-post-byte-level", "bpe", "post_processor", {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True})
json_setting("json-normalizer-bert-in-sequence", "wordpiece", "normalizer", {"type": "Sequence", "normalizers": [BERT_NORMALIZER, {"type": "NFC"}]})
json_setting("json-normalizer-no-spaces", "", "normalizer", {"type": "Replace", "pattern": {"String": " "}, "content": ""})
json_setting("json-pre-none", "wordpiece|unigram", "pre_tokenizer", None)
json_setting("json-pre-byte-level-prefix", "bpe", "pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True})
json_setting("json-pre-byte-level-plain", "bpe", "pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False})
json_setting("json-model-merges-text", "bpe", "model", lambda old: {**old, "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in old["merges"]]})
json_setting("json-model-untyped", "wordpiece|bpe", "model", lambda old: {key: value for key, value in old.items() if key != "type"})
json_setting("json-model-unknown-1", "unigram", "model", lambda old: {**old, "unk_id": 1})
json_setting("json-added-reversed", "", "added_tokens", lambda old: sorted(old, key=lambda entry: -entry["id"]))
json_setting("json-added-fewer", "", "added_tokens", lambda old: old[:-1])
json_setting("json-added-both-strips", "", "added_tokens", lambda old: [{**entry, "lstrip": True, "rstrip": True} for entry in old])
json_setting("json-padding-new-token", "", "padding", padding(pad_token="<relleno>"))
