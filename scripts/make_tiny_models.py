#!/usr/bin/env python3
"""Makes the tiny random models of engine/testdata, and goldens for them with transformers.

Each of the first four has the file set, names, special-token ids and config values of a repository on the Hub, scaled
down: what breaks on the real one should break here. The others stand for the remaining architectures.

    python scripts/make_tiny_models.py                      # everything but MiniLM's goldens
    python scripts/make_tiny_models.py --minilm MODEL_DIR   # goldens for the real MiniLM as well

Weights are drawn from a fixed seed, large enough that attention is far from uniform, with biases and normalisations
that are not zero and one: a term left out shows. Needs torch, transformers, tokenizers, safetensors.
"""

import argparse
import json
import shutil
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoModelForTextEncoding, AutoTokenizer,
)

OUT = Path(__file__).resolve().parent.parent / "engine" / "testdata"

CORPUS = [
    "Por fin el calor está bajando y ya puedo salir a la calle.",
    "Hoy vamos a comer unos tacos de canasta con mucha salsa verde.",
    "Me la pasé cocinando la cena todo el día y nadie vino.",
    "Tengo que dormir bien porque mañana tengo examen de matemáticas.",
    "Mi propósito es hacer más ejercicio este año, aunque llueva.",
    "Me toca ir al gimnasio pero estoy muy cansado y hace frío.",
    "¡Qué alegría verte! ¿Cómo estás? Hace años que no hablábamos.",
    "El niño pequeño soñó con un pingüino que comía piñas en la montaña.",
    "La canción que escuchamos ayer en el camión me recordó a mi abuela.",
    "No sé si quedarme en casa leyendo o salir a caminar por el parque.",
    "Ciudad de México amaneció nublada; el tráfico está imposible, como siempre.",
    "Compré 3 kilos de tomates a 25.50 pesos, ¡una ganga!",
    "@maria mira esto: https://ejemplo.mx/nota?id=42 #noticias",
    "jajajaja no puede ser, qué risa me dio lo que dijiste",
    "Vamos a la playa, oh oh oh oh oh",
    "El perro del vecino ladra toda la noche y no me deja dormir.",
]

TEXTS = CORPUS + [
    "a",
    "ñ",
    ".",
    "😀",
    "👩‍👩‍👧‍👦 familia con ZWJ 👍🏽 y bandera 🇲🇽",
    unicodedata.normalize("NFC", "camión, pingüino, mañana, corazón: NFC"),
    unicodedata.normalize("NFD", "camión, pingüino, mañana, corazón: NFD"),
    "MAYÚSCULAS ÁÉÍÓÚ Ñ y minúsculas áéíóú ñ",
    "primera línea\r\nsegunda línea\r\n\r\ncuarta línea\ttabulada",
    "  espacios   al principio,  en medio y al final   ",
    "literal [SEP] y [CLS] y [MASK] dentro del texto [PAD]",
    "literal <mask> y <s> y </s> dentro del texto <pad> <unk>",
    "El <mask> de la casa es azul.<mask>!",
    "control\x00\x01\x07 nulo \u200b ancho cero \u00ad guion blando \ufeff marca",
    "日本語 mezclado con español 中文字符 y русский текст",
    "x" * 300,
    "supercalifragilisticoespialidoso" * 4 + " fin",
    "palabra " * 200,
    " ".join(CORPUS),
    "1234567890 3.14159 1/2 ½ x² 10€ $50 100%",
    "«comillas» “curvas” ‘simples’ — raya – guion… puntos",
    "\u0301\u0301 acentos sueltos \u0303",
    "Mexico_City _GEO _USR mira _URL que bonito día",
    "no\u00a0separable\u2003espacio\u3000ancho",
    "😂😂😂😂😂😂 jajaja 🤣🤣",
]

SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)


def word_piece(normalizer, specials, size):
    """Trains a WordPiece vocabulary; returns the pieces in order, `specials` first."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=[], show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    return specials + [piece for piece in pieces if piece not in specials]


def bert_tokenizer(vocab, normalizer, cls, sep, unk, added):
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(vocab)}, unk_token=unk))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in added])
    ids = {token: tokenizer.token_to_id(token) for token in (cls, sep)}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0", pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1", special_tokens=list(ids.items())
    )
    return tokenizer


def byte_level_tokenizer(size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True)
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    # As in RoBERTa's files: the mask is the last entry of the vocabulary itself.
    model = json.loads(tokenizer.to_str())["model"]
    vocab = {**model["vocab"], "<mask>": len(model["vocab"])}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=True)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", vocab["</s>"]), ("<s>", vocab["<s>"]), trim_offsets=True, add_prefix_space=False
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    tokenizer.add_special_tokens([AddedToken("<mask>", special=True, normalized=False, lstrip=True)])
    return tokenizer, vocab, merges


def unigram_tokenizer(size, specials, cls, sep, unk, pre_tokenizer, normalizer=None):
    """A tokenizer as converted from sentencepiece: Unigram over words marked with a low line."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer or normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=[t for t in specials if t != "<mask>" and t != "[MASK]"], unk_token=unk,
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False, lstrip="MASK" in t.upper()) for t in specials])
    ids = {token: tokenizer.token_to_id(token) for token in (cls, sep)}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} {sep} $B {sep}", special_tokens=list(ids.items())
    )
    return tokenizer


def random_model(cls, config, seed):
    """Returns a model in which every parameter affects the output."""
    torch.manual_seed(seed)
    model = cls.from_config(config).eval().float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.25 if parameter.dim() > 1 else 0.1
            centre = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
            parameter.copy_(centre + scale * torch.randn_like(parameter))
    model.tie_weights()
    return model


def fresh(name):
    directory = OUT / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def write_json(path, value, indent=2):
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def tensors_of(model):
    """Returns the state dict as in old files: separate tensors, ties written out."""
    return {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}


def config_of(model_type, path, **values):
    """Writes a config.json and reads it back with transformers."""
    write_json(path / "config.json", {"model_type": model_type, **values})
    return AutoConfig.from_pretrained(path)


