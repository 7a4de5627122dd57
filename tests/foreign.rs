//! `project` of what other programs made: matrices, Parquet files, labels and places.

use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float64Builder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use crate::harness::{Ran, TestEnv, corpora};

const ROWS: i64 = 120;

/// The vector of a row: two groups on a circle.
fn vector(row: i64) -> [f64; 3] {
    let angle = (row % 2) as f64 * 1.5 + row as f64 / 400.0;
    [angle.sin(), angle.cos(), 0.1]
}

fn write_parquet(env: &TestEnv, name: &str, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    env.write(name, writer.into_inner().unwrap());
}

fn vectors() -> ArrayRef {
    let mut lists = FixedSizeListBuilder::new(Float64Builder::new(), 3);
    for row in 0..ROWS {
        lists.values().append_slice(&vector(row));
        lists.append(true);
    }
    Arc::new(lists.finish())
}

fn ids() -> ArrayRef {
    Arc::new((0..ROWS).map(|row| Some(format!("id-{row}"))).collect::<StringArray>())
}

fn npy() -> Vec<u8> {
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({ROWS}, 3), }}\n");
    let mut bytes = [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
    bytes.extend((0..ROWS).flat_map(vector).flat_map(f64::to_le_bytes));
    bytes
}

fn project(env: &TestEnv, words: &[&str]) -> Ran {
    env.encaje(["project"].iter().chain(words))
}

#[test]
fn vectors_of_other_programs_are_drawn_with_labels_of_others() {
    let env = TestEnv::new();
    env.write("a.npy", npy());
    write_parquet(&env, "a.parquet", vec![("id", ids()), ("vec", vectors())]);
    let clusters = |row: i64| format!("c{}", row % 2);
    env.write("l.csv", (0..ROWS).map(|row| format!("{row},{}\n", clusters(row))).collect::<String>() + "500,x\n");
    let csv = std::fs::read_to_string(env.path("l.csv")).unwrap();
    // As a spreadsheet in Spanish writes it.
    env.write("l.csv", format!("row,cluster\n{csv}").replace(',', ";"));
    let lines = (0..ROWS).map(|row| format!("{{\"id\": \"id-{row}\", \"cluster\": \"{}\"}}\n", clusters(row)));
    env.write("l.jsonl", lines.collect::<String>());
    let backwards: ArrayRef = Arc::new((0..ROWS).rev().map(|row| Some(format!("id-{row}"))).collect::<StringArray>());
    let theirs: ArrayRef = Arc::new((0..ROWS).rev().map(|row| Some(clusters(row))).collect::<StringArray>());
    write_parquet(&env, "l.parquet", vec![("id", backwards), ("cluster", theirs)]);
    let mut pages = Vec::new();
    for (index, words) in [
        &["--vectors", "a.npy", "--labels", "l.csv"][..],
        &["--vectors", "a.parquet", "--labels", "l.jsonl", "--labels-by", "id"],
        &["--vectors", "a.parquet", "--labels", "l.parquet", "--labels-by", "id"],
    ]
    .into_iter()
    .enumerate()
    {
        let (svg, coords) = (format!("{index}.svg"), format!("{index}.parquet"));
        let more = ["--label", "cluster", "--out", &svg, "--coords", &coords, "--json"];
        let ran = project(&env, &[words, &more].concat());
        ran.expect_code(0);
        assert_eq!((&ran.json()["points"], &ran.json()["labels"]), (&ROWS.into(), &2.into()), "{words:?}");
        pages.push(std::fs::read(env.path(&svg)).unwrap());
    }
    assert_eq!(pages[1], pages[2], "the same places and labels, whatever file they are from");
    // What was drawn is drawn again from its places.
    let again = project(&env, &["2.parquet", "--label", "cluster", "--out", "again.svg", "--json"]);
    again.expect_code(0);
    assert_eq!(again.json()["neighbors"], serde_json::Value::Null);
    let body = |svg: &[u8]| String::from_utf8_lossy(svg).lines().filter(|line| line.contains("<path")).count();
    assert_eq!(body(&std::fs::read(env.path("again.svg")).unwrap()), body(&pages[2]));
    let refused = project(&env, &["2.parquet", "--seed", "7", "--out", "b.svg"]);
    refused.expect_code(2);
    refused.expect_said(&["has places already"]);
}

