#!/usr/bin/env python3
"""Columns of every Arrow type: makes corpora that hold them, and checks what other programs read in the output.

python tests/kept_types.py make DIR         writes accepted.{parquet,arrow,arrows} and refused-NAME.{parquet,arrow,arrows}
python tests/kept_types.py names DIR         lists the columns of accepted.arrow
python tests/kept_types.py check DIR NAME OUT   compares the output OUT of the corpus DIR/accepted.NAME with its values

A type is a line of ACCEPTED: name, values, type, and, where the output has another, its type there. What a reader shows
otherwise than pyarrow does comes after that. A type of REFUSED must be refused with the column's name.
"""

import datetime as dt
import decimal
import math
import sys
import uuid
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

D, UTC = decimal.Decimal, dt.timezone.utc
DAY, FIRST = dt.date(2024, 2, 29), dt.date(1, 1, 1)
NOW, OLD = dt.datetime(2024, 2, 29, 12, 30, 15), dt.datetime(1900, 1, 1)
NOW_US = NOW.replace(microsecond=123456)
HERE, THERE = NOW.replace(tzinfo=UTC), OLD.replace(tzinfo=UTC)
CLOCK = dt.time(23, 59, 59)
SPAN = dt.timedelta(days=3, seconds=7)
LONG = "longer than the twelve bytes that a view has in place"
BYTES = [b"\x00\xff", None, LONG.encode()]
WORDS = ["a", None, LONG]


def runs(values, kind):
    """Three rows in two runs."""
    return pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(values, kind))


def ordered(values):
    return pa.DictionaryArray.from_arrays(pa.array(values, pa.int8()), pa.array(["low", "middle", "high"]), ordered=True)


def without_values(kind):
    return pa.DictionaryArray.from_arrays(pa.array([None] * 3, kind), pa.nulls(0))


def listed(inner):
    """Lists of two, null, and none, of an array of two."""
    return pa.ListArray.from_arrays(pa.array([0, None, 2, 2], pa.int32()), inner)


def entries(kind):
    return [[("x", kind[0]), ("y", kind[1])], None, []]


class Case:
    def __init__(self, name, values, kind=None, stored=None, **shown):
        self.name = name
        self.array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, kind)
        plain_list = self.array.to_pylist() if stored is not None else None
        self.stored = self.array if stored is None else pa.array(plain_list, stored)
        self.shown = shown


