#!/usr/bin/env python3
"""Opens vectors with the libraries that users have and checks what README.md promises of them.

python tests/readers.py TARGET...

TARGET is the folder of a finished job, one Parquet file of vectors, an exported array (.npy, .safetensors, .pt), or a
folder of such things, as `cargo run -p dataset --example sample_vectors -- DIR` makes it.
pyarrow, numpy and duckdb must be there; pandas, Polars, datasets, safetensors and torch are used where installed.
Says what was checked, and exits with 1 on the first difference.
"""

import importlib.util
import json
import struct
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

OURS = {"row": pa.int64(), "n_tokens": pa.int32(), "truncated": pa.bool_(), "error": pa.string()}
REASONS = {
    "null_text",
    "empty_text",
    "invalid_utf8",
    "text_too_large",
    "malformed_record",
    "not_a_string",
    "column_type",
    "tokenizer_error",
    "non_finite",
    "worker_crash",
}
NORM_TOLERANCE = 1e-3


class OutputType(NamedTuple):
    """How vectors of an output type are represented in Arrow, DuckDB, NumPy, safetensors and PyTorch."""

    arrow: pa.DataType
    duckdb: str
    numpy: str
    safetensors: str
    torch: str


OUTPUT_TYPES = {
    "f32": OutputType(pa.float32(), "FLOAT[]", "<f4", "F32", "FloatStorage"),
    "f16": OutputType(pa.float16(), "FLOAT[]", "<f2", "F16", "HalfStorage"),
    "int8": OutputType(pa.int8(), "TINYINT[]", "|i1", "I8", "CharStorage"),
    "binary": OutputType(pa.uint8(), "UTINYINT[]", "|u1", "U8", "ByteStorage"),
}


def check(holds, what):
    if not holds:
        print(f"readers: NOT so: {what}", file=sys.stderr)
        sys.exit(1)


def installed(name):
    return importlib.util.find_spec(name) is not None


def files_of(target):
    """Returns the files in row order, and the manifest of a folder."""
    if not target.is_dir():
        return [target], None
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    return [target / file["name"] for file in manifest["files"]], manifest


def check_footer(path):
    metadata = pq.read_metadata(path).metadata
    check(metadata.get(b"encaje.format") == b"1", f"{path}: the footer names format 1")
    for key in ("model", "model_digest", "pooling", "normalized", "max_length", "dtype", "job_id"):
        check(f"encaje.{key}".encode() in metadata, f"{path}: the footer holds encaje.{key}")
    return metadata


def check_arrow(path):
    """Checks schema, nulls and norms with pyarrow. Returns the table."""
    metadata = check_footer(path)
    dimensions = int(metadata[b"encaje.dimensions"])
    output_dtype = metadata[b"encaje.output_dtype"].decode()
    element = OUTPUT_TYPES[output_dtype].arrow
    width = -(-dimensions // 8) if output_dtype == "binary" else dimensions
    ours = OURS | ({"embedding_scale": pa.float32()} if output_dtype == "int8" else {})
    table = pq.read_table(path)
    schema = table.schema
    for name, kind in ours.items():
        check(schema.field(name).type == kind, f"{path}: {name} is {kind}, found {schema.field(name).type}")
    embedding = schema.field("embedding").type
    check(pa.types.is_fixed_size_list(embedding), f"{path}: embedding is a list of fixed size, found {embedding}")
    check(embedding.list_size == width, f"{path}: embedding has {width} elements")
    check(embedding.value_type == element, f"{path}: embedding holds {element}, found {embedding.value_type}")
    names = schema.names
    scale = ["embedding_scale"] if output_dtype == "int8" else []
    last = ["embedding", *scale, "n_tokens", "truncated", "error"]
    check(names[0] == "row" and names[-len(last) :] == last, f"{path}: order {names}")

    rejected = table["error"].is_valid()
    check(table["embedding"].is_null().equals(rejected), f"{path}: an error exactly where there is no vector")
    reasons = set(table["error"].drop_null().to_pylist())
    check(reasons <= REASONS, f"{path}: reasons are of the closed list, found {reasons - REASONS}")
    tokens = table["n_tokens"].to_numpy()
    rejected = rejected.to_numpy()
    check(bool(np.all((tokens == 0) == rejected)), f"{path}: rejected rows, and only they, have no tokens")
    check(bool(np.all(tokens <= int(metadata[b"encaje.max_length"]))), f"{path}: n_tokens is at most max_length")

    vectors = vectors_of(table, width)
    check(bool(np.isfinite(vectors).all()), f"{path}: all vectors are finite")
    tolerance = NORM_TOLERANCE
    if output_dtype == "int8":
        scale = table["embedding_scale"].drop_null().to_numpy()
        check(len(scale) == len(vectors), f"{path}: a scale exactly where there is a vector")
        vectors = vectors * scale[:, None]
        tolerance = NORM_TOLERANCE + scale / 2 * np.sqrt(dimensions)
    if metadata[b"encaje.normalized"] == b"true" and len(vectors) and output_dtype != "binary":
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        check(bool(np.all(np.abs(norms - 1) <= tolerance)), f"{path}: norms are 1, found {norms.min()}..{norms.max()}")
    return table


def vectors_of(table, dimensions):
    """Returns the vectors of the embedded rows as an array."""
    column = table["embedding"].combine_chunks().drop_null()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dimensions)