#[test]
fn neighbors_are_written_as_embedding_atlas_reads_them() {
    let env = TestEnv::new();
    env.write("a.npy", npy());
    let words = ["--vectors", "a.npy", "--metric", "euclidean", "--neighbors", "4", "--coords", "c.parquet"];
    project(&env, &[&words[..], &["--coords-neighbors"]].concat()).expect_code(0);
    let file = std::fs::File::open(env.path("c.parquet")).unwrap();
    let batch = ParquetRecordBatchReader::try_new(file, 1024).unwrap().next().unwrap().unwrap();
    let near = batch.column_by_name("neighbors").unwrap().as_struct();
    let (ids, distances) = (near.column_by_name("ids").unwrap(), near.column_by_name("distances").unwrap());
    for row in 0..ROWS {
        let mut expected: Vec<(f64, i64)> = (0..ROWS)
            .map(|other| {
                let apart = vector(row).into_iter().zip(vector(other)).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
                (apart.sqrt(), other)
            })
            .collect();
        expected.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let found = ids.as_list::<i32>().value(row as usize);
        let found = found.as_primitive::<Int64Type>().values().to_vec();
        let apart = distances.as_list::<i32>().value(row as usize);
        let apart = apart.as_primitive::<Float32Type>().values().to_vec();
        assert_eq!((found.len(), found[0]), (4, row));
        for ((expected, _), apart) in expected.iter().zip(apart) {
            assert!((expected - f64::from(apart)).abs() < 1e-3, "row {row}: {expected} {apart}");
        }
    }
    project(&env, &["c.parquet", "--out", "c.svg"]).expect_code(0);
    let refused = project(&env, &["c.parquet", "--coords", "d.parquet", "--coords-neighbors"]);
    refused.expect_code(2);
    refused.expect_said(&["places, and no vectors"]);
}

#[test]
fn row_numbers_of_every_type_say_which_row_is_which() {
    let env = TestEnv::new();
    let backwards = || (0..ROWS).rev();
    let mut lists = FixedSizeListBuilder::new(Float64Builder::new(), 3);
    for row in backwards() {
        lists.values().append_slice(&vector(row));
        lists.append(true);
    }
    let vectors: ArrayRef = Arc::new(lists.finish());
    let clusters: ArrayRef = Arc::new((0..ROWS).map(|row| Some(format!("c{}", row % 2))).collect::<StringArray>());
    let keys: ArrayRef = Arc::new((0..ROWS).map(|row| Some(row as f64)).collect::<Float64Array>());
    write_parquet(&env, "l.parquet", vec![("row", keys), ("cluster", clusters)]);
    let typed: [(&str, ArrayRef); 3] = [
        ("i32", Arc::new(backwards().map(|row| Some(row as i32)).collect::<Int32Array>())),
        ("f64", Arc::new(backwards().map(|row| Some(row as f64)).collect::<Float64Array>())),
        ("i64", Arc::new(backwards().map(Some).collect::<Int64Array>())),
    ];
    for (name, rows) in typed {
        let (file, coords) = (format!("{name}.parquet"), format!("{name}-xy.parquet"));
        write_parquet(&env, &file, vec![("row", rows), ("vec", Arc::clone(&vectors))]);
        let words = ["--vectors", &file, "--labels", "l.parquet", "--label", "cluster", "--coords", &coords];
        project(&env, &words).expect_code(0);
        let file = std::fs::File::open(env.path(&coords)).unwrap();
        let batch = ParquetRecordBatchReader::try_new(file, 1024).unwrap().next().unwrap().unwrap();
        let names: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["row", "cluster", "x", "y"]);
        let (rows, found) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
        for (row, found) in rows.values().iter().zip(found) {
            assert_eq!(found, Some(format!("c{}", row % 2).as_str()), "{name}: row {row}");
        }
    }
    let gaps: ArrayRef = Arc::new(backwards().map(|row| (row != 7).then_some(row)).collect::<Int64Array>());
    let halves: ArrayRef = Arc::new(backwards().map(|row| Some(row as f64 / 2.0)).collect::<Float64Array>());
    for (name, rows) in [("gaps", gaps), ("halves", halves), ("text", ids())] {
        let file = format!("{name}.parquet");
        write_parquet(&env, &file, vec![("row", rows), ("vec", Arc::clone(&vectors))]);
        let refused = project(&env, &["--vectors", &file, "--out", "x.svg"]);
        refused.expect_code(2);
        refused.expect_said(&["column `row`", "whole numbers"]);
    }
}

