"""`encaje.Model`: vectors, inputs, refusals, Ctrl-C."""

from __future__ import annotations

import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conftest import SENTENCES, TESTDATA, TINY

import encaje


@pytest.fixture(scope="module")
def model() -> encaje.Model:
    return encaje.Model(TINY)


def bits(vectors: Any) -> Any:
    return np.asarray(vectors).view(np.uint32)


@pytest.mark.parametrize(
    ("of_run", "of_model", "of_encode"),
    [
        ({}, {}, {}),
        ({"pooling": "mean", "normalize": False}, {"pooling": "mean"}, {"normalize_embeddings": False}),
        ({"dimensions": 7}, {"dimensions": 7}, {}),
        ({"dimensions": 7}, {}, {"truncate_dim": 7}),
        ({"prefix": "consulta: ", "max_length": 9}, {"max_length": 9}, {"prompt": "consulta: "}),
        ({"threads": 1}, {"threads": 1}, {}),
        ({"dtype": "bf16"}, {"dtype": "bf16"}, {}),
        ({"dtype": "int8", "pooling": "max"}, {"dtype": "int8", "pooling": "max"}, {}),
    ],
)
def test_bits_are_those_of_run(
    tmp_path: Path, corpus: Path, of_run: dict[str, Any], of_model: dict[str, Any], of_encode: dict[str, Any]
) -> None:
    vectors = encaje.run(corpus, model=TINY, out=tmp_path / "out", quiet=True, **of_run)
    found = encaje.Model(TINY, **of_model).encode(SENTENCES, **of_encode)
    np.testing.assert_array_equal(bits(vectors.numpy()), bits(found))


@pytest.mark.parametrize("name", ["mbert", "bertin", "xlm_roberta", "modernbert", "qwen3", "gemma3_text", "mpnet", "static_embedding"])
def test_every_kind_of_model(name: str, tmp_path: Path, corpus: Path) -> None:
    folder = TESTDATA / name
    vectors = encaje.run(corpus, model=folder, out=tmp_path / "out", quiet=True)
    np.testing.assert_array_equal(bits(vectors.numpy()), bits(encaje.Model(folder).encode(SENTENCES)))


def test_any_list_of_texts(model: encaje.Model) -> None:
    expected = model.encode(SENTENCES)
    assert expected.shape == (4, model.dimensions) and expected.dtype == np.float32
    inputs = [
        tuple(SENTENCES),
        iter(SENTENCES),
        np.array(SENTENCES),
        np.array(SENTENCES, dtype=object),
        pd.Series(SENTENCES),
        pd.Series(SENTENCES, dtype=object),
        pd.Series(SENTENCES, dtype="category"),
        pd.Series(SENTENCES, index=[9, 7, 5, 3]),
        pl.Series(SENTENCES),
        pl.Series(SENTENCES, dtype=pl.Categorical),
        pa.array(SENTENCES),
        pa.array(SENTENCES, pa.large_string()),
        pa.array(SENTENCES, pa.string_view()),
        pa.array(SENTENCES).dictionary_encode(),
        pa.array(["x", *SENTENCES, "y"]).slice(1, 4),
        pa.chunked_array([SENTENCES[:1], [], SENTENCES[1:]]),
    ]
    for texts in inputs:
        np.testing.assert_array_equal(bits(model.encode(texts)), bits(expected), err_msg=str(type(texts)))
    for text, vector in zip(SENTENCES, expected):
        np.testing.assert_array_equal(bits(model.encode(text)), bits(vector))
    assert model.encode([]).shape == (0, model.dimensions)


