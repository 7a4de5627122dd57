"""Time `encaje.Embed` inside the engines against `encaje.run` on the same rows, in one run, and compare the vectors.

build/python/bin/python scripts/bench_engines.py --model DIR [--rows 6000]

Every side reads one Parquet file of short texts and ends with vectors in memory. Engines are started and have loaded the model
before their time begins, as they are in a job of some length; `encaje.run` is timed with start, loading and writing its files.
"""

import argparse
import os
import pathlib
import shutil
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

import encaje
from bench_python import texts_of

CORES = os.cpu_count() or 1


def write_rows(path, count):
    """Write distinct short texts."""
    table = pa.table({"number": range(count), "text": texts_of(count, seed=13)})
    parquet.write_table(table, path, row_group_size=count // (4 * CORES))


def engines(path, model):
    """Yield a name and a function that returns rows and vectors, for each engine; a task per core, each on one thread."""
    embed = encaje.Embed(model, threads=1)

    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        rows = datasets.Dataset.from_parquet(str(path), cache_dir=folder)

        def by_datasets():
            options = {"batched": True, "batch_size": 500, "num_proc": CORES, "load_from_cache_file": False}
            found = rows.map(embed, **options).with_format("arrow")[:]
            return found["number"].to_numpy(), found["embedding"]

        yield "datasets, num_proc", by_datasets

    import dask
    import dask.dataframe as dd

    frame = dd.read_parquet(path, split_row_groups=True)
    mapped = frame.map_partitions(embed, meta={**frame.dtypes.to_dict(), "embedding": object, "error": object})

    def by_dask():
        with dask.config.set(scheduler="threads", num_workers=CORES):
            found = mapped.compute()
        return found["number"].to_numpy(), np.stack(found["embedding"])

    yield "Dask, threads", by_dask

    import ray

    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False, object_store_memory=400 << 20)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False

        def by_ray():
            found = ray.data.read_parquet(str(path)).map_batches(embed, batch_format="pyarrow", batch_size=500)
            tables = [ray.get(block) for block in found.to_arrow_refs()]
            table = pa.concat_tables(tables)
            return table["number"].to_numpy(), table["embedding"]

        yield "Ray Data", by_ray
    finally:
        ray.shutdown()

    import daft

    whole = encaje.Embed(model)

    @daft.func.batch(return_dtype=daft.DataType.fixed_size_list(daft.DataType.float32(), whole.model.dimensions))
    def vector(texts: daft.Series):
        return whole.vectors(texts.to_arrow())[0]

    def by_daft():
        found = daft.read_parquet(str(path)).with_column("embedding", vector(daft.col("text"))).to_arrow()
        return found["number"].to_numpy(), found["embedding"]

    yield "Daft", by_daft

    if shutil.which("java") is None:
        print("  Spark is left out: there is no JVM")
        return
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master(f"local[{CORES}]").config("spark.ui.enabled", "false")
    session = session.config("spark.driver.bindAddress", "127.0.0.1").config("spark.log.level", "ERROR").getOrCreate()

    def by_spark():
        rows = session.read.parquet(str(path)).repartition(4 * CORES)
        found = rows.mapInArrow(embed, "number long, text string, embedding array<float>, error string").toArrow()
        return found["number"].to_numpy(), found["embedding"]

    yield "Spark", by_spark
    session.stop()


def matrix(vectors):
    """Return vectors of any kind as an array."""
    if isinstance(vectors, pa.ChunkedArray):
        vectors = np.stack([np.asarray(one.values) for one in vectors])
    return np.asarray(vectors, dtype=np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=int, default=6000)
    arguments = parser.parse_args()
    model = str(pathlib.Path(arguments.model).resolve())
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "rows.parquet")
        write_rows(path, arguments.rows)

        def run(number):
            started = time.perf_counter()
            vectors = encaje.run(path, model=model, out=pathlib.Path(folder, str(number)), quiet=True).numpy()
            return time.perf_counter() - started, vectors

        base, expected = run(0)
        print(f"{arguments.rows} short texts; encaje.run takes {base:.1f} s. Embed inside the engines, in shares of its rows per second:")
        for number, (name, work) in enumerate(engines(path, model), 1):
            work()
            started = time.perf_counter()
            rows, vectors = work()
            took = time.perf_counter() - started
            same = (matrix(vectors)[np.argsort(rows)] == expected).all()
            again, _ = run(number)
            print(f"  {name:<20}{again / took:6.2f}    {'the same vectors' if same else 'OTHER VECTORS'}", flush=True)
            assert same


if __name__ == "__main__":
    main()
