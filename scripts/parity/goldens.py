"""Goldens for `cargo test`: hard combinations whose files, ids and vectors are committed, so that no Python is needed there.

A golden is a folder of engine/testdata/parity: `case.json` (the base, a folder of the test data; what is taken away
from it; texts, options, and what the reference gives) and `files/`, which lie over the base. Encaje must give those ids and
vectors, or, where `refused` has words, refuse with one of them in its message.
"""

import filecmp
import json
import shutil

from . import combos, judge
from .registry import BASES, TESTDATA, Folder

OUT = TESTDATA / "parity"

# Combinations by name, with the number of texts whose vectors are kept. Add hard ones here.
GOLDENS = {
    "mex_large-vocab+model-max-length-12": 2,
    "bertin-vocab+mask-lstrip": 2,
    "xlm_roberta+json-truncation": 2,
    "beto-vocab+strip-accents-true": 2,
    "beto+decoder": 0,
    "mbert+split-special-tokens-true": 1,
    "bertin+add-prefix-space-true": 1,
    "beto+no-do-lower-case": 1,
    "distilbert+do-lower-case-true": 1,
    "distilbert+class-BertTokenizer+strip-accents-false": 1,
    "mbert+tokenize-chinese-chars-false": 1,
    "mbert+mask-lstrip-bert": 1,
    "mbert+mask-normalized": 1,
    "mbert+map-mask-object": 1,
    "mbert+additional-known": 1,
    "mbert+cls-token-mask": 1,
    "mex_large+map-mask-lstrip": 1,
    "mbert+truncation-left": 1,
    "beto+json-truncation-left": 1,
    "mbert+decoder-empty": 1,
    "mbert+json-normalizer-bert-in-sequence": 1,
    "distilbert+json-normalizer-strip": 1,
    "mbert+json-model-unk-max": 1,
    "mbert+json-model-untyped": 1,
    "mbert+json-added-not-special": 1,
    "mbert+class-BertJapaneseTokenizer": 1,
    "mbert+class-ConvBertTokenizer": 1,
    "beto+model-class-PreTrainedTokenizerFast": 1,
    "mbert+mask-object-untyped": 1,
    "mbert+do-lower-case-null": 1,
    "bertin+mask-no-lstrip": 1,
    "bertin-vocab+no-map+mask-plain-string": 1,
    "bertin+add-prefix-space-true+class-PreTrainedTokenizerFast": 1,
    "bertin+json-pre-byte-level-prefix": 1,
    "bertin+cls-object-roberta": 1,
    "bertin+map-bos-object-roberta": 1,
    "modernbert+class-BertTokenizer": 1,
    "bertin+class-GPT2Tokenizer": 1,
    "xlm_roberta+class-XLMRobertaTokenizer": 1,
    "xlm_roberta+class-XLMRobertaTokenizer+add-prefix-space-false": 1,
    "deberta_v2+class-DebertaV2Tokenizer": 1,
    "deberta_v2+class-DebertaV2Tokenizer+split-by-punct": 1,
    "deberta_v2+class-DebertaV2Tokenizer+do-lower-case-true": 1,
    "eurobert+llama-rope-both": 1,
    "qwen3+qwen3-window": 1,
    "qwen3+qwen3-layer-types": 1,
    "gemma3_text+gemma3-window-7-causal": 1,
    "gemma3_text+gemma3-rope-parameters": 1,
    "gemma3_text+gemma3-scalar": 1,
    "st-qwen3": 2,
    "eurobert+llama-rope-yarn": 0,
    "gemma3_text+gemma3-attention-softcap": 0,
    "qwen3+qwen3-causal": 0,
    # Several areas at once.
    "bertin+cls-token-mask+act-gelu": 0,
    "st-mbert+pooling-max+lower-true+opt-no-normalize": 2,
    "st-bertin+add-prefix-space-true+pooling-lasttoken+opt-dimensions": 2,
    "st-xlm_roberta+config-args-eps+seq-length-6": 2,
    "st-mbert+config-args-act+length-file-roberta": 2,
    "st-mbert+modules-remote-code": 0,
    "st-mbert+task-fill-mask": 0,
    "st-mbert+pooling-unknown-key": 0,
    "st-beto+modules-no-pooling": 0,
    "distiluse+dense-gelu": 2,
    "distiluse+dense-sigmoid+pooling-weightedmean": 2,
    "distiluse+dense-bias-false": 0,
    "distiluse+pooling-list-mean-mean": 0,
    "st-mbert+modules-gemma+opt-dimensions+opt-no-normalize": 2,
    "st-xlm_roberta+modules-norm-before-dense": 2,
    "st-bertin+modules-layer-norm-whole+opt-no-normalize": 2,
    "st-distilbert+modules-joined-dense+opt-no-normalize": 2,
    "st-mbert+pooling-flags-sqrt-weighted-last-cls+include-prompt-false+opt-prefix+opt-no-normalize": 2,
    "st-beto+pooling-mean_sqrt_len_tokens": 2,
    "static_embedding+static-model2vec-both+opt-no-normalize": 2,
    "static_embedding+static-root": 2,
    "static_embedding+static-dense+opt-prefix": 2,
    "static_embedding+static-truncation-left": 2,
    "static_embedding+static-pooling": 0,
    "mbert+eps-large+act-gelu_new+json-truncation-left": 2,
    "distilbert+eps-small-distil+act-silu-distil": 2,
    "modernbert+modern-local-theta-null+act-relu-modern": 2,
    "modernbert+modern-rope-linear": 0,
    "deberta_v2+deberta-conv": 0,
    "mex_large+pad-id-7": 2,
}

