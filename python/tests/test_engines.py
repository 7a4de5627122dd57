"""`encaje.Embed` inside the engines themselves: the vectors are those of `encaje.run`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, TINY, program

import encaje

FRASES = ROOT / "samples" / "frases.csv"


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> encaje.Vectors:
    return encaje.run(FRASES, model=TINY, out=tmp_path_factory.mktemp("engines") / "out", quiet=True)


@pytest.fixture(scope="module")
def parquet(vectors: encaje.Vectors) -> str:
    path = vectors.path.parent / "frases.parquet"
    pq.write_table(vectors.table(["row", "text"]), path, row_group_size=100)
    return str(path)


def check(rows: Any, embeddings: Any, vectors: encaje.Vectors) -> None:
    order = np.argsort(np.asarray(rows))
    found = np.array([list(one) for one in embeddings], np.float32)[order]
    np.testing.assert_array_equal(found, vectors.numpy())


def test_datasets(vectors: encaje.Vectors, parquet: str, tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_parquet(parquet, cache_dir=str(tmp_path))
    embedded = rows.map(encaje.Embed(TINY), batched=True, batch_size=100, num_proc=2)
    check(embedded["row"], embedded["embedding"], vectors)


def test_an_output_folder_is_a_data_set(vectors: encaje.Vectors, tmp_path: Path) -> None:
    import datasets

    loaded = datasets.load_dataset(str(vectors.path), cache_dir=str(tmp_path))["train"]
    assert loaded.column_names == vectors.table().column_names and loaded.num_rows == len(vectors)
    check(loaded["row"], loaded["embedding"], vectors)
    card = (vectors.path / "README.md").read_text()
    assert f"`{TINY}`" in card and "| rows | 448 |" in card
    vectors.verify(FRASES)
    (vectors.path / "README.md").write_text("# Mine")
    (vectors.path / "manifest.json").unlink()
    subprocess.run([*program(), "repair", str(vectors.path)], check=True)
    encaje.run(FRASES, model=TINY, out=vectors.path, quiet=True)
    assert (vectors.path / "README.md").read_text() == "# Mine"


@pytest.mark.parametrize("form", [None, "pandas", "polars", "arrow"])
def test_datasets_whose_errors_come_late(form: str | None, tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["uno"] * 1000 + [""] + ["dos"] * 5})
    embedded = rows.with_format(form).map(encaje.Embed(TINY), batched=True, batch_size=100, cache_file_name=str(tmp_path / "a.arrow"))
    assert embedded.with_format(None)["error"] == [None] * 1000 + ["empty_text"] + [None] * 5
    one = datasets.Dataset.from_dict({"text": ["hola"]}).map(encaje.Embed(TINY))
    np.testing.assert_array_equal(np.array(one["embedding"][0], np.float32), encaje.Model(TINY).encode("hola"))


def test_dask(vectors: encaje.Vectors, parquet: str) -> None:
    import dask
    import dask.dataframe as dd

    embed = encaje.Embed(TINY)
    rows = dd.read_parquet(parquet, split_row_groups=True)
    embedded = rows.map_partitions(embed, meta=embed(rows.partitions[0].compute().head(1)).iloc[:0])
    with dask.config.set(scheduler="processes", num_workers=2):
        found = embedded.compute()
    check(found["row"], found["embedding"], vectors)


def test_daft(vectors: encaje.Vectors, parquet: str) -> None:
    import daft

    embed = encaje.Embed(TINY)

    @daft.func.batch(return_dtype=daft.DataType.fixed_size_list(daft.DataType.float32(), embed.model.dimensions))
    def vector(texts: daft.Series) -> Any:
        return embed.vectors(texts.to_arrow())[0]

    found = daft.read_parquet(parquet).with_column("embedding", vector(daft.col("text"))).to_pydict()
    check(found["row"], found["embedding"], vectors)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield ray
    ray.shutdown()


@pytest.mark.parametrize("batch_format", ["pyarrow", "pandas", "numpy"])
def test_ray(vectors: encaje.Vectors, parquet: str, ray_cluster: Any, batch_format: str) -> None:
    rows = ray_cluster.data.read_parquet(parquet)
    embedded = rows.map_batches(encaje.Embed(TINY), batch_format=batch_format, batch_size=100)
    found = embedded.take_all()
    check([row["row"] for row in found], [row["embedding"] for row in found], vectors)


def test_ray_with_rows_that_have_no_vector(ray_cluster: Any) -> None:
    rows = ray_cluster.data.from_items([{"text": text} for text in ["uno", None, "tres", ""]])
    for batch_format in ("pyarrow", "pandas", "numpy"):
        found = rows.map_batches(encaje.Embed(TINY), batch_format=batch_format, batch_size=2).take_all()
        errors = [row["error"] if isinstance(row["error"], str) else None for row in found]
        assert errors == [None, "null_text", None, "empty_text"]


@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs a JVM")
def test_spark(vectors: encaje.Vectors, parquet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyspark.sql import SparkSession

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
    try:
        embed = encaje.Embed(TINY)
        rows = session.read.parquet(parquet)
        embedded = rows.mapInArrow(embed, "row long, text string, embedding array<float>, error string")
        found: pa.Table = embedded.toArrow()
    finally:
        session.stop()
    check(found["row"].to_pylist(), found["embedding"].to_pylist(), vectors)
