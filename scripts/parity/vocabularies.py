"""Bases whose tokenizers are of kinds that the test data lacks: as sentencepiece, GPT-2, Qwen, ModernBERT, Llama and others make
them, each around a small random BERT."""

import io
import json

from . import texts
from .registry import base

CORPUS = texts.PLAIN + texts.ODD + [" ".join(texts.WORDS)] * 3 + [
    "Por fin el calor está bajando y ya puedo salir a la calle.",
    "Hoy vamos a comer unos tacos de canasta con mucha salsa verde.",
    "Tengo que dormir bien porque mañana tengo examen de matemáticas.",
    "Mi propósito es hacer más ejercicio este año, aunque llueva.",
    "No sé si quedarme en casa leyendo o salir a caminar por el parque.",
]
ROBERTA = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", sep_token="</s>", pad_token="<pad>", cls_token="<s>", mask_token="<mask>")
BERT = dict(unk_token="[UNK]", sep_token="[SEP]", pad_token="[PAD]", cls_token="[CLS]", mask_token="[MASK]")


def random_bert(folder, vocabulary, **config):
    """Returns weights and config of a BERT with two layers of 32, and some more embeddings than the vocabulary has tokens."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(11)
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=64)
    built = BertConfig(vocab_size=vocabulary + 8, **{**sizes, **config})
    model = BertModel(built, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
            parameter.copy_(centre + (0.25 if parameter.dim() > 1 else 0.1) * torch.randn_like(parameter))
    model.save_pretrained(folder.path)


def tokenizer_base(name, kinds, build, cls="PreTrainedTokenizerFast", **config):
    """A base with the `tokenizers.Tokenizer` that `build` makes."""
    def make(folder):
        tokenizer = build()
        folder.write("tokenizer.json", tokenizer.to_str())
        folder.write("tokenizer_config.json", {"tokenizer_class": cls, **config})
        random_bert(folder, tokenizer.get_vocab_size())

    base(name, f"json made-tokenizer bert {kinds}", make)


def trained(tokenizer, trainer):
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def around(tokenizer, cls, sep):
    from tokenizers import processors

    ids = [(token, tokenizer.token_to_id(token)) for token in (cls, sep)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B {sep}", special_tokens=ids)
    return tokenizer


def byte_level(pre=None, normalizer=None, specials=("<s>", "<pad>", "</s>", "<unk>", "<mask>")):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre or pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    return trained(tokenizer, trainers.BpeTrainer(
        vocab_size=360, special_tokens=list(specials), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    ))


def gpt2():
    return byte_level(specials=("<|endoftext|>",))


def qwen():
    """Qwen: NFC, a pattern of its own, byte level without one; the end of a text is added."""
    from tokenizers import Regex, normalizers, pre_tokenizers, processors

    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ])
    tokenizer = byte_level(pre, normalizers.NFC(), ("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)])
    return tokenizer


def modern():
    """ModernBERT: byte level, with runs of spaces as tokens that are not special and are looked for after normalisation."""
    from tokenizers import AddedToken, normalizers

    tokenizer = byte_level(normalizer=normalizers.NFC(), specials=("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"))
    tokenizer.add_tokens([AddedToken(" " * count, normalized=True, special=False) for count in range(6, 1, -1)])
    tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True, normalized=False)])
    return around(tokenizer, "[CLS]", "[SEP]")


def llama():
    """Llama: BPE over the whole text with bytes to fall back on; spaces are replaced and one is put in front."""
    from tokenizers import Tokenizer, models, normalizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trained(tokenizer, trainers.BpeTrainer(vocab_size=420, special_tokens=specials, limit_alphabet=60, show_progress=False))
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    return around(Tokenizer.from_str(json.dumps(content)), "<s>", "</s>")


def word_level():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return around(trained(tokenizer, trainers.WordLevelTrainer(special_tokens=list(BERT.values()), show_progress=False)), "[CLS]", "[SEP]")


def sequence_bert():
    """BERT's normaliser as one part of a sequence: the class of the config does not find it there."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.BertNormalizer(lowercase=False, strip_accents=False)])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=260, special_tokens=list(BERT.values()), show_progress=False)
    return around(trained(tokenizer, trainer), "[CLS]", "[SEP]")