def check_quantized(target, table, floats):
    """Compares quantized vectors with the floats of the same job, by NumPy."""
    column = floats["embedding"].combine_chunks().drop_null()
    floats = column.flatten().to_numpy().reshape(len(column), -1)
    found = vectors_of(table, table.schema.field("embedding").type.list_size)
    if "embedding_scale" in table.schema.names:
        scale = np.abs(floats).max(axis=1) / np.float32(127)
        check(np.array_equal(table["embedding_scale"].drop_null().to_numpy(), scale), f"{target}: scales are the largest magnitudes / 127")
        check(np.array_equal(found, np.rint(floats / scale[:, None]).astype(np.int8)), f"{target}: elements are rounded to even")
    else:
        check(np.array_equal(found, np.packbits(floats > 0, axis=1)), f"{target}: bits are those of numpy.packbits")
        if installed("sentence_transformers"):
            from sentence_transformers.quantization import quantize_embeddings

            check(np.array_equal(found, quantize_embeddings(floats, "ubinary")), f"{target}: bits are sentence-transformers' ubinary")
    return "NumPy's quantization"


def check_counts(target, table, manifest):
    rows = table["row"].to_numpy()
    first = int(rows[0]) if len(rows) else 0
    check(bool(np.all(rows == np.arange(first, first + len(rows)))), f"{target}: rows follow on each other")
    if manifest is None:
        totals = json.loads(pq.read_metadata(target).metadata[b"encaje.totals"])
    else:
        check(first == 0, f"{target}: the first row is 0")
        totals = manifest["totals"]
    rejects = {item["values"]: item["counts"] for item in pc.value_counts(table["error"].drop_null()).to_pylist()}
    check(table.num_rows == totals["rows"], f"{target}: {totals['rows']} rows, found {table.num_rows}")
    check(rejects == totals["rejects"], f"{target}: rejects {totals['rejects']}, found {rejects}")
    check((pc.sum(table["n_tokens"]).as_py() or 0) == totals["tokens"], f"{target}: tokens are {totals['tokens']}")
    check((pc.sum(table["truncated"]).as_py() or 0) == totals["truncated"], f"{target}: truncated are {totals['truncated']}")


