//! `encaje project`: vectors to a picture and to places in the plane.

use std::path::Path;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::harness::TestEnv;
use crate::harness::corpora::sentences;

/// Texts with a label, a number and, in row 3, nothing to embed.
fn corpus(rows: u64) -> String {
    let mut csv = "text,label,score\n".to_owned();
    for (row, text) in sentences(rows).iter().enumerate() {
        let text = if row == 3 { "" } else { text.as_str() };
        csv.push_str(&format!("\"{text}\",{},{}\n", ["🌮", "<b>&\"", "c"][row % 3], row as f32 / 2.0));
    }
    csv
}

fn read(path: &Path) -> Vec<RecordBatch> {
    let file = std::fs::File::open(path).unwrap();
    ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap).collect()
}

fn places(path: &Path) -> Vec<(i64, f32, f32)> {
    let mut places = Vec::new();
    for batch in read(path) {
        let number = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Float32Type>().values().to_vec();
        let rows = batch.column_by_name("row").unwrap().as_primitive::<Int64Type>().values().to_vec();
        places.extend(rows.into_iter().zip(number("x")).zip(number("y")).map(|((row, x), y)| (row, x, y)));
    }
    places
}

#[test]
fn vectors_become_a_picture_and_places() {
    let env = TestEnv::new();
    env.write("a.csv", corpus(120));
    env.run_ok("a.csv", "vectors", &["--shard-rows", "50"]);
    let words = ["project", "vectors", "--label", "label", "--epochs", "30", "--out"];
    for out in ["a.html", "a.svg", "a.png"] {
        let ran = env.encaje([&words[..], &[out, "--json"]].concat());
        ran.expect_code(0);
        let json = ran.json();
        assert_eq!((&json["points"], &json["rejected"], &json["labels"]), (&119.into(), &1.into(), &3.into()));
        assert_eq!(json["label_type"], "category");
    }
    let html = std::fs::read_to_string(env.path("a.html")).unwrap();
    assert!(html.contains("🌮") && !html.contains("<b>&"), "the label is in the page, and as text");
    assert!(std::fs::read(env.path("a.png")).unwrap().starts_with(b"\x89PNG"));

    let ran = env.encaje([&words[..6], &["--coords", "a.parquet"]].concat());
    ran.expect_code(0);
    ran.expect_said(&["1 row without a vector"]);
    let first = places(&env.path("a.parquet"));
    assert_eq!(
        first.iter().map(|place| place.0).collect::<Vec<_>>(),
        (0..120).filter(|&row| row != 3).collect::<Vec<_>>()
    );
    assert!(first.iter().all(|place| place.1.is_finite() && place.2.is_finite()));
    let batch = &read(&env.path("a.parquet"))[0];
    let names: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["row", "text", "label", "score", "x", "y"]);
    assert_eq!(batch.column_by_name("label").unwrap().as_string::<i32>().value(0), "🌮");

    env.encaje([&words[..6], &["--coords", "again.parquet"]].concat()).expect_code(0);
    assert_eq!(first, places(&env.path("again.parquet")), "the same seed");
    env.encaje([&words[..6], &["--coords", "other.parquet", "--seed", "7"]].concat()).expect_code(0);
    assert_ne!(first, places(&env.path("other.parquet")), "another seed");
}

#[test]
fn a_column_of_numbers_becomes_a_colour_bar() {
    let env = TestEnv::new();
    env.write("a.csv", corpus(60));
    env.run_ok("a.csv", "v.parquet", &[]);
    for (more, kind) in [
        (&["--label", "score"][..], "number"),
        (&["--label", "score", "--label-type", "category"], "category"),
        (&["--label", "label"], "category"),
        (&[], "none"),
    ] {
        let words = [&["project", "v.parquet", "--epochs", "5", "--out", "p.svg", "--force", "--json"], more].concat();
        let ran = env.encaje(words);
        ran.expect_code(0);
        assert_eq!(ran.json()["label_type"], kind, "{more:?}");
    }
    let words = ["project", "v.parquet", "--out", "q.svg", "--label", "label", "--label-type", "number"];
    let ran = env.encaje(words);
    ran.expect_code(2);
    ran.expect_said(&["`label`", "`🌮`", "row 0", "--label-type category"]);
    assert!(!env.path("q.svg").exists());
}

