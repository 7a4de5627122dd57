//! `--reuse`: texts of an earlier output take their vectors from there, bit for bit, and are not embedded.

use std::collections::BTreeMap;
use std::path::Path;

use dataset::Manifest;
use serde_json::Value;

use crate::harness::corpora::{self, sentences};
use crate::harness::output::{Row, rows};
use crate::harness::{Ran, TestEnv, files_below, run_words, wait_for};

const SHARDS: &[&str] = &["--shard-rows", "70", "--json"];

/// The bits of a row's vector, and what comes with it.
type Known = (Option<Vec<u32>>, i32, bool);

fn known(row: &Row) -> Known {
    let bits = row.embedding.as_ref().map(|vector| vector.iter().map(|value| value.to_bits()).collect());
    (bits, row.n_tokens, row.truncated)
}

fn by_text(out: &Path) -> BTreeMap<String, Known> {
    let rows = rows(out);
    let with_vector = rows.iter().filter(|row| row.error.is_none());
    with_vector.map(|row| (row.kept["text"].clone().unwrap(), known(row))).collect()
}

fn counts(ran: &Ran) -> [u64; 3] {
    let json = ran.json();
    let rejected: u64 = json["rejected"].as_object().unwrap().values().map(|rows| rows.as_u64().unwrap()).sum();
    let [embedded, reused] = ["embedded", "reused"].map(|name| json[name].as_u64().unwrap());
    assert_eq!(json["rows"], embedded + reused + rejected);
    [embedded, reused, rejected]
}

/// An earlier output `old` of a csv with 200 texts, some of which are empty.
fn with_earlier(more: &[&str]) -> TestEnv {
    let env = TestEnv::new();
    let mut texts = sentences(200);
    texts[17].clear();
    texts[90] = "  ".to_owned();
    env.write("old.csv", corpora::csv(&texts));
    env.run_ok("old.csv", "old", &[&["--shard-rows", "60"], more].concat());
    env
}

#[test]
fn texts_of_an_earlier_output_are_not_embedded_again_whatever_else_changes() {
    let env = with_earlier(&[]);
    let old = by_text(&env.path("old"));
    // In reverse, without every tenth, with new ones, repeats of old and new ones, and a rejected one.
    let mut texts: Vec<String> = corpora::csv_texts(&sentences(200)).into_iter().rev().collect();
    let mut at = 0;
    texts.retain(|text| {
        at += 1;
        at % 10 != 0 && old.contains_key(text)
    });
    let of_old = texts.len() as u64;
    let new: Vec<String> = (0..5).map(|number| format!("a text that is new: {number}")).collect();
    texts.splice(50..50, new.iter().cloned());
    texts.extend([texts[3].clone(), new[0].clone(), String::new()]);
    env.write("new.jsonl", corpora::jsonl(&texts));
    corpora::write_parquet(&env.path("new.parquet"), &texts);
    env.run_ok("new.jsonl", "fresh", SHARDS);
    let fresh = by_text(&env.path("fresh"));
    for (corpus, out, more) in [
        ("new.jsonl", "a", &["--reuse", "old"][..]),
        ("new.parquet", "b.parquet", &["--reuse", "old", "--keep", "text", "--id-column", "id"]),
        ("new.jsonl", "c", &["--reuse", "fresh", "old", "--keep", "none"]),
    ] {
        let ran = env.run_ok(corpus, out, &[SHARDS, more].concat());
        // Both repeats of texts that are known are reused; that of a new one is computed with it.
        let expected = if out == "c" { [0, of_old + 7, 1] } else { [6, of_old + 1, 1] };
        assert_eq!(counts(&ran), expected, "{out}");
        env.encaje(["verify", out, "--corpus", corpus]).expect_code(0);
        let found = rows(&env.path(out));
        assert_eq!(found.len(), texts.len());
        for (row, text) in found.iter().zip(&texts) {
            let expected = old.get(text).or_else(|| fresh.get(text));
            assert_eq!(Some(&known(row)), expected.or(Some(&(None, 0, false))), "{out}: {text}");
        }
        let again = env.run_ok(corpus, out, &[SHARDS, more].concat());
        assert_eq!((counts(&again), &again.json()["was_done"]), (expected, &Value::from(true)), "{out}");
    }
    // Rows do not say where their vectors are from: only whole files count them.
    env.encaje(["merge", "c", "--out", "cut", "--partition-rows", "50"]).expect_code(0);
    env.encaje(["verify", "cut", "--corpus", "new.jsonl"]).expect_code(0);
    let manifest = Manifest::load(&env.path("c")).unwrap();
    let digest = |out: &str| Manifest::load(&env.path(out)).unwrap().digest();
    let listed: Vec<&str> = manifest.reuse.iter().map(|source| source.blake3.as_str()).collect();
    assert_eq!(listed, [digest("fresh"), digest("old")], "in the order given");
    assert_eq!(manifest.totals.reused, of_old + 7);
    for (out, given) in [("a", &["--reuse"][..]), ("a", &["--reuse", "old"]), ("b.parquet", &["--reuse"])] {
        let report = env.encaje([&["verify", out, "--json"], given].concat()).json();
        assert_eq!((&report["passed"], &report["reused_compared"]), (&true.into(), &(of_old + 1).into()), "{report}");
    }
    let ran = env.encaje(["verify", "a", "--reuse", "fresh"]);
    ran.expect_code(1);
    ran.expect_said(&["none of the earlier outputs that `a` lists", "hint: if one was moved"]);
    let ran = env.encaje(["verify", "c", "--reuse"]);
    ran.expect_code(1);
    ran.expect_said(&["does not have its texts"]);
    let status = env.encaje(["status", "c", "--json"]).json();
    assert_eq!(status["reused"], of_old + 7);
}