def check_duckdb(target, files, table):
    con = duckdb.connect()
    con.execute(f"create view vectors as select * from read_parquet({[str(path) for path in files]})")
    kinds = {name: kind for name, kind, *_ in con.execute("describe vectors").fetchall()}
    element = table.schema.field("embedding").type.value_type
    vectors = next(kind.duckdb for kind in OUTPUT_TYPES.values() if kind.arrow == element)
    ours = {"row": "BIGINT", "n_tokens": "INTEGER", "truncated": "BOOLEAN", "error": "VARCHAR", "embedding": vectors}
    for name, kind in ours.items():
        check(kinds[name] == kind, f"{target}: DuckDB reads {name} as {kind}, found {kinds[name]}")
    found = con.execute("select count(*), count(error), count(embedding), sum(n_tokens), min(row), max(row) from vectors").fetchone()
    rows = table["row"]
    rejected = table.num_rows - table["error"].null_count
    expected = (
        table.num_rows,
        rejected,
        table.num_rows - rejected,
        pc.sum(table["n_tokens"]).as_py(),
        pc.min(rows).as_py(),
        pc.max(rows).as_py(),
    )
    check(found == expected, f"{target}: DuckDB counts {expected}, found {found}")
    query = "select row, embedding from vectors where embedding is not null order by row limit 20"
    mine = {row: vector for row, vector in con.execute(query).fetchall()}
    theirs = {}
    for row, vector in zip(rows.to_pylist(), table["embedding"].to_pylist()):
        if vector is not None and len(theirs) < 20:
            theirs[row] = [float(value) for value in vector]
    check(mine == theirs, f"{target}: DuckDB reads the same numbers as pyarrow")
    lengths = con.execute("select count(distinct len(embedding)) from vectors where embedding is not null").fetchone()
    check(lengths[0] <= 1, f"{target}: DuckDB reads vectors of one length")
    one = con.execute("select error from vectors where row = (select max(row) from vectors)").fetchall()
    check(len(one) <= 1, f"{target}: DuckDB finds one row by its number")


def check_frames(target, files, table):
    """pandas, Polars and datasets, where installed: every row, and the same nulls."""
    seen = []
    nulls = table["embedding"].null_count
    if installed("pandas"):
        import pandas

        frame = pandas.concat([pandas.read_parquet(path) for path in files])
        check(len(frame) == table.num_rows, f"{target}: pandas reads every row")
        check(int(frame["embedding"].isna().sum()) == nulls, f"{target}: pandas reads the null vectors")
        seen.append("pandas")
    if installed("polars"):
        import polars

        frame = polars.read_parquet([str(path) for path in files])
        check(frame.height == table.num_rows, f"{target}: Polars reads every row")
        check(frame["embedding"].null_count() == nulls, f"{target}: Polars reads the null vectors")
        kind = frame.schema["embedding"]
        size = table.schema.field("embedding").type.list_size
        check(isinstance(kind, polars.Array) and kind.shape == (size,), f"{target}: Polars has arrays, found {kind}")
        valid = frame.filter(polars.col("embedding").is_not_null())
        mine = valid["embedding"].to_numpy().astype(np.float64)
        check(np.array_equal(mine, vectors_of(table, size).astype(np.float64)), f"{target}: Polars reads the same numbers")
        lazy = polars.scan_parquet([str(path) for path in files]).filter(polars.col("error").is_not_null()).collect()
        check(lazy.height == nulls, f"{target}: Polars finds the rejected rows by a filter")
        seen.append("Polars")
    if installed("datasets"):
        import datasets

        data = datasets.Dataset.from_parquet([str(path) for path in files], keep_in_memory=True)
        check(data.num_rows == table.num_rows, f"{target}: datasets reads every row")
        first = next((vector for vector in data["embedding"] if vector is not None), None)
        expected = next((vector for vector in table["embedding"].to_pylist() if vector is not None), None)
        check(first is None or [float(v) for v in first] == [float(v) for v in expected], f"{target}: datasets reads the numbers")
        seen.append("datasets")
    return seen


def check_vectors(target):
    files, manifest = files_of(target)
    tables = [check_arrow(path) for path in files]
    if not tables:
        check(manifest["totals"]["rows"] == 0, f"{target}: no files, no rows")
        print(f"{target}: no rows")
        return
    check(all(table.schema.equals(tables[0].schema) for table in tables), f"{target}: all files have one schema")
    table = pa.concat_tables(tables)
    check_counts(target, table, manifest)
    check_duckdb(target, files, table)
    seen = check_frames(target, files, table)
    # In the samples, beside a job of quantized vectors, there is the one of its floats.
    floats = target.parent / "f32"
    if target.name in ("int8", "binary") and floats.is_dir():
        seen.append(check_quantized(target, table, pa.concat_tables([pq.read_table(path) for path in files_of(floats)[0]])))
    print(f"{target}: {len(files)} files, {table.num_rows} rows, as told; read by {', '.join(['pyarrow', 'DuckDB', *seen])}")