TEXTS = [
    "hola mundo", "Hola Mundo ÁRBOL Niño", "antes [SEP] después [MASK] fin", "antes </s> después  <mask>  fin",
    "[sep] [mask] <S> </S> <MASK>", "usa <url> aquí, nuevo Nuevo NUEVO", "👩‍👩‍👧‍👦 ZWJ 日本語 camio\u0301n\r\n\x01\u200b",
    "uno dos tres cuatro cinco seis siete ocho nueve diez " * 8,
]


def write(given):
    """Writes every golden again. One that Encaje does not pass today is an error, and is not written."""
    from .folders import build, make_bases

    bad = []
    shutil.rmtree(OUT, ignore_errors=True)
    for name, vectors in GOLDENS.items():
        case = combos.named_case(name, 1)
        work = given.work / "goldens"
        bases = make_bases(work, [case.base.name])
        build(case, bases, work / "model")
        found = judge.judge(given.encaje, work / "model", work / "work", case, TEXTS, True)
        if found.verdict not in judge.GOOD:
            bad.append(f"{name}: {found.verdict}: {found.detail}")
            continue
        write_one(case, found, work / "model", vectors)
        print(f"{name}: {found.verdict}")
    for line in bad:
        print("NOT WRITTEN", line)
    size = sum(file.stat().st_size for file in OUT.rglob("*") if file.is_file())
    print(f"{len(GOLDENS) - len(bad)} goldens, {size // 1024} KiB")
    return int(bool(bad))


def write_one(case, found, model, vectors):
    out = Folder(OUT / case.name)
    # The nearest folder of the test data: most bases are one with a file removed or added.
    likely = [case.base.name, case.base.name.split("-")[0], case.base.name.removeprefix("st-")]
    nearest = next((TESTDATA / name for name in likely if (TESTDATA / name).is_dir()), None)
    names = {str(file.relative_to(model)) for file in model.rglob("*") if file.is_file()}
    below = {str(file.relative_to(nearest)) for file in nearest.rglob("*") if file.is_file()} if nearest else set()
    below -= {name for name in below if name.startswith("goldens")}
    for name in sorted(names):
        if name not in below or not filecmp.cmp(model / name, nearest / name, shallow=False):
            out.write("files/" + name, (model / name).read_bytes())
    refused = found.verdict != judge.EQUAL
    answer = found.answer
    content = {
        "base": nearest.name if nearest else None,
        "without": sorted(below - names),
        "options": case.options,
        "by": found.by,
        "refused": sorted(case.named) if refused else None,
        "texts": TEXTS,
        "ids": None if refused else answer.ids,
        "vectors": None if refused else [[round(float(x), 6) for x in row] for row in answer.vectors[:vectors]],
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()]
    out.write("case.json", "{\n  " + ",\n  ".join(lines) + "\n}\n")
    assert BASES[case.base.name], case.base.name