#[test]
fn every_output_type_is_reused_bit_for_bit_from_merged_files_too() {
    for dtype in ["f32", "f16", "int8", "binary"] {
        let env = with_earlier(&["--output-dtype", dtype, "--no-normalize", "--text-column", "text"]);
        env.encaje(["merge", "old", "--out", "old.parquet"]).expect_code(0);
        let old = by_text(&env.path("old"));
        let more = ["--output-dtype", dtype, "--no-normalize", "--reuse", "old.parquet"];
        let ran = env.run_ok("old.csv", "new", &[SHARDS, &more].concat());
        assert_eq!(counts(&ran), [0, 198, 2], "{dtype}");
        assert_eq!(by_text(&env.path("new")), old, "{dtype}");
    }
}

#[test]
fn an_earlier_output_of_other_options_is_refused_by_the_option_before_any_work() {
    let env = with_earlier(&[]);
    let model = crate::harness::testdata("bertin").display().to_string();
    for (words, said) in [
        (&["--pooling", "max"][..], "--pooling was `cls`, is `max`"),
        (&["--no-normalize"], "--no-normalize was `false`, is `true`"),
        (&["--max-length", "9"], "--max-length was"),
        (&["--prefix", "query: "], "--prefix (or the text of --prompt) was ``, is `query: `"),
        (&["--dtype", "bf16"], "--dtype was `f32`, is `bf16`"),
        (&["--output-dtype", "f16"], "--output-dtype was `f32`, is `f16`"),
        (&["--dimensions", "8"], "--dimensions was `32`, is `8`"),
    ] {
        let ran = env.encaje(run_words("old.csv", "new", &[words, &["--reuse", "old"]].concat()));
        ran.expect_code(2);
        ran.expect_said(&["--reuse old", said, "leave --reuse out"]);
    }
    let ran = env.encaje(["run", "old.csv", "--model", &model, "--out", "new", "--reuse", "old"]);
    ran.expect_code(2);
    ran.expect_said(&["--reuse old", "--model was"]);
    assert!(!env.path("new").exists());
    let swallowed = env.encaje(["run", "--model", &model, "--out", "new", "--reuse", "old", "old.csv"]);
    swallowed.expect_code(2);
    swallowed.expect_said(&["<CORPUS>", "--reuse takes every word up to the next option"]);
    // What does not change a vector is no reason.
    let ran = env.run_ok("old.csv", "new", &["--reuse", "old", "--batch-tokens", "64", "--json"]);
    assert_eq!(counts(&ran), [0, 198, 2]);
}

