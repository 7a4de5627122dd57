#!/usr/bin/env python3
"""The same rows in every container, codec and layout of other programs, and unsupported ones that must be refused by name.

python tests/containers.py make DIR    writes DIR/sound/*, DIR/empty/* and DIR/refused/*
python tests/containers.py check DIR   compares the outputs DIR/out/NAME.parquet with the rows

A container is a line of SOUND: its name and how it is written. `label` has repeats, and values that come late.
"""

import base64
import datetime as dt
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

ROWS = 12
TABLE = pa.table(
    {
        "id": pa.array(range(ROWS), pa.int64()),
        "text": [f"frase {row}" for row in range(ROWS)],
        "label": ["xyzw"[row * row // 40] for row in range(ROWS)],
    }
)


def batches(table, rows=5):
    return table.to_batches(max_chunksize=rows)


def with_categories(batch, values):
    """The batch with its labels as a dictionary that has these values."""
    label = batch["label"].to_pylist()
    codes = pa.array([values.index(value) for value in label], pa.int8())
    dictionary = pa.DictionaryArray.from_arrays(codes, pa.array(values))
    return pa.record_batch([batch["id"], batch["text"], dictionary], names=["id", "text", "label"])


def growing(table):
    """Each batch has more dictionary values than the previous one, in the same order."""
    return [with_categories(batch, list("xyzw")[: 2 + place]) for place, batch in enumerate(batches(table))]


def replaced(table):
    """Each batch has its dictionary values in a different order."""
    return [with_categories(batch, list("wxyz")[place:] + list("wxyz")[:place]) for place, batch in enumerate(batches(table))]


def ipc(path, parts, schema=None, **options):
    new = pa.ipc.new_file if path.suffix in (".arrow", ".feather") else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as sink:
        with new(sink, schema or parts[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
            for part in parts:
                writer.write_batch(part)


def parquet(path, table, **options):
    pq.write_table(table, path, **options)


def without_end(path, table):
    """A stream without an end marker."""
    ipc(path, batches(table))
    path.write_bytes(path.read_bytes()[:-8])


def by_duckdb(path, table):
    con = duckdb.connect()
    con.register("t", table)
    con.execute(f"copy (select * from t order by id) to '{path}' (format parquet)")


V4 = pa.ipc.MetadataVersion.V4
SOUND = {
    **{f"{codec}.parquet": lambda path, t, codec=codec: parquet(path, t, compression=codec) for codec in ("none", "snappy", "gzip", "brotli", "lz4", "zstd")},
    "pages-2.parquet": lambda path, t: parquet(path, t, data_page_version="2.0", compression="brotli", row_group_size=5),
    "delta-encoded.parquet": lambda path, t: parquet(
        path, t, use_dictionary=False, column_encoding={"id": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY", "label": "DELTA_LENGTH_BYTE_ARRAY"}
    ),
    "categories.parquet": lambda path, t: parquet(path, t.set_column(2, "label", t["label"].dictionary_encode()), row_group_size=5),
    "duckdb.parquet": by_duckdb,
    "polars.parquet": lambda path, t: pl.from_arrow(t).write_parquet(path),
    "pandas.parquet": lambda path, t: t.to_pandas().to_parquet(path),
    "file.arrow": lambda path, t: ipc(path, batches(t)),
    "file-lz4.arrow": lambda path, t: ipc(path, batches(t), compression="lz4"),
    "file-zstd.arrow": lambda path, t: ipc(path, batches(t), compression="zstd"),
    "file-v4.arrow": lambda path, t: ipc(path, batches(t), metadata_version=V4),
    "file-legacy.arrow": lambda path, t: ipc(path, batches(t), metadata_version=V4, use_legacy_format=True),
    "file-delta.arrow": lambda path, t: ipc(path, growing(t), emit_dictionary_deltas=True),
    "file-categories.arrow": lambda path, t: ipc(path, [with_categories(batch, list("xyzw")) for batch in batches(t)]),
    "stream.arrows": lambda path, t: ipc(path, batches(t)),
    "stream-lz4.arrows": lambda path, t: ipc(path, batches(t), compression="lz4"),
    "stream-v4.arrows": lambda path, t: ipc(path, batches(t), metadata_version=V4),
    "stream-legacy.arrows": lambda path, t: ipc(path, batches(t), metadata_version=V4, use_legacy_format=True),
    "stream-delta.arrows": lambda path, t: ipc(path, growing(t), emit_dictionary_deltas=True),
    "stream-grown.arrows": lambda path, t: ipc(path, growing(t)),
    "stream-replaced.arrows": lambda path, t: ipc(path, replaced(t)),
    "stream-without-end.arrows": without_end,
    "feather.feather": lambda path, t: feather.write_feather(t, path),
    "pandas.feather": lambda path, t: t.to_pandas().to_feather(path),
    **{f"polars-{codec}.arrow": lambda path, t, codec=codec: pl.from_arrow(t).write_ipc(path, compression=codec) for codec in ("uncompressed", "lz4", "zstd")},
    "polars-categories.arrow": lambda path, t: pl.from_arrow(t).with_columns(pl.col("label").cast(pl.Categorical)).write_ipc(path),
    "polars-stream.arrows": lambda path, t: pl.from_arrow(t).write_ipc_stream(path),
}
EMPTY = {
    "rows.parquet": lambda path, t: parquet(path, t.slice(0, 0)),
    "rows.arrow": lambda path, t: ipc(path, [], t.schema),
    "rows.arrows": lambda path, t: ipc(path, [], t.schema),
    "batch.arrow": lambda path, t: ipc(path, [batches(t)[0].slice(0, 0)]),
    "polars.arrow": lambda path, t: pl.from_arrow(t.slice(0, 0)).write_ipc(path),
}


class Keys(pe.KmsClient):
    """A key management without encryption."""

    def __init__(self, config):
        super().__init__()

    def wrap_key(self, key_bytes, master_key_identifier):
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key, master_key_identifier):
        return base64.b64decode(wrapped_key)


def encrypted(path, table, columns, plaintext_footer):
    settings = pe.EncryptionConfiguration(footer_key="f", column_keys={"c": columns}, plaintext_footer=plaintext_footer, cache_lifetime=dt.timedelta(minutes=5))
    properties = pe.CryptoFactory(Keys).file_encryption_properties(pe.KmsConnectionConfig(), settings)
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)


# The expected message, and how the file is written.
REFUSED = {
    "encrypted.parquet": ("encrypted", lambda path, t: encrypted(path, t, ["text"], False)),
    "encrypted-text.parquet": ("`text` is encrypted", lambda path, t: encrypted(path, t, ["text"], True)),
    "encrypted-label.parquet": ("`label` is encrypted", lambda path, t: encrypted(path, t, ["label"], True)),
    "feather-1.feather": ("Feather version 1", lambda path, t: path.write_bytes(b"FEA1" + bytes(60) + b"FEA1")),
    "two-streams.arrows": ("another arrow stream", lambda path, t: two_streams(path, t)),
}


def two_streams(path, table):
    ipc(path, batches(table))
    path.write_bytes(path.read_bytes() * 2)


def make(folder):
    for part, containers in (("sound", SOUND), ("empty", EMPTY)):
        (folder / part).mkdir()
        for name, write in containers.items():
            write(folder / part / name, TABLE)
    (folder / "refused").mkdir()
    for name, (said, write) in REFUSED.items():
        write(folder / "refused" / name, TABLE)
        (folder / "refused" / f"{name}.said").write_text(said, encoding="utf-8")


def check(folder):
    for name in SOUND:
        table = pq.read_table(folder / "out" / f"{name}.parquet")
        for column in TABLE.column_names:
            found, wanted = table[column].to_pylist(), TABLE[column].to_pylist()
            if found != wanted:
                sys.exit(f"{name}: {column}: {found}, expected {wanted}")
        if table["error"].null_count != ROWS:
            sys.exit(f"{name}: rows are rejected: {table['error'].to_pylist()}")
    print(f"{len(SOUND)} containers hold their rows")


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](Path(sys.argv[2]))
