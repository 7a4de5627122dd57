"""Reads the files that references.rs wrote, as other programs do, and writes what they read.

  python references.py DIR

DIR/cases.json lists the files with their dialects. DIR/rows.json gets, per file, its records: of csv and txt the fields as
Python's csv module and text mode give them, of jsonl and json the objects of Python's json module. Where a file is well formed,
DuckDB and pyarrow must read the same; a difference ends the script with an error, since then there is no one answer.
"""

import csv
import json
import pathlib
import sys

import duckdb
import pyarrow.csv
import pyarrow.json


def csv_rows(path, case):
    csv.field_size_limit(1 << 30)
    dialect = {"delimiter": case["delimiter"], "lineterminator": "\n"}
    if case["quote"]:
        dialect["quotechar"] = case["quote"]
    else:
        dialect["quoting"] = csv.QUOTE_NONE
    with open(path, encoding=case["codec"], errors="strict", newline="") as file:
        return [row for row in csv.reader(file, **dialect) if row]


def arrow_rows(path, case, header):
    table = pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(encoding=case["codec"], column_names=header, skip_rows=1),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=case["delimiter"],
            quote_char=case["quote"] or False,
            newlines_in_values=True,
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pyarrow.string() for name in header}, strings_can_be_null=False
        ),
    )
    return [list(row.values()) for row in table.to_pylist()]


def duck_rows(path, case, header):
    columns = "{" + ", ".join(f"'{name}': 'VARCHAR'" for name in header) + "}"
    quote = (case["quote"] or "").replace("'", "''")
    delimiter = case["delimiter"].replace("'", "''")
    rows = duckdb.sql(
        f"select * from read_csv('{path}', auto_detect=false, header=true, delim='{delimiter}', quote='{quote}',"
        f" escape='{quote}', new_line='\\n', nullstr='<none>', columns={columns})"
    ).fetchall()
    return [[value or "" for value in row] for row in rows]


def check_csv(path, case, rows):
    header = [f"c{index}" for index in range(len(rows[0]))]
    others = {"pyarrow": arrow_rows}
    if case["codec"] in ("utf-8", "utf-8-sig"):
        others["duckdb"] = duck_rows
    for name, read in others.items():
        found = read(path, case, header)
        if found != rows[1:]:
            sys.exit(f"{name} reads {path} as {found}, but Python's csv module as {rows[1:]}")


def text_lines(path, case):
    with open(path, encoding=case["codec"], newline=None) as file:
        return [line.rstrip("\n") for line in file]


def json_objects(path, case):
    found = []
    with open(path, encoding=case["codec"], newline="\n") as file:
        for line in file:
            if not line.strip(" \t\r\n"):
                continue
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            found.append(value if isinstance(value, dict) else None)
    return found


def json_elements(path, case):
    with open(path, encoding=case["codec"]) as file:
        return [value if isinstance(value, dict) else None for value in json.load(file)]


def check_array(path, objects):
    """Compares texts and numbers of an array, read as DuckDB reads it."""
    expected = [(value["text"], str(float("nan") if value["n"] is None else float(value["n"]))) for value in objects]
    rows = duckdb.sql(f"select text, n::double from read_json('{path}', format='array')").fetchall()
    found = [(text, str(float("nan") if n is None else float(n))) for text, n in rows]
    if expected != found:
        sys.exit(f"{path}: Python reads {expected}, DuckDB {found}")


def check_json(path, objects):
    """Compares the numbers of a well-formed file, including NaN and infinities."""
    numbers = [str(float("nan") if value["n"] is None else float(value["n"])) for value in objects]
    table = pyarrow.json.read_json(path)
    found = [str(float("nan") if n is None else float(n)) for n in table["n"].to_pylist()]
    rows = duckdb.sql(f"select n::double from read_json('{path}', format='newline_delimited')").fetchall()
    ducks = [str(float("nan") if n is None else float(n)) for (n,) in rows]
    if not numbers == found == ducks:
        sys.exit(f"{path}: Python reads {numbers}, pyarrow {found}, DuckDB {ducks}")


def main():
    folder = pathlib.Path(sys.argv[1])
    read = []
    for case in json.loads((folder / "cases.json").read_text()):
        path = folder / case["file"]
        if case["format"] == "txt":
            read.append([[line] for line in text_lines(path, case)])
        elif case["format"] in ("jsonl", "json"):
            is_array = case["format"] == "json"
            objects = (json_elements if is_array else json_objects)(path, case)
            if case["well_formed"]:
                (check_array if is_array else check_json)(path, objects)
            # As text, because JSON has no NaN.
            spelled = lambda n: None if n is None else str(float(n))
            read.append([value and {**value, "n": spelled(value.get("n"))} for value in objects])
        else:
            rows = csv_rows(path, case)
            if case["well_formed"]:
                check_csv(path, case, rows)
            read.append(rows)
    (folder / "rows.json").write_text(json.dumps(read))


main()