#[test]
fn an_earlier_output_without_its_texts_or_unfinished_is_refused() {
    let env = with_earlier(&["--keep", "label"]);
    let reuse = |earlier: &str| env.encaje(run_words("old.csv", "new", &["--reuse", earlier]));
    let ran = reuse("old");
    ran.expect_code(2);
    ran.expect_said(&["does not have its texts", "`text`", "(label)", "--keep all"]);
    std::fs::remove_file(env.path("old/manifest.json")).unwrap();
    let ran = reuse("old");
    ran.expect_code(2);
    ran.expect_said(&["--reuse old", "no `manifest.json`"]);
    let ran = reuse("nowhere");
    ran.expect_code(2);
    ran.expect_said(&["--reuse nowhere"]);
    assert!(!env.path("new").exists());
}

#[test]
fn an_earlier_output_that_kept_another_column_than_its_texts_is_refused() {
    let env = TestEnv::new();
    env.write("two.csv", "text,frase\nuno,hola mundo\ndos,adiós mundo\n");
    env.run_ok("two.csv", "of-frase", &["--text-column", "frase", "--keep", "text"]);
    let ran = env.encaje(run_words("two.csv", "out", &["--reuse", "of-frase"]));
    ran.expect_code(2);
    ran.expect_said(&["`frase`"]);
    assert!(!env.path("out/manifest.json").exists());
}

#[test]
fn the_column_of_the_texts_is_the_one_of_the_earlier_output() {
    let env = TestEnv::new();
    let texts = sentences(30);
    env.write("old.csv", corpora::csv(&texts).replacen("id,text,label", "text,frase,label", 1));
    env.run_ok("old.csv", "old", &["--text-column", "frase"]);
    env.write("new.csv", corpora::csv(&texts));
    let ran = env.run_ok("new.csv", "new", &["--reuse", "old", "--json"]);
    assert_eq!(counts(&ran), [0, 30, 0]);
}

#[test]
fn a_damaged_part_of_an_earlier_output_fails_the_run_which_goes_on_without() {
    let env = with_earlier(&[]);
    let part = env.path("old/part-00002.parquet");
    let mut bytes = std::fs::read(&part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let ran = env.encaje(run_words("old.csv", "new", &[SHARDS, &["--reuse", "old"]].concat()));
    ran.expect_code(1);
    ran.expect_said(&["--reuse", "part-00002.parquet` is damaged"]);
    let ran = env.run_ok("old.csv", "new", SHARDS);
    assert_eq!(counts(&ran), [198, 0, 2]);
    env.encaje(["verify", "new", "--corpus", "old.csv"]).expect_code(0);
}

#[test]
fn a_killed_run_resumes_with_and_without_the_earlier_output() {
    let env = TestEnv::new();
    let texts = sentences(3_000);
    env.write("old.csv", corpora::csv(&texts[..1_500]));
    env.run_ok("old.csv", "old", &[]);
    env.write("new.csv", corpora::csv(&texts));
    let shards = ["--shard-rows", "20", "--json"];
    let (with, without) = ([&shards[..], &["--reuse", "old"]].concat(), shards.to_vec());
    let finished = |path: &Path| path.extension().is_some_and(|extension| extension == "parquet");
    for (count, words) in [(2, &with), (20, &with), (40, &without), (60, &with)] {
        let mut child = env.start(run_words("new.csv", "out", words));
        wait_for("shards", || {
            let done = files_below(&env.path("out/.encaje/jobs"), &finished).len() >= count;
            (done || child.try_wait().unwrap().is_some()).then_some(())
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }
    std::fs::rename(env.path("old"), env.path("moved")).unwrap();
    let ran = env.run_ok("new.csv", "out", &without);
    let [embedded, reused, rejected] = counts(&ran);
    assert_eq!((embedded + reused, rejected), (3_000, 0));
    assert!((20..=1_500).contains(&reused), "{reused}");
    env.encaje(["verify", "out", "--corpus", "new.csv"]).expect_code(0);
    let manifest = Manifest::load(&env.path("out")).unwrap();
    assert!(manifest.reuse[0].uri.ends_with("/old"), "it is still named");
    let (old, new) = (by_text(&env.path("moved")), by_text(&env.path("out")));
    assert!(old.iter().all(|(text, known)| new[text] == *known));
}