#[test]
fn what_cannot_be_drawn_is_refused_before_any_work() {
    let env = TestEnv::new();
    env.write("a.csv", corpus(9));
    env.run_ok("a.csv", "v", &[]);
    env.write("there.svg", "mine");
    env.write("there.parquet", "mine");
    for (more, said) in [
        (&["--out", "p.eps"][..], &["`p.eps`", ".html, .png, .svg or .pdf"][..]),
        (&["--out", "p"], &["`p`"]),
        (&["--out", "there.svg"], &["already exists", "--force"]),
        (&["--coords", "there.parquet"], &["already exists", "--coords"]),
        (&["--coords", "c.csv"], &[".parquet"]),
        (&["--out", "absent/p.svg"], &["no folder `absent`"]),
        (&["--out", "p.svg", "--label", "nope"], &["`nope`", "text, label, score"]),
        (&["--out", "p.svg", "--size", "big"], &["180x120mm", "`big`"]),
        (&["--out", "p.svg", "--size", "1x1mm"], &["--size", "inches"]),
        (&["--out", "p.svg", "--aspect", "4:x"], &["4:3"]),
        (&["--out", "p.svg", "--font", "a.csv"], &["`a.csv`", "OpenType"]),
        (&["--out", "p.svg", "--neighbors", "1"], &["--neighbors"]),
        (&["--out", "p.svg", "--min-dist", "5"], &["from 0 to 3"]),
        (&["--out", "p.svg", "--metric", "manhattan"], &["cosine", "euclidean"]),
        (&[], &["--out"]),
    ] {
        let ran = env.encaje([&["project", "v"], more].concat());
        ran.expect_code(2);
        ran.expect_said(said);
        assert_eq!(ran.stdout, "");
    }
    assert_eq!(std::fs::read(env.path("there.svg")).unwrap(), b"mine");
    assert!(!env.path("p.svg").exists());
    let ran = env.encaje(["project", "nothing", "--out", "p.svg"]);
    ran.expect_code(1);
    ran.expect_said(&["nothing"]);
}

#[test]
fn a_figure_for_a_paper_has_the_size_and_title_that_are_given() {
    let env = TestEnv::new();
    env.write("a.csv", corpus(9));
    env.run_ok("a.csv", "v", &[]);
    let drawn = ["--out", "p.pdf", "--out", "p.svg", "--size", "180x90mm", "--title", "Nueve frases"];
    env.encaje([&["project", "v", "--label", "label"], &drawn[..]].concat()).expect_code(0);
    let pdf = std::fs::read(env.path("p.pdf")).unwrap();
    assert!(String::from_utf8_lossy(&pdf).contains("/MediaBox [0 0 510.23"), "180 mm are 510.24 points");
    let svg = std::fs::read_to_string(env.path("p.svg")).unwrap();
    assert!(svg.contains(">Nueve frases</text>") && svg.contains("width=\"680.31\""));
    env.encaje(["project", "v", "--out", "bare.svg", "--title", ""]).expect_code(0);
    assert!(!std::fs::read_to_string(env.path("bare.svg")).unwrap().contains("UMAP"));
}

#[test]
fn few_equal_and_no_vectors_are_told_apart() {
    let env = TestEnv::new();
    for (name, texts) in [
        ("one", vec!["hola"]),
        ("two", vec!["hola", "adiós"]),
        ("some", vec!["uno", "dos", "tres", "cuatro", "cinco"]),
        ("equal", vec!["hola"; 40]),
    ] {
        env.write(&format!("{name}.csv"), format!("text\n{}\n", texts.join("\n")));
        env.run_ok(&format!("{name}.csv"), name, &[]);
        let coords = format!("{name}.xy.parquet");
        env.encaje(["project", name, "--out", &format!("{name}.svg"), "--coords", &coords]).expect_code(0);
        let found = places(&env.path(&coords));
        assert_eq!(found.len(), texts.len());
        assert!(found.iter().all(|place| place.1.is_finite() && place.2.is_finite()), "{name}: {found:?}");
    }
    env.write("none.csv", "text,id\n,1\n,2\n");
    env.run_ok("none.csv", "none", &[]);
    let ran = env.encaje(["project", "none", "--out", "none.svg"]);
    ran.expect_code(1);
    ran.expect_said(&["no vectors", "2 rows"]);
}