def read_safetensors(path):
    """Checks the array by the format's description and, if installed, the library."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    entry = header["embeddings"]
    check("encaje.model" in header["__metadata__"], f"{path}: the metadata tells the model")
    begin, end = entry["data_offsets"]
    kind = next(kind.numpy for kind in OUTPUT_TYPES.values() if kind.safetensors == entry["dtype"])
    array = np.frombuffer(data[8 + length + begin : 8 + length + end], kind).reshape(entry["shape"])
    if installed("safetensors"):
        from safetensors.numpy import load_file

        check(np.array_equal(load_file(path)["embeddings"], array, equal_nan=array.dtype.kind == "f"), f"{path}: safetensors reads the same")
    job = path.with_suffix("")
    if "scales" in header and job.is_dir():
        begin, end = header["scales"]["data_offsets"]
        scales = np.frombuffer(data[8 + length + begin : 8 + length + end], "<f4")
        table = pa.concat_tables([pq.read_table(file) for file in files_of(job)[0]])
        expected = table["embedding_scale"].to_numpy(zero_copy_only=False)
        check(np.array_equal(scales, expected, equal_nan=True), f"{path}: the scales are those of the files")
    return array


def read_pt(path):
    """The array of the archive; where torch is installed, what `torch.load(weights_only=True)` makes of it."""
    with zipfile.ZipFile(path) as archive:
        check(archive.testzip() is None, f"{path}: every entry has its CRC")
        folder = archive.namelist()[0].split("/")[0]
        data = archive.read(f"{folder}/data/0")
        pickle = archive.read(f"{folder}/data.pkl")
    kind = next(kind for kind in OUTPUT_TYPES.values() if kind.torch.encode() in pickle)
    array = np.frombuffer(data, kind.numpy)
    if installed("torch"):
        import torch

        for mapped in (False, True):
            tensor = torch.load(path, weights_only=True, mmap=mapped)
            check(tensor.numpy().dtype == array.dtype, f"{path}: torch reads the number format")
            check(tensor.is_contiguous() and tensor.dim() == 2, f"{path}: torch reads a matrix")
            check(np.array_equal(tensor.numpy().ravel(), array, equal_nan=array.dtype.kind == "f"), f"{path}: torch reads the numbers")
        array = array.reshape(tuple(tensor.shape))
    return array


def check_array(target):
    read = {".npy": np.load, ".safetensors": read_safetensors, ".pt": read_pt}[target.suffix]
    array = read(target)
    # Beside an export of the same name lies, in the samples, the job it was made from.
    job = target.with_suffix("")
    if job.is_dir():
        files, _ = files_of(job)
        table = pa.concat_tables([pq.read_table(path) for path in files])
        size = table.schema.field("embedding").type.list_size
        array = array.reshape(-1, size)
        check(len(array) == table.num_rows, f"{target}: a row for every row")
        rejected = table["error"].is_valid().to_numpy()
        absent = np.isnan(array[rejected]) if array.dtype.kind == "f" else array[rejected] == 0
        check(bool(absent.all()), f"{target}: rejected rows are NaN, or 0 in integers")
        check(np.array_equal(array[~rejected], vectors_of(table, size)), f"{target}: the numbers are those of the files")
    print(f"{target}: {array.dtype} {array.shape}")


def main(arguments):
    check(bool(arguments), "usage: readers.py TARGET...")
    targets = []
    for target in map(Path, arguments):
        check(target.exists(), f"{target} exists")
        nested = target.is_dir() and not (target / "manifest.json").exists()
        targets += sorted(target.iterdir()) if nested else [target]
    check(bool(targets), f"there is something in {', '.join(arguments)}")
    for target in targets:
        if target.suffix in (".npy", ".safetensors", ".pt"):
            check_array(target)
        else:
            check_vectors(target)


if __name__ == "__main__":
    main(sys.argv[1:])