def test_more_texts_than_a_chunk(model: encaje.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{number} {SENTENCES[number % 4]}" for number in range(50)]
    expected = model.encode(texts)
    monkeypatch.setattr("encaje._model._CHUNK_TEXTS", 7)
    for given in (texts, iter(texts), pa.array(texts), pa.chunked_array([texts[:10], texts[10:]])):
        np.testing.assert_array_equal(bits(model.encode(given)), bits(expected))
    monkeypatch.setattr("encaje._model._CHUNK_CHARACTERS", 100)
    np.testing.assert_array_equal(bits(model.encode(iter(texts))), bits(expected))
    with pytest.raises(encaje.InvalidTextError) as raised:
        model.encode(iter([*texts, None]))
    assert raised.value.index == 50


@pytest.mark.parametrize("wrap", [list, iter, pa.array, pl.Series, pd.Series])
def test_bad_texts_are_named_or_null(model: encaje.Model, wrap: Any) -> None:
    texts = ["uno", None, " \n", "cuatro"]
    with pytest.raises(encaje.InvalidTextError, match="index 1 cannot be embedded: null_text") as raised:
        model.encode(wrap(texts))
    assert (raised.value.index, raised.value.reason) == (1, "null_text")
    vectors = model.encode(wrap(texts), errors="null")
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True, False]
    np.testing.assert_array_equal(bits(vectors[[0, 3]]), bits(model.encode(["uno", "cuatro"])))


def test_nulls_of_every_kind(model: encaje.Model) -> None:
    for null in (None, float("nan"), np.nan, pd.NA):
        for wrap in (list, iter, lambda texts: np.array(texts, dtype=object), lambda texts: pd.Series(texts, dtype=object)):
            vectors = model.encode(wrap(["uno", null]), errors="null")
            assert np.isnan(vectors).all(axis=1).tolist() == [False, True]
    column = pd.Series(["uno", None, "uno"])
    for given in (column.values, column.array, column.unique(), pd.Index(column), column.astype("category")):
        assert np.isnan(model.encode(given, errors="null")).all(axis=1)[1]
    assert np.isnan(model.encode(pl.Series([None, None]), errors="null")).all()
    assert np.isnan(model.encode(pa.nulls(2), errors="null")).all()


def test_strings_of_arrow_that_are_no_utf8(model: encaje.Model) -> None:
    for kind, of_bytes in [(pa.string(), pa.binary()), (pa.large_string(), pa.large_binary())]:
        column = pa.Array.from_buffers(kind, 2, pa.array([b"uno", b"\xff\xfe"], of_bytes).buffers())
        assert np.isnan(model.encode(column, errors="null")).all(axis=1).tolist() == [False, True]
        with pytest.raises(encaje.InvalidTextError, match="invalid_utf8"):
            model.encode(column)


