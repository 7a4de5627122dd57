"""`encaje.Embed`: batches of every kind."""

from __future__ import annotations

import pickle
import shutil
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conftest import SENTENCES, TINY

import encaje

TEXTS = [*SENTENCES[:2], None, SENTENCES[2]]
ERRORS = [None, None, "null_text", None]


@pytest.fixture(scope="module")
def embed() -> Any:
    return pickle.loads(pickle.dumps(encaje.Embed(TINY, column="tweet")))


@pytest.fixture(scope="module")
def expected() -> Any:
    return encaje.Model(TINY).encode(SENTENCES[:3])


def check(vectors: list[Any], errors: list[Any], expected: Any) -> None:
    assert [None if pd.isna(error) else error for error in errors] == ERRORS
    assert vectors[2] is None or np.isnan(vectors[2]).all()
    np.testing.assert_array_equal(np.array([vectors[index] for index in (0, 1, 3)], np.float32), expected)


def test_arrow(embed: encaje.Embed, expected: Any) -> None:
    table = pa.table({"id": [1, 2, 3, 4], "tweet": TEXTS}).replace_schema_metadata({"a": "b"})
    for batch in (table, table.to_batches()[0]):
        found = embed(batch)
        assert type(found) is type(batch) and found.schema == embed.schema(batch.schema)
        assert found.schema.metadata == {b"a": b"b"}
        check(found["embedding"].to_pylist(), found["error"].to_pylist(), expected)
    stream = pa.Table.from_batches(list(embed(iter(table.to_batches(max_chunksize=1)))))
    assert stream.schema.field("embedding").type == pa.list_(pa.float32())
    check(stream["embedding"].to_pylist(), stream["error"].to_pylist(), expected)
    assert embed(table.slice(0, 0)).num_rows == 0


def test_pandas_polars_and_dicts(embed: encaje.Embed, expected: Any) -> None:
    frame = pd.DataFrame({"tweet": TEXTS}, index=[5, 6, 7, 8])
    found = embed(frame)
    assert list(found.index) == [5, 6, 7, 8] and "embedding" not in frame
    check(list(found["embedding"]), list(found["error"]), expected)
    polars = embed(pl.DataFrame({"tweet": TEXTS}))
    assert polars.schema["embedding"] == pl.Array(pl.Float32, 32)
    check(polars["embedding"].to_list(), polars["error"].to_list(), expected)
    assert len(pl.concat([polars, embed(pl.DataFrame({"tweet": ["sin error"]}))])) == 5
    lists = embed({"tweet": TEXTS})
    check(lists["embedding"], lists["error"], expected)
    arrays = embed({"tweet": np.array(TEXTS, dtype=object)})
    assert arrays["embedding"].shape == (4, 32) and isinstance(arrays["error"], np.ndarray)
    check(arrays["embedding"], list(arrays["error"]), expected)


def test_options_and_names(expected: Any) -> None:
    embed = encaje.Embed(TINY, output="v", error="why", pooling="mean", encode={"truncate_dim": 5, "prompt": "a "})
    found = embed(pa.table({"text": SENTENCES}))
    assert found.column_names == ["text", "v", "why"] and found.schema.field("v").type == pa.list_(pa.float32(), 5)
    model = encaje.Model(TINY, pooling="mean")
    np.testing.assert_array_equal(np.array(found["v"].to_pylist(), np.float32), model.encode(SENTENCES, prompt="a ", truncate_dim=5))


def test_what_is_no_batch(embed: encaje.Embed) -> None:
    with pytest.raises(TypeError, match="list"):
        embed(["a"])
    with pytest.raises(KeyError):
        embed(pa.table({"text": ["a"]}))
    tables = [pa.table({"tweet": ["a"], "error": [1]}), pd.DataFrame({"tweet": ["a"], "embedding": [1]}), {"tweet": ["a"], "error": [1]}]
    for table in tables:
        with pytest.raises(encaje.UsageError, match="already"):
            embed(table)


def test_what_is_no_option() -> None:
    for options in ({"bogus": 1}, {"progress": True}, {"encode": {"precision": "binary"}}):
        with pytest.raises(encaje.UsageError, match="there is no option"):
            encaje.Embed(TINY, **options)  # type: ignore[arg-type]


def test_a_row_and_streams_of_pandas(embed: encaje.Embed, expected: Any) -> None:
    row = embed({"id": 3, "tweet": SENTENCES[0]})
    assert (row["id"], row["error"]) == (3, None)
    np.testing.assert_array_equal(row["embedding"], expected[0])
    assert embed({"tweet": None})["error"] == "null_text"
    frames = list(embed(iter([pd.DataFrame({"tweet": [SENTENCES[0]]})])))
    np.testing.assert_array_equal(frames[0]["embedding"][0], expected[0])


def test_a_folder_is_where_it_was(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, model in [("a", TINY), ("b", TINY.replace("beto", "mbert"))]:
        shutil.copytree(model, tmp_path / name / "model")
    found = []
    for name in ("a", "b"):
        monkeypatch.chdir(tmp_path / name)
        found.append(encaje.Embed("model")({"text": "hola"})["embedding"])
        pickled = pickle.dumps(encaje.Model("model"))
    assert (found[0] != found[1]).any()
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(pickle.loads(pickled).encode("hola"), found[1])


def test_a_process_loads_a_model_once(embed: encaje.Embed) -> None:
    again: encaje.Embed = pickle.loads(pickle.dumps(embed))
    assert again.model is embed.model
    assert encaje.Embed(TINY, pooling="max").model is not embed.model