ints = [5, None, -7]
ACCEPTED = [
    Case("null", [None, None, None], pa.null()),
    Case("bool", [True, None, False], pa.bool_()),
    *(Case(str(kind), ints, kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *(Case(str(kind), [5, None, 7], kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32())),
    Case("uint64", [5, None, 2**64 - 1], pa.uint64(), pandas=[5.0, None, float(2**64)]),
    *(Case(str(kind), [0.5, None, math.inf], kind) for kind in (pa.float16(), pa.float32(), pa.float64())),
    Case("nan", [math.nan, None, -0.0], pa.float64()),
    Case("decimal32", [D("1.25"), None, D("-99999.99")], pa.decimal32(7, 2)),
    Case("decimal64", [D("1.250"), None, D("-999999999999.999")], pa.decimal64(15, 3)),
    Case("decimal128", [D("1.25"), None, D("-" + "9" * 28 + ".25")], pa.decimal128(38, 10)),
    Case("decimal256", [D("1.25"), None, D("-9.75")], pa.decimal256(20, 2), pa.decimal128(20, 2)),
    Case("hundreds", [D("100"), None, D("12300")], pa.decimal128(5, -2), pa.decimal128(7, 0)),
    Case("date32", [DAY, None, FIRST], pa.date32()),
    Case("date64", [DAY, None, FIRST], pa.date64(), pa.date32()),
    Case("time32 s", [CLOCK, None, dt.time()], pa.time32("s"), pa.time32("ms")),
    Case("time32 ms", [CLOCK, None, dt.time()], pa.time32("ms")),
    Case("time64 us", [CLOCK, None, dt.time()], pa.time64("us")),
    Case("time64 ns", [CLOCK, None, dt.time()], pa.time64("ns")),
    Case("timestamp s", [NOW, None, OLD], pa.timestamp("s"), pa.timestamp("ms")),
    Case("timestamp ms", [NOW, None, OLD], pa.timestamp("ms")),
    Case("timestamp us", [NOW_US, None, OLD], pa.timestamp("us")),
    Case("timestamp ns", [NOW_US, None, OLD], pa.timestamp("ns")),
    Case("zone s", [HERE, None, THERE], pa.timestamp("s", "Europe/Madrid"), pa.timestamp("ms", "Europe/Madrid")),
    Case("zone us", [HERE, None, THERE], pa.timestamp("us", "America/Lima")),
    Case("utc", [HERE, None, THERE], pa.timestamp("ns", "UTC")),
    Case("offset", [HERE, None, THERE], pa.timestamp("us", "+05:30"), pa.timestamp("us", "UTC")),
    *(Case(f"duration {unit}", [SPAN, None, -SPAN], pa.duration(unit)) for unit in ("s", "ms", "us", "ns")),
    Case("string", WORDS, pa.string()),
    Case("large string", WORDS, pa.large_string()),
    Case("string view", WORDS, pa.string_view(), pa.string()),
    Case("binary", BYTES, pa.binary()),
    Case("large binary", BYTES, pa.large_binary()),
    Case("binary view", BYTES, pa.binary_view(), pa.binary()),
    Case("fixed binary", [b"abc", None, b"\x00\x01\x02"], pa.binary(3)),
    Case("categories", WORDS, pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.string())),
    Case("categories u16", WORDS, pa.dictionary(pa.uint16(), pa.large_string()), pa.dictionary(pa.int32(), pa.string())),
    Case("ordered categories", ordered([2, None, 0]), stored=pa.dictionary(pa.int32(), pa.string())),
    Case("no categories", without_values(pa.int8()), stored=pa.null()),
    Case("categories of bytes", BYTES, pa.dictionary(pa.int32(), pa.binary()), pa.binary()),
    Case("categories of numbers", ints, pa.dictionary(pa.int16(), pa.int64()), pa.int64()),
    Case("categories of days", pa.array([DAY, None, FIRST]).dictionary_encode(), stored=pa.date32()),
    Case("list", [[1, None], None, []], pa.list_(pa.int16())),
    Case("large list", [[1, None], None, []], pa.large_list(pa.int16())),
    Case("list view", [[1, None], None, []], pa.list_view(pa.int16()), pa.list_(pa.int16())),
    Case("large list view", [[1, None], None, []], pa.large_list_view(pa.int16()), pa.large_list(pa.int16())),
    Case("fixed list", [[1, 2], None, [3, None]], pa.list_(pa.float32(), 2)),
    Case("fixed list of fixed lists", [[[1, 2]], None, [[3, 4]]], pa.list_(pa.list_(pa.int8(), 2), 1)),
    Case("list of lists", [[[1], None, []], None, [[]]], pa.list_(pa.list_(pa.int64()))),
    Case("list of nulls", [[None, None], None, []], pa.list_(pa.null())),
    Case("list of seconds", [[NOW, None], None, []], pa.list_(pa.timestamp("s")), pa.list_(pa.timestamp("ms"))),
    Case("list of views", [WORDS, None, []], pa.list_(pa.string_view()), pa.list_(pa.string())),
    Case("list of categories", listed(pa.array(["a", None]).dictionary_encode()), stored=pa.list_(pa.string())),
    Case("list of runs", listed(pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array(["a"]))), stored=pa.list_(pa.string())),
    Case("list of structs", [[{"a": HERE}], None, [None]], pa.list_(pa.struct([("a", pa.timestamp("us", "UTC"))]))),
    Case("map", entries([1, None]), pa.map_(pa.string(), pa.int64())),
    Case("map of days", entries([DAY, None]), pa.map_(pa.string(), pa.date64()), pa.map_(pa.string(), pa.date32())),
    Case("map of structs", entries([{"a": 1}, None]), pa.map_(pa.string(), pa.struct([("a", pa.int8())]))),
    Case("struct", [{"a": 1, "b": None}, None, {"a": None, "b": "x"}], pa.struct([("a", pa.int8()), ("b", pa.string())])),
    Case("struct of structs", [{"a": {"b": [1]}}, None, {"a": None}], pa.struct([("a", pa.struct([("b", pa.list_(pa.int8()))]))])),
    Case("struct of nulls", [{"a": None, "b": 1}, None, {"a": None, "b": 2}], pa.struct([("a", pa.null()), ("b", pa.int8())])),
    Case(
        "struct of times",
        [{"a": CLOCK, "b": SPAN}, None, {"a": None, "b": None}],
        pa.struct([("a", pa.time32("s")), ("b", pa.duration("us"))]),
        pa.struct([("a", pa.time32("ms")), ("b", pa.duration("us"))]),
        duckdb=[{"a": CLOCK, "b": SPAN // dt.timedelta(microseconds=1)}, None, {"a": None, "b": None}],
    ),
    Case("runs", runs(["a", None], pa.string()), stored=pa.string()),
    Case("runs of numbers", runs([1, 2], pa.int16()), stored=pa.int16()),
    Case("runs of seconds", runs([NOW, OLD], pa.timestamp("s")), stored=pa.timestamp("ms")),
    Case("uuid", pa.array([b"0123456789abcdef", None, b"fedcba9876543210"], pa.uuid())),
    Case("json", ['{"a":1}', None, "[]"], pa.json_()),
    Case("bool8", pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None, 0], pa.int8())), polars=[1, None, 0], duckdb=[1, None, 0]),
    Case("opaque", pa.ExtensionArray.from_storage(pa.opaque(pa.string(), "kind", "vendor"), pa.array(WORDS))),
]
REFUSED = [
    Case("interval", [(1, 2, 3), None, (0, 0, -1)], pa.month_day_nano_interval()),
    Case("list of intervals", [[(1, 2, 3)], None, []], pa.list_(pa.month_day_nano_interval())),
    Case("dense union", pa.UnionArray.from_dense(pa.array([0, 0, 1], pa.int8()), pa.array([0, 1, 0], pa.int32()), [pa.array([1, 2]), pa.array(["x"])])),
    Case("sparse union", pa.UnionArray.from_sparse(pa.array([0, 0, 1], pa.int8()), [pa.array([1, 2, 3]), pa.array(["x", "y", "z"])])),
    Case("empty struct", [{}, None, {}], pa.struct([])),
    Case("no bytes", [b"", None, b""], pa.binary(0)),
    Case("no elements", [[], None, []], pa.list_(pa.int8(), 0)),
    Case("sixty digits", [D("1.25"), None, D("9" * 50)], pa.decimal256(60, 5)),
]
TEXTS = pa.array(["uno", "dos", "tres"])