def whole_text():
    """A character model without pre-tokenizer: the whole text is one word."""
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    trainer = trainers.BpeTrainer(vocab_size=260, special_tokens=["<unk>", "<s>", "</s>", "<pad>"], show_progress=False)
    return around(trained(tokenizer, trainer), "<s>", "</s>")


def split_digits():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Metaspace(prepend_scheme="first")
    ])
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False)
    return around(trained(tokenizer, trainer), "<s>", "</s>")


GPT = dict(bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>")
tokenizer_base("made-gpt2", "bpe plain", gpt2, "GPT2Tokenizer", add_prefix_space=False, **GPT)
tokenizer_base("made-gpt2-fast", "bpe plain", gpt2, **GPT)
tokenizer_base("made-qwen", "bpe plain", qwen, "Qwen2Tokenizer", eos_token="<|im_end|>", pad_token="<|endoftext|>")
tokenizer_base("made-qwen-fast", "bpe plain", qwen, eos_token="<|im_end|>", pad_token="<|endoftext|>")
tokenizer_base("made-modern", "bpe plain bert-names", modern, **BERT)
tokenizer_base("made-llama", "bpe plain", llama, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
tokenizer_base("made-word-level", "wordlevel plain bert-names", word_level, **BERT)
tokenizer_base("made-sequence-bert", "wordpiece plain bert-names", sequence_bert, **BERT)
tokenizer_base("made-sequence-bert-class", "wordpiece plain bert-names", sequence_bert, "BertTokenizer", do_lower_case=True, **BERT)
tokenizer_base("made-whole-text", "bpe plain", whole_text, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
tokenizer_base("made-split-digits", "unigram plain", split_digits, **{key: value for key, value in ROBERTA.items() if key != "mask_token"})


# ---------------------------------------------------------------- sentencepiece


def spm(kind, **more):
    """The bytes of a sentencepiece model."""
    import sentencepiece

    target = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text.replace("\0", "") for text in CORPUS if text.strip()] * 5), model_writer=target, model_type=kind,
        hard_vocab_limit=False, character_coverage=0.98, minloglevel=3, **{"vocab_size": 260, **more},
    )
    return target.getvalue()


def sentencepiece_base(name, tokenizer, file, kind="unigram", saved=True, config=None, **more):
    """A base whose tokenizer is a sentencepiece model, as it is or as transformers saves it: with a tokenizer.json."""
    def make(folder):
        from transformers import AutoTokenizer

        folder.write(file, spm(kind, **more))
        folder.write("tokenizer_config.json", {"tokenizer_class": tokenizer, **(config or {})})
        folder.write("config.json", {"model_type": "bert"})
        loaded = AutoTokenizer.from_pretrained(folder.path)
        if saved:
            folder.remove(file, "tokenizer_config.json")
            loaded.save_pretrained(folder.path)
        random_bert(folder, len(loaded))

    base(name, f"unigram made-tokenizer bert plain {'json' if saved else 'spm'}", make)


DEBERTA = dict(bos_id=-1, eos_id=-1, pad_id=0, unk_id=3, pad_piece="[PAD]", unk_piece="[UNK]", control_symbols=["[CLS]", "[SEP]", "[MASK]"])
sentencepiece_base("spm-xlmr", "XLMRobertaTokenizer", "sentencepiece.bpe.model")
sentencepiece_base("spm-xlmr-alone", "XLMRobertaTokenizer", "sentencepiece.bpe.model", saved=False)
sentencepiece_base("spm-camembert", "CamembertTokenizer", "sentencepiece.bpe.model")
sentencepiece_base("spm-deberta", "DebertaV2Tokenizer", "spm.model", user_defined_symbols=["[CLS]", "[SEP]", "[MASK]"], unk_piece="[UNK]", pad_id=3, pad_piece="[PAD]")
sentencepiece_base("spm-albert", "AlbertTokenizer", "spiece.model", unk_piece="<unk>", user_defined_symbols=["[CLS]", "[SEP]", "[MASK]"], pad_id=3)
sentencepiece_base("spm-t5", "T5Tokenizer", "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
sentencepiece_base("spm-llama", "LlamaTokenizer", "tokenizer.model", kind="bpe", byte_fallback=True, vocab_size=420)
sentencepiece_base("spm-xlmr-lower", "XLMRobertaTokenizer", "sentencepiece.bpe.model", normalization_rule_name="nmt_nfkc_cf")