def test_everything_in_memory_is_checked_before_any_work(model: encaje.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("work has begun")

    monkeypatch.setattr("encaje._model._Texts.push", never)
    for last in ("\ud83d", None, "", "x" * (33 << 20)):
        with pytest.raises(encaje.InvalidTextError) as raised:
            model.encode(["uno"] * 20_000 + [last])
        assert raised.value.index == 20_000
    with pytest.raises(encaje.UsageError, match="text 20000 is a int"):
        model.encode(["uno"] * 20_000 + [3])


def test_what_strip_and_isspace_disagree_on(tmp_path: Path, model: encaje.Model) -> None:
    texts = ["\x1c", "\u2003", "\x85", "\u200b", "\x00"]
    source = tmp_path / "odd.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    for folder in (TINY, TESTDATA / "static_embedding"):
        for normalize in (True, False):
            out = tmp_path / f"{Path(folder).name}-{normalize}"
            vectors = encaje.run(source, model=folder, out=out, normalize=normalize, quiet=True)
            found = encaje.Embed(folder, encode={"normalize_embeddings": normalize})({"text": texts})
            reasons = {row: reason for row, reason in vectors.rejected}
            assert found["error"] == [reasons.get(row) for row in range(len(texts))]
            np.testing.assert_array_equal(bits(found["embedding"]), bits(vectors.numpy()))


def test_lone_surrogates_and_zero_bytes(model: encaje.Model) -> None:
    with pytest.raises(encaje.InvalidTextError, match="invalid_utf8"):
        model.encode(["uno", "\ud83d"])
    assert np.isfinite(model.encode(["con \0 cero", "🐶"])).all()


@pytest.mark.parametrize(
    "given", [{"a": 1}, b"bytes", {"a", "b"}, pd.DataFrame({"text": ["a"]}), pa.table({"text": ["a"]}), [1, 2], pa.array([1]), ["a", 1.5]]
)
def test_what_is_no_list_of_texts(model: encaje.Model, given: Any) -> None:
    with pytest.raises(encaje.UsageError):
        model.encode(given)


def test_arguments_of_sentence_transformers(model: encaje.Model) -> None:
    plain = model.encode(SENTENCES)
    same: list[dict[str, Any]] = [{"batch_size": 8}, {"output_value": "sentence_embedding"}, {"device": None}, {"pool": None}]
    for given in same:
        np.testing.assert_array_equal(bits(model.encode(SENTENCES, **given)), bits(plain))
    refused: list[dict[str, Any]] = [
        {"output_value": "token_embeddings"},
        {"precision": "int8"},
        {"convert_to_numpy": False},
        {"device": "cuda"},
        {"batch_size": 0},
        {"prompt_name": "query"},
        {"truncate_dim": 33},
        {"truncate_dim": -1},
        {"errors": "ignore"},
    ]
    for given in refused:
        with pytest.raises(encaje.UsageError, match=str(next(iter(given.values())))):
            model.encode(SENTENCES, **given)
    with pytest.raises(encaje.UsageError, match="no place"):
        model.encode(["a", None], errors="null", precision="ubinary")
    with pytest.raises(encaje.UsageError, match="dimensions"):
        model.encode(np.array("hola"))
    np.testing.assert_array_equal(bits(model.encode(sentences=SENTENCES)), bits(plain))
    np.testing.assert_array_equal(bits(model.encode_query(SENTENCES)), bits(plain))
    with pytest.raises(TypeError, match="batch_sise"):
        model.encode(SENTENCES, batch_sise=3)


def test_binary_precisions(model: encaje.Model) -> None:
    vectors = model.encode(SENTENCES)
    packed = model.encode(SENTENCES, precision="ubinary")
    np.testing.assert_array_equal(np.unpackbits(packed, axis=1), vectors > 0)
    signed = model.encode(SENTENCES, precision="binary")
    assert signed.dtype == np.int8
    np.testing.assert_array_equal(signed.astype(int) + 128, packed)


def test_prompts(tmp_path: Path) -> None:
    folder = shutil.copytree(TINY, tmp_path / "model")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 32, "pooling_mode_cls_token": true}')
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    modules += [{"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "consulta: ", "document": "texto: "}, "default_prompt_name": "document"}'
    )
    model = encaje.Model(folder)
    assert model.prompts == {"query": "consulta: ", "document": "texto: "}
    np.testing.assert_array_equal(bits(model.encode(SENTENCES)), bits(model.encode(SENTENCES, prompt_name="document")))
    by_name = model.encode(SENTENCES, prompt_name="query")
    np.testing.assert_array_equal(bits(by_name), bits(model.encode(SENTENCES, prompt=model.prompts["query"])))
    assert (by_name != model.encode(SENTENCES, prompt_name="")).any()
    np.testing.assert_array_equal(bits(by_name), bits(model.encode_query(SENTENCES)))
    np.testing.assert_array_equal(bits(model.encode(SENTENCES)), bits(model.encode_document(SENTENCES)))


def test_tokens(model: encaje.Model) -> None:
    tokens = model.tokenize("El año pasado")
    assert tokens["tokens"][0] == "[CLS]" and tokens["special_tokens_mask"][0] == 1
    assert len({len(values) for values in tokens.values()}) == 1
    spans = ["El año pasado"[start:end] for start, end in tokens["offset_mapping"]]
    assert "".join(spans) == "Elañopasado"
    assert model.tokenize("🐶 ladra")["offset_mapping"][-1] == (0, 0)
    assert [len(row) for row in model.tokenize(SENTENCES)["input_ids"]][0] > 2


def test_masks(model: encaje.Model) -> None:
    filled = model.fill_mask("Hoy vamos a comer unos [MASK].", top_k=3)
    assert [sorted(one) for one in filled] == [["score", "sequence", "token", "token_str"]] * 3
    assert filled[0]["score"] >= filled[1]["score"] > 0
    two = model.fill_mask(["[MASK] y [MASK]", "un [MASK]"], top_k=2)
    assert [len(two), len(two[0]), len(two[0][0]), len(two[1])] == [2, 2, 2, 2]
    assert model.fill_mask(["un [MASK]"]) == model.fill_mask("un [MASK]")
    with pytest.raises(encaje.UsageError, match="no mask"):
        model.fill_mask("nada")
    with pytest.raises(encaje.ModelError):
        encaje.Model(TESTDATA / "qwen3").fill_mask("un [MASK]")


def test_similarity(model: encaje.Model) -> None:
    vectors = model.encode(SENTENCES, normalize_embeddings=False)
    found = model.similarity(vectors, vectors[:2])
    assert found.shape == (4, 2)
    np.testing.assert_allclose(np.diag(found), 1, atol=1e-6)
    np.testing.assert_allclose(found[3, 0], model.similarity(vectors[3], vectors[0])[0, 0], atol=1e-6)


def test_models_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(encaje.ModelError, match="config.json"):
        encaje.Model(tmp_path)
    with pytest.raises(encaje.ModelError, match="nobody/nothing"):
        encaje.Model("nobody/nothing")
    with pytest.raises(encaje.UsageError, match="neither a directory"):
        encaje.Model("no such name")
    for options in ({"pooling": "best"}, {"dtype": "f8"}, {"device": "tpu"}):
        with pytest.raises(encaje.UsageError, match=next(iter(options.values()))):
            encaje.Model(TINY, **options)  # type: ignore[arg-type]
    with pytest.raises(encaje.UsageError, match="revision"):
        encaje.Model(TINY, revision="main")
    with pytest.raises(encaje.UsageError, match="max_length=-1"):
        encaje.Model(TINY, max_length=-1)
    with pytest.raises(encaje.ModelError, match="33 dimensions"):
        encaje.Model(TINY, dimensions=33)


def test_a_model_is_pickled_by_name() -> None:
    model = encaje.Model(TINY, pooling="mean")
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(bits(again.encode(SENTENCES)), bits(model.encode(SENTENCES)))
    error = pickle.loads(pickle.dumps(encaje.InvalidTextError(3, "null_text")))
    assert (error.index, error.reason) == (3, "null_text")


def test_progress_counts_every_text(model: encaje.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    class Bar:
        def __init__(self, **options: Any) -> None:
            assert options["total"] == 4

        def update(self, count: int) -> None:
            counts.append(count)

        def close(self) -> None:
            counts.append(0)

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    model.encode([*SENTENCES[:3], None], show_progress_bar=True, errors="null")
    assert sum(counts) == 4 and counts[-1] == 0


def test_threads_run_beside_it(model: encaje.Model) -> None:
    import threading

    ticks = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.01):
            ticks.append(1)

    beside = threading.Thread(target=tick)
    beside.start()
    model.encode([f"{number} {SENTENCES[0]}" for number in range(20_000)])
    stop.set()
    beside.join()
    assert len(ticks) > 3


INTERRUPTED = """
import encaje, sys
model = encaje.Model(sys.argv[1])
print("ready", flush=True)
try:
    model.encode((f"{number} Mi abuela teje bufandas de lana roja." for number in range(10**9)))
except KeyboardInterrupt:
    print("interrupted", model.encode("hola").shape, flush=True)
"""


def test_ctrl_c_ends_encode() -> None:
    started = subprocess.Popen([sys.executable, "-c", INTERRUPTED, TINY], stdout=subprocess.PIPE, text=True)
    assert started.stdout
    assert started.stdout.readline() == "ready\n"
    time.sleep(1)
    started.send_signal(signal.SIGINT)
    assert started.communicate(timeout=120)[0] == "interrupted (32,)\n"
    assert started.returncode == 0