def goldens(directory, max_length, out=None, last=False, model_class=AutoModel):
    """Token ids, and the first and the mean token vector, of every text, or the last one too; one text at a time, so
    nothing is padded."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = model_class.from_pretrained(directory, attn_implementation="eager", dtype=torch.float32).eval()
    ids, vectors = [], {name: [] for name in ("cls", "mean", "last")[: 3 if last else 2]}
    with torch.no_grad():
        for text in TEXTS:
            encoded = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
            encoded.pop("token_type_ids", None)
            hidden = model(**encoded).last_hidden_state[0]
            ids.append(encoded["input_ids"][0].tolist())
            for name, rows in vectors.items():
                rows.append({"cls": hidden[0], "mean": hidden.mean(0), "last": hidden[-1]}[name])
    lines = ",\n    ".join(json.dumps(row) for row in ids)
    out = out or directory
    (out / "goldens.json").write_text(f'{{"max_length": {max_length}, "ids": [\n    {lines}\n]}}\n')
    save_file({name: torch.stack(rows) for name, rows in vectors.items()}, out / "goldens.safetensors")


def make_beto():
    """dccuchile/bert-base-spanish-wwm-cased: a .bin only, odd special ids, no pooler, accents kept."""
    path = fresh("beto")
    normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False)
    specials = ["[MASK]", "[PAD]", "[EOS]", "[UNK]", "[CLS]", "[SEP]"]
    vocab = word_piece(normalizer, specials, 300)
    config = config_of(
        "bert", path, architectures=["BertForMaskedLM"], attention_probs_dropout_prob=0.1, hidden_act="gelu",
        hidden_dropout_prob=0.1, initializer_range=0.02, layer_norm_eps=1e-12, max_position_embeddings=64,
        output_past=True, pad_token_id=1, type_vocab_size=2, vocab_size=len(vocab), **SIZES,
    )
    tensors = tensors_of(random_model(AutoModelForMaskedLM, config, 1))
    # Files saved before 2023 carry the positions 0..n as a tensor.
    tensors["bert.embeddings.position_ids"] = torch.arange(64).unsqueeze(0)
    torch.save(tensors, path / "pytorch_model.bin")
    (path / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    added = ["[MASK]", "[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    bert_tokenizer(vocab, normalizer, "[CLS]", "[SEP]", "[UNK]", added).save(str(path / "tokenizer.json"), pretty=False)
    names = dict(unk_token="[UNK]", sep_token="[SEP]", pad_token="[PAD]", cls_token="[CLS]", mask_token="[MASK]")
    write_json(path / "special_tokens_map.json", names, None)
    write_json(
        path / "tokenizer_config.json",
        {"do_lower_case": False, **names, "tokenize_chinese_chars": True, "strip_accents": False,
         "model_max_length": 512, "do_basic_tokenize": True, "never_split": None, "tokenizer_class": "BertTokenizer"},
        None,
    )
    goldens(path, 64)


def make_bertin():
    """bertin-project/bertin-roberta-base-spanish: byte-level BPE, positions from 2; a .bin beside the safetensors."""
    path = fresh("bertin")
    tokenizer, vocab, merges = byte_level_tokenizer(400)
    config = config_of(
        "roberta", path, architectures=["RobertaForMaskedLM"], attention_probs_dropout_prob=0.1, bos_token_id=0,
        eos_token_id=2, gradient_checkpointing=False, hidden_act="gelu", hidden_dropout_prob=0.1,
        initializer_range=0.02, layer_norm_eps=1e-5, max_position_embeddings=66, pad_token_id=1,
        position_embedding_type="absolute", type_vocab_size=1, use_cache=True, vocab_size=len(vocab), **SIZES,
    )
    save_file(tensors_of(random_model(AutoModelForMaskedLM, config, 2)), path / "model.safetensors", {"format": "pt"})
    # Different weights, so that reading this file instead of the safetensors fails the goldens.
    torch.save(tensors_of(random_model(AutoModelForMaskedLM, config, 3)), path / "pytorch_model.bin")
    tokenizer.save(str(path / "tokenizer.json"), pretty=False)
    write_json(path / "vocab.json", vocab, None)
    (path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    names = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", sep_token="</s>", pad_token="<pad>", cls_token="<s>")
    mask = dict(content="<mask>", single_word=False, lstrip=True, rstrip=False, normalized=False)
    write_json(path / "special_tokens_map.json", {**names, "mask_token": mask}, None)
    write_json(
        path / "tokenizer_config.json",
        {**names, "add_prefix_space": False, "errors": "replace", "mask_token": {**mask, "__type": "AddedToken"},
         "trim_offsets": True, "tokenizer_class": "RobertaTokenizer", "model_max_length": 512},
        None,
    )
    goldens(path, 64)


def make_mbert():
    """google-bert/bert-base-multilingual-uncased: gamma and beta, a pooler, accents stripped, unused tokens first."""
    path = fresh("mbert")
    normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    unused = ["[PAD]"] + [f"[unused{i}]" for i in range(1, 100)] + ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = word_piece(normalizer, unused, 200)
    config = config_of(
        "bert", path, architectures=["BertForMaskedLM"], attention_probs_dropout_prob=0.1, directionality="bidi",
        hidden_act="gelu", hidden_dropout_prob=0.1, initializer_range=0.02, layer_norm_eps=1e-12,
        max_position_embeddings=64, pad_token_id=0, pooler_fc_size=768, pooler_num_attention_heads=12,
        pooler_num_fc_layers=3, pooler_size_per_head=128, pooler_type="first_token_transform",
        position_embedding_type="absolute", type_vocab_size=2, use_cache=True, vocab_size=len(vocab), **SIZES,
    )
    model = random_model(AutoModelForMaskedLM, config, 4)
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors_of(model).items()
    }
    tensors["bert.pooler.dense.weight"] = torch.randn(32, 32)
    tensors["bert.pooler.dense.bias"] = torch.randn(32)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    (path / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    added = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    bert_tokenizer(vocab, normalizer, "[CLS]", "[SEP]", "[UNK]", added).save(str(path / "tokenizer.json"), pretty=False)
    write_json(path / "tokenizer_config.json", {"do_lower_case": True, "model_max_length": 512}, None)
    goldens(path, 64)
    body = AutoModel.from_pretrained(path).embeddings.LayerNorm.weight
    assert torch.equal(body, tensors["bert.embeddings.LayerNorm.gamma"]), "transformers read gamma as the weight"


def make_mex_large():
    """guillermoruiz/mex_large: a RoBERTa with a WordPiece vocabulary; its padding id in the config is a plain word."""
    path = fresh("mex_large")
    normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=False)
    ordinary = word_piece(normalizer, [], 300)
    # A frequent word gets id 1, which the config calls padding.
    ordinary = [ordinary[0], "de"] + [piece for piece in ordinary[1:] if piece != "de"]
    specials = ["</s>", "<mask>", "<pad>", "<s>", "<unk>"]
    added = {token: len(ordinary) + i for i, token in enumerate(specials)}
    vocab = ordinary + specials
    config = config_of(
        "roberta", path, architectures=["RobertaForMaskedLM"], attention_probs_dropout_prob=0.1, bos_token_id=0,
        eos_token_id=2, hidden_act="gelu", hidden_dropout_prob=0.1, initializer_range=0.02, layer_norm_eps=1e-12,
        max_position_embeddings=66, pad_token_id=1, position_embedding_type="absolute", torch_dtype="float32",
        type_vocab_size=1, use_cache=True, vocab_size=len(vocab), hidden_size=40, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=160,
    )
    save_file(tensors_of(random_model(AutoModelForMaskedLM, config, 5)), path / "model.safetensors", {"format": "pt"})
    (path / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    tokenizer = bert_tokenizer(vocab, normalizer, "<s>", "</s>", "<unk>", specials)
    tokenizer.save(str(path / "tokenizer.json"), pretty=False)
    write_json(path / "added_tokens.json", added)
    properties = dict(lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
    write_json(
        path / "tokenizer_config.json",
        {"added_tokens_decoder": {str(id): {"content": token, **properties} for token, id in added.items()},
         "bos_token": "<s>", "cls_token": "<s>", "do_lower_case": False, "eos_token": "</s>", "mask_token": "<mask>",
         "model_max_length": 1000000000000000019884624838656, "pad_token": "<pad>", "sep_token": "</s>",
         "strip_accents": None, "tokenize_chinese_chars": True, "tokenizer_class": "BertTokenizer",
         "unk_token": "<unk>"},
    )
    goldens(path, 64)
    used = {id for row in json.loads((path / "goldens.json").read_text())["ids"] for id in row}
    assert 1 in used, "no text has the word whose id the config calls padding"


def plain_files(path, tokenizer, **names):
    tokenizer.save(str(path / "tokenizer.json"), pretty=False)
    write_json(path / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **names}, None)


ROBERTA_NAMES = dict(
    bos_token="<s>", eos_token="</s>", unk_token="<unk>", sep_token="</s>", pad_token="<pad>", cls_token="<s>",
    mask_token="<mask>",
)
BERT_NAMES = dict(unk_token="[UNK]", sep_token="[SEP]", pad_token="[PAD]", cls_token="[CLS]", mask_token="[MASK]")


def roberta_unigram(size):
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pre = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    return unigram_tokenizer(size, specials, "<s>", "</s>", "<unk>", pre)


def make_xlm_roberta():
    """Unigram, half-precision weights without any prefix, GELU by tanh."""
    path = fresh("xlm_roberta")
    tokenizer = roberta_unigram(250)
    config = config_of(
        "xlm-roberta", path, architectures=["XLMRobertaModel"], hidden_act="gelu_new", layer_norm_eps=1e-5,
        max_position_embeddings=66, pad_token_id=1, type_vocab_size=1, vocab_size=tokenizer.get_vocab_size(), **SIZES,
    )
    model = random_model(AutoModel, config, 6)
    save_file({n: t.half() for n, t in tensors_of(model).items()}, path / "model.safetensors", {"format": "pt"})
    plain_files(path, tokenizer, **ROBERTA_NAMES)
    goldens(path, 64)


def make_camembert():
    """Sharded bfloat16 safetensors under `roberta.`, a relu."""
    path = fresh("camembert")
    tokenizer = roberta_unigram(200)
    config = config_of(
        "camembert", path, architectures=["CamembertForMaskedLM"], hidden_act="relu", layer_norm_eps=1e-5,
        max_position_embeddings=66, pad_token_id=1, type_vocab_size=1, vocab_size=tokenizer.get_vocab_size(), **SIZES,
    )
    model = random_model(AutoModelForMaskedLM, config, 7)
    tensors = {name: tensor.bfloat16() for name, tensor in tensors_of(model).items()}
    weight_map = {}
    for part in range(2):
        file = f"model-{part + 1:05}-of-00002.safetensors"
        names = [name for i, name in enumerate(sorted(tensors)) if i % 2 == part]
        save_file({name: tensors[name] for name in names}, path / file, {"format": "pt"})
        weight_map |= {name: file for name in names}
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_json(path / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})
    plain_files(path, tokenizer, **ROBERTA_NAMES)
    goldens(path, 64)


def small_bert_tokenizer():
    normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = word_piece(normalizer, specials, 200)
    return bert_tokenizer(vocab, normalizer, "[CLS]", "[SEP]", "[UNK]", specials)


def make_distilbert():
    path = fresh("distilbert")
    tokenizer = small_bert_tokenizer()
    config = config_of(
        "distilbert", path, architectures=["DistilBertForMaskedLM"], activation="gelu", attention_dropout=0.1, dim=32,
        dropout=0.1, hidden_dim=64, initializer_range=0.02, max_position_embeddings=64, n_heads=4, n_layers=2,
        pad_token_id=0, sinusoidal_pos_embds=False, tie_weights_=True, vocab_size=tokenizer.get_vocab_size(),
    )
    save_file(tensors_of(random_model(AutoModelForMaskedLM, config, 8)), path / "model.safetensors", {"format": "pt"})
    plain_files(path, tokenizer, **BERT_NAMES)
    goldens(path, 64)


def make_modernbert():
    path = fresh("modernbert")
    tokenizer, vocab, _ = byte_level_tokenizer(320)
    config = config_of(
        "modernbert", path, architectures=["ModernBertForMaskedLM"], attention_bias=False, bos_token_id=0,
        classifier_pooling="mean", cls_token_id=0, eos_token_id=2, global_attn_every_n_layers=3,
        global_rope_theta=160000.0, hidden_activation="gelu", hidden_size=32, intermediate_size=48, layer_norm_eps=1e-5,
        local_attention=16, local_rope_theta=10000.0, max_position_embeddings=128, mlp_bias=False, norm_bias=False,
        norm_eps=1e-5, num_attention_heads=4, num_hidden_layers=4, pad_token_id=1, sep_token_id=2,
        vocab_size=len(vocab),
    )
    save_file(tensors_of(random_model(AutoModelForMaskedLM, config, 9)), path / "model.safetensors", {"format": "pt"})
    plain_files(path, tokenizer, **ROBERTA_NAMES)
    goldens(path, 128)


def make_deberta_v2():
    path = fresh("deberta_v2")
    specials = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    tokenizer = unigram_tokenizer(250, specials, "[CLS]", "[SEP]", "[UNK]", pre_tokenizers.Metaspace())
    config = config_of(
        "deberta-v2", path, architectures=["DebertaV2ForMaskedLM"], attention_probs_dropout_prob=0.1,
        hidden_act="gelu", hidden_dropout_prob=0.1, initializer_range=0.02, layer_norm_eps=1e-7,
        max_position_embeddings=64, max_relative_positions=-1, norm_rel_ebd="layer_norm", pad_token_id=0,
        pos_att_type="p2c|c2p", position_biased_input=False, position_buckets=16, relative_attention=True,
        share_att_key=True, type_vocab_size=0, vocab_size=tokenizer.get_vocab_size(), **SIZES,
    )
    save_file(tensors_of(random_model(AutoModel, config, 10)), path / "model.safetensors", {"format": "pt"})
    plain_files(path, tokenizer, **BERT_NAMES)
    goldens(path, 64)


def make_nomic_bert():
    """Tensors under the names of the model's authors, a config in those of transformers."""
    path = fresh("nomic_bert")
    tokenizer = small_bert_tokenizer()
    config = config_of("nomic_bert", path, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=64, **SIZES)
    # transformers renames the tensors on the way out, and that back into the layout of the Hub's files.
    random_model(AutoModel, config, 11).save_pretrained(path)
    plain_files(path, tokenizer, **BERT_NAMES)
    goldens(path, 64)