#[test]
fn files_that_are_read_are_never_replaced() {
    let env = TestEnv::new();
    write_parquet(&env, "v.parquet", vec![("id", ids()), ("vec", vectors())]);
    let clusters: ArrayRef = Arc::new((0..ROWS).map(|row| Some(format!("c{}", row % 2))).collect::<StringArray>());
    write_parquet(&env, "l.parquet", vec![("id", ids()), ("cluster", clusters)]);
    let labels = ["--vectors", "v.parquet", "--labels", "l.parquet", "--labels-by", "id", "--force"];
    let whole = env.path("v.parquet").display().to_string();
    for out in ["./v.parquet", &whole, "./l.parquet"] {
        let refused = project(&env, &[&labels[..], &["--coords", out]].concat());
        refused.expect_code(2);
        refused.expect_said(&["files that are read"]);
    }
    // Two columns of one name cannot be read back.
    let x: ArrayRef = Arc::new((0..ROWS).map(|row| Some(row as f64)).collect::<Float64Array>());
    write_parquet(&env, "x.parquet", vec![("x", x), ("vec", vectors())]);
    let refused = project(&env, &["--vectors", "x.parquet", "--coords", "xy.parquet"]);
    refused.expect_code(2);
    refused.expect_said(&["kept column `x`"]);
    std::os::unix::fs::symlink("/dev/null", env.path("null.svg")).unwrap();
    let refused = project(&env, &["--vectors", "v.parquet", "--out", "null.svg", "--force"]);
    refused.expect_said(&["a device or a pipe"]);
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn an_output_that_was_changed_on_purpose_is_not_damaged() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&corpora::sentences(60)));
    env.run_ok("a.csv", "a.parquet", &[]);
    let file = std::fs::File::open(env.path("a.parquet")).unwrap();
    let reader = ParquetRecordBatchReader::try_new(file, 1024).unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for (field, column) in batches[0].schema().fields().iter().zip(batches[0].columns()) {
        columns.push((field.name().clone(), Arc::clone(column)));
    }
    let cluster: ArrayRef =
        Arc::new((0..batches[0].num_rows()).map(|row| Some(format!("{}", row % 3))).collect::<StringArray>());
    columns.push(("cluster".to_owned(), cluster));
    write_parquet(
        &env,
        "b.parquet",
        columns.iter().map(|(name, column)| (name.as_str(), Arc::clone(column))).collect(),
    );
    let refused = project(&env, &["b.parquet", "--label", "cluster", "--out", "b.svg"]);
    refused.expect_code(1);
    refused.expect_said(&["on purpose: encaje project --vectors b.parquet"]);
    let drawn = project(&env, &["--vectors", "b.parquet", "--label", "cluster", "--out", "b.svg", "--json"]);
    drawn.expect_code(0);
    let whole = project(&env, &["a.parquet", "--out", "a.svg", "--json"]).json();
    for key in ["points", "rejected", "dimensions"] {
        assert_eq!(drawn.json()[key], whole[key], "{key}");
    }
    project(&env, &["a.csv", "--out", "c.svg"]).expect_said(&["embed a corpus first: encaje run a.csv"]);
}

#[test]
fn what_cannot_be_joined_or_drawn_says_why() {
    let env = TestEnv::new();
    env.write("a.npy", npy());
    write_parquet(&env, "two.parquet", vec![("one", vectors()), ("other", vectors())]);
    write_parquet(&env, "none.parquet", vec![("id", ids())]);
    env.write("twice.csv", "row,cluster\n3,a\n3,b\n");
    env.write("others.csv", "row,cluster\n900,a\n");
    env.write("keyless.csv", "id,cluster\n1,a\n");
    env.write("ours.csv", "row,error\n1,a\n");
    let rows: ArrayRef = Arc::new(Int64Array::from(vec![1, 1]));
    write_parquet(&env, "twice.parquet", vec![("row", rows)]);
    for (words, said) in [
        (&["--vectors", "two.parquet"][..], &["several columns of vectors: `one`, `other`", "--vectors-column"][..]),
        (&["--vectors", "two.parquet", "--vectors-column", "x"], &["no column `x`", "`one`, `other`"]),
        (&["--vectors", "none.parquet"], &["no column of vectors", "`id`"]),
        (&["--vectors", "a.npy", "--labels", "twice.csv"], &["`row` 3", "once"]),
        (&["--vectors", "a.npy", "--labels", "twice.parquet"], &["`row` 1", "once"]),
        (&["--vectors", "a.npy", "--labels", "others.csv"], &["such as `0`", "such as `900`"]),
        (&["--vectors", "a.npy", "--labels", "keyless.csv"], &["`row`", "--labels-by"]),
        (&["--vectors", "a.npy", "--labels", "ours.csv"], &["column `error`", "another name"]),
        (&["--vectors", "a.npy", "--labels", "gone.csv"], &["there is no file `gone.csv`"]),
        (&["--vectors", "a.npy", "--labels", "others.csv", "--labels-by", "cluster"], &["no kept column"]),
        (&["--vectors", "a.npy", "--label", "x"], &["no kept column `x`"]),
    ] {
        let ran = project(&env, &[words, &["--out", "x.svg"]].concat());
        ran.expect_code(2);
        ran.expect_said(said);
        assert!(!env.path("x.svg").exists());
    }
}