def can_be_parquet(case):
    """Skips types that pyarrow cannot write to Parquet."""
    try:
        pq.write_table(pa.table({case.name: case.array}), pa.BufferOutputStream())
    except (pa.ArrowException, OSError):
        return False
    return True


def write(path, cases):
    table = pa.table({"text": TEXTS} | {case.name: case.array for case in cases})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write(table)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write(table)


def make(folder):
    for container in ("parquet", "arrow", "arrows"):
        able = can_be_parquet if container == "parquet" else lambda case: True
        write(folder / f"accepted.{container}", [case for case in ACCEPTED if able(case)])
        for case in filter(able, REFUSED):
            write(folder / f"refused-{case.name.replace(' ', '-')}.{container}", [case])


def plain(value, nan_is_null=False):
    """Normalises a value as returned by any of the readers."""
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64 | np.timedelta64):
        value = value.item()
    if isinstance(value, float):
        return (None if nan_is_null else "nan") if math.isnan(value) else value
    if isinstance(value, pd.Timedelta):
        value = value.to_pytimedelta()
    if isinstance(value, dt.timedelta):
        return ("span", value // dt.timedelta(microseconds=1))
    if isinstance(value, pd.Timestamp):
        value = value.to_pydatetime(warn=False)
    if isinstance(value, dt.datetime):
        value = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
        return ("instant", value.isoformat())
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, np.datetime64 | np.timedelta64):
        return plain(value.item(), nan_is_null)
    if isinstance(value, D):
        return value.normalize()
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, dict):
        return sorted((key, plain(inner, nan_is_null)) for key, inner in value.items())
    if isinstance(value, list | tuple | np.ndarray | pl.Series):
        items = list(value)
        if items and all(isinstance(item, tuple) and len(item) == 2 for item in items):
            return plain(dict(items), nan_is_null)
        return [plain(item, nan_is_null) for item in items]
    return value


def expected(case, reader):
    if reader in case.shown:
        return [plain(value) for value in case.shown[reader]]
    array = case.stored
    if reader == "duckdb" and pa.types.is_duration(array.type):
        array = array.cast(pa.int64())
    return [plain(value, reader == "pandas") for value in array.to_pylist()]


def check_arrow(case, column):
    """Checks that the type is the documented one, and every value equal, to the last digit."""
    found, wanted = column.combine_chunks(), case.stored
    if found.type.id != wanted.type.id:
        return f"type {found.type}, expected {wanted.type}"
    if isinstance(wanted.type, pa.BaseExtensionType):
        found, wanted = found.storage, wanted.storage
    found = found.cast(wanted.type)
    # NaN equals itself here.
    same = [plain(value) for value in found.to_pylist()] == [plain(value) for value in wanted.to_pylist()]
    exact = found.equals(wanted) or case.name == "nan" or pa.types.is_dictionary(wanted.type)
    return None if same and exact else f"{found.to_pylist()}, expected {wanted.to_pylist()}"


def check(container, target):
    cases = [case for case in ACCEPTED if container != "parquet" or can_be_parquet(case)]
    paths = [str(target)] if target.is_file() else sorted(map(str, target.glob("*.parquet")))
    table = pa.concat_tables(pq.read_table(path) for path in paths)
    frame = pd.concat([pd.read_parquet(path) for path in paths])
    polars = pl.read_parquet(paths)
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    problems = []
    for case in cases:
        name = case.name.replace('"', '""')
        query = f'select "{name}" from read_parquet({paths}) order by row'
        readers = {
            "pandas": lambda: frame[case.name].tolist(),
            "polars": lambda: polars[case.name].to_list(),
            "duckdb": lambda: [row[0] for row in con.execute(query).fetchall()],
        }
        problem = check_arrow(case, table[case.name])
        if problem:
            problems.append(f"{container}: {case.name}: pyarrow: {problem}")
        for reader, read in readers.items():
            wanted = expected(case, reader)
            found = [plain(value, reader == "pandas") for value in read()]
            if found != wanted:
                problems.append(f"{container}: {case.name}: {reader}: {found}, expected {wanted}")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"{container}: {len(cases)} types, as pyarrow, pandas, Polars and DuckDB read them")


if __name__ == "__main__":
    command, folder, *rest = sys.argv[1:]
    match command:
        case "make":
            make(Path(folder))
        case "names":
            print("\n".join(case.name for case in ACCEPTED))
        case "check":
            check(rest[0], Path(rest[1]))