def make_mpnet():
    """microsoft/mpnet-base with the tokenizer of sentence-transformers/all-mpnet-base-v2: texts beyond the farthest bucket."""
    path = fresh("mpnet")
    normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    own = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = word_piece(normalizer, ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], 250)
    vocab = own + pieces + ["<mask>"]
    config = config_of(
        "mpnet", path, architectures=["MPNetForMaskedLM"], attention_probs_dropout_prob=0.1, bos_token_id=0,
        eos_token_id=2, hidden_act="gelu", hidden_dropout_prob=0.1, initializer_range=0.02, layer_norm_eps=1e-5,
        max_position_embeddings=202, pad_token_id=1, relative_attention_num_buckets=32, vocab_size=len(vocab), **SIZES,
    )
    model = random_model(AutoModelForMaskedLM, config, 12)
    with torch.no_grad():
        # Scores that depend as much on distances as on words.
        model.mpnet.encoder.relative_attention_bias.weight.mul_(4)
    tensors = tensors_of(model)
    # Files saved before 2023 carry the positions 0..n as a tensor.
    tensors["mpnet.embeddings.position_ids"] = torch.arange(202).unsqueeze(0)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    (path / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    tokenizer = bert_tokenizer(vocab, normalizer, "<s>", "</s>", "[UNK]", ["<s>", "<pad>", "</s>", "[UNK]"])
    tokenizer.add_special_tokens([AddedToken("<mask>", special=True, normalized=False, lstrip=True)])
    tokenizer.save(str(path / "tokenizer.json"), pretty=False)
    names = dict(
        bos_token="<s>", cls_token="<s>", eos_token="</s>", mask_token="<mask>", pad_token="<pad>", sep_token="</s>",
        unk_token="[UNK]",
    )
    mask = dict(content="<mask>", single_word=False, lstrip=True, rstrip=False, normalized=False)
    write_json(path / "special_tokens_map.json", {**names, "mask_token": mask}, None)
    write_json(
        path / "tokenizer_config.json",
        {**names, "do_lower_case": True, "model_max_length": 512, "strip_accents": None, "tokenize_chinese_chars": True,
         "tokenizer_class": "MPNetTokenizer"},
        None,
    )
    goldens(path, 200)


def make_electra():
    """google/electra-small-generator: embeddings narrower than the layers."""
    path = fresh("electra")
    normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    specials = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = word_piece(normalizer, specials, 250)
    config = config_of(
        "electra", path, architectures=["ElectraForMaskedLM"], attention_probs_dropout_prob=0.1, embedding_size=16,
        hidden_act="gelu", hidden_dropout_prob=0.1, initializer_range=0.02, layer_norm_eps=1e-12,
        max_position_embeddings=64, pad_token_id=0, position_embedding_type="absolute", summary_activation="gelu",
        summary_last_dropout=0.1, summary_type="first", summary_use_proj=True, type_vocab_size=2,
        vocab_size=len(vocab), **SIZES,
    )
    save_file(tensors_of(random_model(AutoModelForMaskedLM, config, 13)), path / "model.safetensors", {"format": "pt"})
    (path / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    added = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    bert_tokenizer(vocab, normalizer, "[CLS]", "[SEP]", "[UNK]", added).save(str(path / "tokenizer.json"), pretty=False)
    write_json(path / "tokenizer_config.json", {"do_lower_case": True, "model_max_length": 512}, None)
    goldens(path, 64)


def make_albert():
    """albert/albert-base-v2: embeddings narrower than the layers, one layer that runs three times."""
    path = fresh("albert")
    specials = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    pre = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    quotes = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    plain = normalizers.Sequence([*quotes, normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    tokenizer = unigram_tokenizer(250, specials, "[CLS]", "[SEP]", "<unk>", pre, plain)
    config = config_of(
        "albert", path, architectures=["AlbertForMaskedLM"], attention_probs_dropout_prob=0, bos_token_id=2,
        classifier_dropout_prob=0.1, down_scale_factor=1, embedding_size=16, eos_token_id=3, gap_size=0,
        hidden_act="gelu_new", hidden_dropout_prob=0, initializer_range=0.02, inner_group_num=1, layer_norm_eps=1e-12,
        max_position_embeddings=64, net_structure_type=0, num_hidden_groups=1, num_memory_blocks=0, pad_token_id=0,
        type_vocab_size=2, vocab_size=tokenizer.get_vocab_size(), **{**SIZES, "num_hidden_layers": 3},
    )
    save_file(tensors_of(random_model(AutoModelForMaskedLM, config, 23)), path / "model.safetensors", {"format": "pt"})
    tokenizer.save(str(path / "tokenizer.json"), pretty=False)
    names = dict(
        bos_token="[CLS]", cls_token="[CLS]", eos_token="[SEP]", mask_token="[MASK]", pad_token="<pad>",
        sep_token="[SEP]", unk_token="<unk>",
    )
    mask = dict(content="[MASK]", single_word=False, lstrip=True, rstrip=False, normalized=False)
    write_json(path / "special_tokens_map.json", {**names, "mask_token": mask}, None)
    write_json(
        path / "tokenizer_config.json",
        {**names, "do_lower_case": True, "keep_accents": False, "model_max_length": 512, "remove_space": True,
         "mask_token": {**mask, "__type": "AddedToken"}, "tokenizer_class": "AlbertTokenizer"},
        None,
    )
    goldens(path, 64)


LLAMA_3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split_byte_level_tokenizer(size, words, specials, normalizer=None, **model_options):
    """Byte-level BPE that splits words by a regex, as in LLaMA 3 and Qwen; special tokens come after the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(words), behavior="isolated", invert=False)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[], show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab, merges = model["vocab"], [tuple(merge) for merge in model["merges"]]
    built = Tokenizer(models.BPE(vocab=vocab, merges=merges, **model_options))
    if normalizer:
        built.normalizer = normalizer
    built.pre_tokenizer = tokenizer.pre_tokenizer
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return built, vocab, merges


def surround(tokenizer, start, end):
    """Puts tokens around a text by a template, after a step that only concerns offsets."""
    tokens = [token for token in (start, end) if token]
    template = processors.TemplateProcessing(
        single=" ".join(filter(None, [start, "$A", end])), pair=" ".join(filter(None, [start, "$A", end, start, "$B", end])),
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in tokens],
    )
    byte_level = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.post_processor = processors.Sequence([byte_level, template])


def added_tokens_decoder(tokenizer, specials):
    properties = dict(lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
    return {str(tokenizer.token_to_id(token)): {"content": token, **properties} for token in specials}


def make_eurobert():
    """EuroBERT/EuroBERT-610m: LLaMA 3's tokenizer, fewer heads of keys than of queries, bfloat16, a head that is not tied."""
    path = fresh("eurobert")
    begin, end, mask, pad = specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|mask|>", "<|pad|>"]
    tokenizer, vocab, _ = split_byte_level_tokenizer(360, LLAMA_3_WORDS, specials, ignore_merges=True)
    surround(tokenizer, begin, end)
    code = {name: f"modeling_eurobert.EuroBert{suffix}" for name, suffix in [("AutoModel", "Model"), ("AutoModelForMaskedLM", "ForMaskedLM")]}
    config = config_of(
        "eurobert", path, architectures=["EuroBertForMaskedLM"], attention_bias=False, attention_dropout=0.0,
        auto_map={"AutoConfig": "configuration_eurobert.EuroBertConfig", **code}, bos_token=begin,
        bos_token_id=len(vocab), eos_token=end, eos_token_id=len(vocab) + 1, head_dim=8, hidden_act="silu",
        hidden_dropout=0.0, hidden_size=32, initializer_range=0.02, intermediate_size=64, mask_token=mask,
        mask_token_id=len(vocab) + 2, max_position_embeddings=128, mlp_bias=False, num_attention_heads=4,
        num_hidden_layers=2, num_key_value_heads=2, pad_token=pad, pad_token_id=len(vocab) + 3, pretraining_tp=1,
        rms_norm_eps=1e-5, rope_scaling=None, rope_theta=250000, tie_word_embeddings=False, torch_dtype="bfloat16",
        use_cache=False, vocab_size=len(vocab) + len(specials),
    )
    model = random_model(AutoModelForMaskedLM, config, 20)
    save_file({n: t.bfloat16() for n, t in tensors_of(model).items()}, path / "model.safetensors", {"format": "pt"})
    tokenizer.save(str(path / "tokenizer.json"), pretty=False)
    names = dict(bos_token=begin, eos_token=end, mask_token=mask, pad_token=pad)
    write_json(path / "special_tokens_map.json", names)
    write_json(
        path / "tokenizer_config.json",
        {"added_tokens_decoder": added_tokens_decoder(tokenizer, specials), **names,
         "clean_up_tokenization_spaces": True, "model_input_names": ["input_ids", "attention_mask"],
         "model_max_length": 8192, "tokenizer_class": "PreTrainedTokenizerFast"},
    )
    goldens(path, 128, last=True)


QWEN_WORDS = LLAMA_3_WORDS.replace("{1,3}", "")


def make_qwen3():
    """Qwen/Qwen3-Embedding-0.6B: the body without a prefix, in bfloat16; heads wider than the layers; a token at the end that
    only the post-processor adds."""
    path = fresh("qwen3")
    end = "<|endoftext|>"
    specials = [end, "<|im_start|>", "<|im_end|>", "<|object_ref_start|>"]
    tokenizer, vocab, merges = split_byte_level_tokenizer(340, QWEN_WORDS, specials, normalizers.NFC())
    surround(tokenizer, None, end)
    config = config_of(
        "qwen3", path, architectures=["Qwen3ForCausalLM"], attention_bias=False, attention_dropout=0.0,
        bos_token_id=len(vocab), eos_token_id=len(vocab), head_dim=16, hidden_act="silu", hidden_size=32,
        initializer_range=0.02, intermediate_size=96, max_position_embeddings=256, max_window_layers=2,
        num_attention_heads=4, num_hidden_layers=2, num_key_value_heads=2, rms_norm_eps=1e-6, rope_scaling=None,
        rope_theta=1000000, sliding_window=None, tie_word_embeddings=True, torch_dtype="bfloat16",
        use_cache=True, use_sliding_window=False, vocab_size=len(vocab) + len(specials),
    )
    model = random_model(AutoModel, config, 21)
    save_file({n: t.bfloat16() for n, t in tensors_of(model).items()}, path / "model.safetensors", {"format": "pt"})
    tokenizer.save(str(path / "tokenizer.json"), pretty=False)
    write_json(path / "vocab.json", vocab, None)
    (path / "merges.txt").write_text("".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    write_json(path / "generation_config.json", {"bos_token_id": len(vocab), "eos_token_id": len(vocab), "max_new_tokens": 2048})
    write_json(
        path / "tokenizer_config.json",
        {"add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added_tokens_decoder(tokenizer, specials),
         "additional_special_tokens": specials[1:], "bos_token": None, "clean_up_tokenization_spaces": False,
         "eos_token": "<|im_end|>", "errors": "replace", "model_max_length": 131072, "pad_token": end,
         "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None},
    )
    goldens(path, 256, last=True)


def save_gte(path, config, seed, reference, dtype=torch.float32, **own):
    """Writes a model under Alibaba's tensor names. `reference` is the config of transformers, `own` that of the repository."""
    own_config = config_of("gte", reference, **config)
    random_model(AutoModel, own_config, seed).to(dtype).save_pretrained(reference)
    tensors = {f"new.{name}": tensor for name, tensor in load_file(reference / "model.safetensors").items()}
    # A head that no embedding needs.
    tensors["classifier.weight"], tensors["classifier.bias"] = torch.randn(1, 32).to(dtype), torch.randn(1).to(dtype)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    write_json(path / "config.json", own)


def goldens_by(reference, path):
    """Goldens by the same model as transformers has it."""
    for file in path.iterdir():
        if "token" in file.name or file.name == "vocab.txt":
            shutil.copy(file, reference)
    goldens(reference, 64, path)


GTE_OWN = dict(
    attention_probs_dropout_prob=0.0, classifier_dropout=0.0, hidden_act="gelu", hidden_dropout_prob=0.1,
    id2label={"0": "LABEL_0"}, initializer_range=0.02, label2id={"LABEL_0": 0}, layer_norm_eps=1e-12,
    layer_norm_type="layer_norm", logn_attention_clip1=False, logn_attention_scale=False, model_type="new",
    pack_qkv=True, position_embedding_type="rope", transformers_version="4.39.1", unpad_inputs=False,
    use_memory_efficient_attention=False,
)


def gte_code(classes):
    code = {name: f"Alibaba-NLP/new-impl--modeling.{cls}" for name, cls in classes.items()}
    return {"AutoConfig": "Alibaba-NLP/new-impl--configuration.NewConfig", **code}


def ntk(theta, factor, head_size):
    """NTK scaling as a linear one of another base, which is how transformers can compute it."""
    return dict(rope_type="linear", rope_theta=theta * factor, factor=factor ** (2 / head_size))


def gte_multilingual_tokenizer(path):
    tokenizer = roberta_unigram(250)
    # The tokenizer's class takes over no other normaliser than sentencepiece's own.
    tokenizer.normalizer = None
    tokenizer.save(str(path / "tokenizer.json"), pretty=False)
    mask = dict(content="<mask>", lstrip=True, normalized=False, rstrip=False, single_word=False)
    write_json(path / "special_tokens_map.json", {**ROBERTA_NAMES, "mask_token": mask})
    write_json(
        path / "tokenizer_config.json",
        {"clean_up_tokenization_spaces": True, **ROBERTA_NAMES, "model_max_length": 32768,
         "tokenizer_class": "XLMRobertaTokenizerFast"},
    )
    return tokenizer


def make_gte():
    """alibaba-nlp-community/gte-multilingual-base: the architecture of transformers, the tensors of Alibaba."""
    path = fresh("gte")
    tokenizer = gte_multilingual_tokenizer(path)
    config = dict(
        architectures=["GteModel"], hidden_act="gelu", layer_norm_eps=1e-12, max_position_embeddings=64, pad_token_id=1,
        rope_parameters=ntk(20000.0, 8.0, 8), type_vocab_size=1, vocab_size=tokenizer.get_vocab_size(), **SIZES,
    )
    with TemporaryDirectory() as reference:
        save_gte(path, config, 30, Path(reference), model_type="gte", **config)
    goldens(path, 64)


def make_gte_multilingual():
    """Alibaba-NLP/gte-multilingual-base: 16-bit floats, NTK scaling, a head; goldens by the architecture of transformers."""
    path = fresh("gte_multilingual")
    tokenizer = gte_multilingual_tokenizer(path)
    shared = dict(
        max_position_embeddings=64, pad_token_id=1, type_vocab_size=1, vocab_size=tokenizer.get_vocab_size(), **SIZES,
    )
    own = dict(
        architectures=["NewModel", "NewForTokenClassification"],
        auto_map=gte_code({"AutoModel": "NewModel", "AutoModelForTokenClassification": "NewForTokenClassification"}),
        rope_scaling={"factor": 8.0, "type": "ntk"}, rope_theta=20000, torch_dtype="float16",
    )
    with TemporaryDirectory() as folder:
        reference = Path(folder)
        save_gte(
            path, {**shared, "rope_parameters": ntk(20000.0, 8.0, 8)}, 31, reference, torch.float16,
            **GTE_OWN, **own, **shared,
        )
        goldens_by(reference, path)


def make_gte_large_en():
    """Alibaba-NLP/gte-large-en-v1.5: BERT's tokenizer, more embeddings than tokens, two token types."""
    path = fresh("gte_large_en")
    tokenizer = small_bert_tokenizer()
    shared = dict(
        max_position_embeddings=64, pad_token_id=0, type_vocab_size=2, vocab_size=tokenizer.get_vocab_size() + 6, **SIZES,
    )
    own = dict(
        architectures=["NewModel"], auto_map=gte_code({"AutoModel": "NewModel", "AutoModelForMaskedLM": "NewForMaskedLM"}),
        rope_scaling={"factor": 2.0, "type": "ntk"}, rope_theta=160000, torch_dtype="float32",
    )
    with TemporaryDirectory() as folder:
        reference = Path(folder)
        save_gte(path, {**shared, "rope_parameters": ntk(160000.0, 2.0, 8)}, 32, reference, **GTE_OWN, **own, **shared)
        tokenizer.save(str(path / "tokenizer.json"), pretty=False)
        vocab = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
        (path / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
        write_json(path / "special_tokens_map.json", BERT_NAMES)
        write_json(
            path / "tokenizer_config.json",
            {"clean_up_tokenization_spaces": True, **BERT_NAMES, "do_lower_case": True, "model_max_length": 8000,
             "strip_accents": None, "tokenize_chinese_chars": True, "tokenizer_class": "BertTokenizer"},
        )
        goldens_by(reference, path)
def sentence_goldens(path):
    """Token ids, and the vector by sentence-transformers, of every text; one text at a time."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(path), device="cpu")
    ids, vectors = [], []
    for text in TEXTS:
        features = model.preprocess([text])
        ids.append(features["input_ids"].flatten().tolist())
        vectors.append([round(float(x), 7) for x in model.encode([text], normalize_embeddings=False)[0]])
    lines = ",\n    ".join(json.dumps({"ids": row, "vector": vector}) for row, vector in zip(ids, vectors))
    (path / "goldens-sentence.json").write_text(f"[\n    {lines}\n]\n")


def write_modules(path, *modules):
    """A modules.json as older releases write it: pairs of a path and a class."""
    listed = [
        {"idx": i, "name": str(i), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for i, (folder, kind) in enumerate(modules)
    ]
    write_json(path / "modules.json", listed)


def make_distiluse():
    """sentence-transformers/distiluse-base-multilingual-cased-v2: DistilBERT, the mean, and a Dense that narrows it."""
    path = fresh("distiluse")
    tokenizer = small_bert_tokenizer()
    config = config_of(
        "distilbert", path, architectures=["DistilBertModel"], activation="gelu", attention_dropout=0.1, dim=32,
        dropout=0.1, hidden_dim=64, initializer_range=0.02, max_position_embeddings=64, n_heads=4, n_layers=2,
        output_hidden_states=True, output_past=True, pad_token_id=0, qa_dropout=0.1, seq_classif_dropout=0.2,
        sinusoidal_pos_embds=False, tie_weights_=True, vocab_size=tokenizer.get_vocab_size(),
    )
    save_file(tensors_of(random_model(AutoModel, config, 13)), path / "model.safetensors", {"format": "pt"})
    plain_files(path, tokenizer, **BERT_NAMES)
    write_modules(path, ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"))
    write_json(path / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})
    versions = {"sentence_transformers": "2.0.0", "transformers": "4.7.0", "pytorch": "1.9.0+cu102"}
    write_json(path / "config_sentence_transformers.json", {"__version__": versions})
    for folder in ("1_Pooling", "2_Dense"):
        (path / folder).mkdir()
    flags = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    chosen = {f"pooling_mode_{flag}": flag == "mean_tokens" for flag in flags}
    write_json(path / "1_Pooling/config.json", {"word_embedding_dimension": 32, **chosen})
    tanh = "torch.nn.modules.activation.Tanh"
    dense = {"in_features": 32, "out_features": 24, "bias": True, "activation_function": tanh}
    write_json(path / "2_Dense/config.json", dense)
    torch.manual_seed(14)
    weights = {"linear.weight": 0.25 * torch.randn(24, 32), "linear.bias": 0.1 * torch.randn(24)}
    save_file(weights, path / "2_Dense/model.safetensors", {"format": "pt"})
    sentence_goldens(path)


def make_static_embedding():
    """sentence-transformers/static-retrieval-mrl-en-v1: a table of token vectors in its own folder, no config.json."""
    path = fresh("static_embedding")
    (path / "0_StaticEmbedding").mkdir()
    tokenizer = small_bert_tokenizer()
    tokenizer.save(str(path / "0_StaticEmbedding/tokenizer.json"), pretty=False)
    torch.manual_seed(15)
    table = torch.randn(tokenizer.get_vocab_size(), 16)
    save_file({"embedding.weight": table}, path / "0_StaticEmbedding/model.safetensors", {"format": "pt"})
    write_modules(path, ("0_StaticEmbedding", "StaticEmbedding"))
    versions = {"sentence_transformers": "3.3.0.dev0", "transformers": "4.46.2", "pytorch": "2.5.1+cu118"}
    settings = {"__version__": versions, "prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    write_json(path / "config_sentence_transformers.json", settings)
    sentence_goldens(path)


def gemma_tokenizer(size, specials):
    """Merges of pieces whose spaces are low lines, and bytes for what is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[], show_progress=False, limit_alphabet=80)
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    pieces = specials + [f"<0x{byte:02X}>" for byte in range(256)] + sorted(model["vocab"], key=model["vocab"].get)
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(merge) for merge in model["merges"]]
    built = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    built.normalizer = tokenizer.normalizer
    built.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    built.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    built.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    built.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", pair="<bos> $A <eos> <bos> $B <eos>",
        special_tokens=[(token, vocab[token]) for token in ("<bos>", "<eos>")],
    )
    return built


def make_gemma3_text():
    """google/embeddinggemma-300m: the body without a prefix, one head of keys, attention both ways, windows in most layers."""
    path = fresh("gemma3_text")
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokenizer = gemma_tokenizer(250, specials)
    config = config_of(
        "gemma3_text", path, _sliding_window_pattern=6, architectures=["Gemma3TextModel"], attention_bias=False,
        attention_dropout=0.0, attn_logit_softcapping=None, bos_token_id=2, dtype="float32", eos_token_id=1,
        final_logit_softcapping=None, head_dim=16, hidden_activation="gelu_pytorch_tanh", hidden_size=48,
        initializer_range=0.02, intermediate_size=72,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"], max_position_embeddings=256,
        num_attention_heads=3, num_hidden_layers=3, num_key_value_heads=1, pad_token_id=0, query_pre_attn_scalar=16,
        rms_norm_eps=1e-6, rope_local_base_freq=10000.0, rope_scaling=None, rope_theta=1000000.0, sliding_window=16,
        use_bidirectional_attention=True, use_cache=True, vocab_size=tokenizer.get_vocab_size(),
    )
    model = random_model(AutoModel, config, 22)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                # Its norms multiply by one more than their weights.
                parameter.sub_(1.0)
    save_file(tensors_of(model), path / "model.safetensors", {"format": "pt"})
    tokenizer.save(str(path / "tokenizer.json"), pretty=False)
    names = dict(bos_token="<bos>", eos_token="<eos>", mask_token="<mask>", pad_token="<pad>", unk_token="<unk>")
    properties = dict(lstrip=False, normalized=False, rstrip=False, single_word=False)
    write_json(path / "special_tokens_map.json", {role: {"content": token, **properties} for role, token in names.items()})
    write_json(
        path / "tokenizer_config.json",
        {"add_bos_token": True, "add_eos_token": True, "added_tokens_decoder": added_tokens_decoder(tokenizer, specials),
         **names, "clean_up_tokenization_spaces": False, "extra_special_tokens": {}, "model_max_length": 2048,
         "padding_side": "right", "sp_model_kwargs": None, "spaces_between_special_tokens": False,
         "tokenizer_class": "GemmaTokenizer", "use_default_system_prompt": False},
    )
    goldens(path, 256, last=True)


def make_jina_v3():
    """jinaai/jina-embeddings-v3-hf: tensors under the names of the model's authors, no adapters."""
    path = fresh("jina_v3")
    tokenizer = roberta_unigram(250)
    config = config_of(
        "jina_embeddings_v3", path, architectures=["JinaEmbeddingsV3Model"], attention_probs_dropout_prob=0.1,
        bos_token_id=0, classifier_dropout=None, dtype="float32", eos_token_id=2, hidden_act="gelu",
        hidden_dropout_prob=0.1, initializer_range=0.02, layer_norm_eps=1e-5, max_position_embeddings=66,
        pad_token_id=1, rope_parameters={"rope_theta": 20000.0, "rope_type": "default"}, type_vocab_size=1,
        use_cache=False, vocab_size=tokenizer.get_vocab_size(), **SIZES,
    )
    # transformers renames the tensors on the way out, and that back into the layout of the Hub's files.
    random_model(AutoModel, config, 29).save_pretrained(path)
    plain_files(path, tokenizer, **ROBERTA_NAMES)
    goldens(path, 64)


def t5_tokenizer(size):
    """Unigram with the sentinels of T5 at the end, no token before a text, and `</s>` after it."""
    specials, sentinels = ["<pad>", "</s>", "<unk>"], [f"<extra_id_{i}>" for i in range(3, -1, -1)]
    pre = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    trained = unigram_tokenizer(size, specials, "</s>", "</s>", "<unk>", pre)
    pieces = [tuple(piece) for piece in json.loads(trained.to_str())["model"]["vocab"]]
    tokenizer = Tokenizer(models.Unigram(pieces + [(sentinel, 0.0) for sentinel in sentinels], unk_id=2))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials + sentinels])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return tokenizer, sentinels


def t5_files(path, tokenizer_class="T5Tokenizer"):
    """Writes tokenizer files; returns the size of the table, which in T5 is larger than the vocabulary."""
    tokenizer, sentinels = t5_tokenizer(250)
    tokenizer.save(str(path / "tokenizer.json"), pretty=False)
    names = dict(eos_token="</s>", pad_token="<pad>", unk_token="<unk>", additional_special_tokens=sentinels[::-1])
    write_json(path / "special_tokens_map.json", names, None)
    write_json(
        path / "tokenizer_config.json",
        {**names, "extra_ids": len(sentinels), "model_max_length": 512, "tokenizer_class": tokenizer_class},
        None,
    )
    return tokenizer.get_vocab_size() + 9


def t5_config(model_type, path, **values):
    common = dict(
        decoder_start_token_id=0, dropout_rate=0.1, eos_token_id=1, initializer_factor=1.0, is_encoder_decoder=True,
        layer_norm_epsilon=1e-6, pad_token_id=0, relative_attention_num_buckets=32, use_cache=True,
    )
    return config_of(model_type, path, **common, **values)


def random_t5(cls, config, seed):
    model = random_model(cls, config, seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "relative_attention_bias" in name:
                # Scores that depend as much on distances as on words.
                parameter.mul_(4)
            elif name.endswith("SelfAttention.q.weight"):
                # Nothing else scales the scores.
                parameter.div_(config.d_kv**0.5)
    return model


def make_t5():
    """google-t5/t5-small's encoder: `relu`, words under the name that the decoder shares."""
    path = fresh("t5")
    config = t5_config(
        "t5", path, architectures=["T5EncoderModel"], d_ff=64, d_kv=8, d_model=32, feed_forward_proj="relu",
        n_positions=512, num_heads=4, num_layers=2, vocab_size=t5_files(path),
    )
    tensors = tensors_of(random_t5(AutoModelForTextEncoding, config, 24))
    del tensors["encoder.embed_tokens.weight"]
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    goldens(path, 200, last=True, model_class=AutoModelForTextEncoding)


def make_mt5():
    """google/mt5-small: encoder and decoder in a .bin, heads that are wider together than the layers, a gate."""
    path = fresh("mt5")
    config = t5_config(
        "mt5", path, architectures=["MT5ForConditionalGeneration"], d_ff=48, d_kv=16, d_model=32,
        feed_forward_proj="gated-gelu", num_decoder_layers=1, num_heads=3, num_layers=2, tie_word_embeddings=False,
        tokenizer_class="T5Tokenizer", vocab_size=t5_files(path),
    )
    torch.save(tensors_of(random_t5(AutoModelForSeq2SeqLM, config, 25)), path / "pytorch_model.bin")
    goldens(path, 200, model_class=AutoModelForTextEncoding)


def make_umt5():
    """google/umt5-small's encoder: a table of distances in each layer."""
    path = fresh("umt5")
    config = t5_config(
        "umt5", path, architectures=["UMT5EncoderModel"], d_ff=48, d_kv=8, d_model=32, feed_forward_proj="gated-gelu",
        num_heads=4, num_layers=3, relative_attention_max_distance=128, scalable_attention=True,
        vocab_size=t5_files(path),
    )
    tensors = tensors_of(random_t5(AutoModelForTextEncoding, config, 26))
    del tensors["shared.weight"]
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    goldens(path, 200, model_class=AutoModelForTextEncoding)


def make_sentence_t5():
    """sentence-transformers/sentence-t5-base: the mean, a Dense without a bias, a norm."""
    path = fresh("sentence_t5")
    config = t5_config(
        "t5", path, architectures=["T5EncoderModel"], d_ff=64, d_kv=8, d_model=32, feed_forward_proj="relu",
        gradient_checkpointing=False, n_positions=512, num_heads=4, num_layers=2, vocab_size=t5_files(path),
    )
    tensors = tensors_of(random_t5(AutoModelForTextEncoding, config, 27))
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    write_modules(path, ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"), ("3_Normalize", "Normalize"))
    write_json(path / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})
    versions = {"sentence_transformers": "2.2.0", "transformers": "4.7.0", "pytorch": "1.9.0+cu102"}
    write_json(path / "config_sentence_transformers.json", {"__version__": versions})
    for folder in ("1_Pooling", "2_Dense"):
        (path / folder).mkdir()
    flags = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    chosen = {f"pooling_mode_{flag}": flag == "mean_tokens" for flag in flags}
    write_json(path / "1_Pooling/config.json", {"word_embedding_dimension": 32, **chosen})
    identity = "torch.nn.modules.linear.Identity"
    write_json(
        path / "2_Dense/config.json",
        {"in_features": 32, "out_features": 24, "bias": False, "activation_function": identity},
    )
    torch.manual_seed(28)
    torch.save({"linear.weight": 0.25 * torch.randn(24, 32)}, path / "2_Dense/pytorch_model.bin")
    sentence_goldens(path)


MAKERS = [
    make_beto, make_bertin, make_mbert, make_mex_large, make_xlm_roberta, make_camembert, make_distilbert,
    make_modernbert, make_deberta_v2, make_nomic_bert, make_mpnet, make_electra, make_albert, make_eurobert,
    make_qwen3, make_gemma3_text,
    make_gte, make_gte_multilingual, make_gte_large_en,
    make_distiluse, make_static_embedding,
    make_t5, make_mt5, make_umt5, make_sentence_t5, make_jina_v3,
]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--minilm", type=Path, help="directory of all-MiniLM-L6-v2: makes its goldens too")
    arguments.add_argument("--only", help="make one model only")
    given = arguments.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(text) for text in TEXTS)
    (OUT / "texts.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    for maker in MAKERS:
        if given.only in (None, maker.__name__.removeprefix("make_")):
            maker()
            print(maker.__name__.removeprefix("make_"), "made")
    if given.minilm:
        goldens(given.minilm, 256, fresh("minilm"))
        print("goldens of MiniLM made")


if __name__ == "__main__":
    main()
