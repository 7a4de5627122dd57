#!/usr/bin/env python3
"""Shows what is in a folder of vectors, with DuckDB alone: its columns, its counts, and the nearest texts to one row.

python scripts/show_vectors.py DIR [TEXT_COLUMN]
"""

import sys

import duckdb

folder = sys.argv[1]
text = sys.argv[2] if len(sys.argv) > 2 else "text"
con = duckdb.connect()
con.execute(f"create view vectors as select * from read_parquet('{folder}/part-*.parquet')")

for name, kind, *_ in con.execute("describe vectors").fetchall():
    print(f"  {name:<12} {kind}")
rows, rejected, tokens = con.execute("select count(*), count(error), sum(n_tokens) from vectors").fetchone()
print(f"  {rows} rows, {rejected} rejected, {tokens} tokens\n")

# Parquet keeps no length of a list; with the cast DuckDB has one and its array functions apply.
(size,) = con.execute("select max(len(embedding)) from vectors").fetchone()
query = f"""
with whole as (select row, {text} as line, embedding::float[{size}] as vector from vectors where error is null)
select row, array_inner_product(vector, (select vector from whole order by row limit 1)) as cosine, line
from whole order by cosine desc, row limit 4
"""
for row, cosine, line in con.execute(query).fetchall():
    print(f"  {cosine:.3f}  row {row:<4} {' '.join(str(line).split())}")
