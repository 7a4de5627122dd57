//! Files as they come: each either works or is refused with a message that names file and row, and none costs another
//! row.

use crate::harness::corpora::{self, sentences};
use crate::harness::output::{Row, rows};
use crate::harness::{Ran, TestEnv, run_words};

/// Runs a corpus that must work, checks the output against it, and returns the rows.
fn embed(env: &TestEnv, corpus: &str, more: &[&str]) -> Vec<Row> {
    env.run_ok(corpus, "out", more);
    env.encaje(["verify", "out", "--corpus", corpus]).expect_code(0);
    rows(&env.path("out"))
}

/// Runs a corpus that must be refused.
fn refuse(env: &TestEnv, corpus: &str, said: &[&str]) -> Ran {
    let ran = env.encaje(run_words(corpus, "out", &[]));
    assert!(matches!(ran.code, Some(1 | 2)), "{ran:?}");
    assert_eq!(ran.stdout, "", "a refusal prints no data");
    ran.expect_said(said);
    ran
}

fn texts(rows: &[Row]) -> Vec<Option<&str>> {
    rows.iter().map(|row| row.kept["text"].as_deref()).collect()
}

fn errors(rows: &[Row]) -> Vec<Option<&str>> {
    rows.iter().map(|row| row.error.as_deref()).collect()
}

#[test]
fn quoted_newlines_crlf_and_a_missing_final_newline_are_csv() {
    let env = TestEnv::new();
    env.write("a.csv", "id,text\r\n1,\"uno\r\ndos, \"\"tres\"\"\"\r\n2,cuatro");
    assert_eq!(texts(&embed(&env, "a.csv", &[])), [Some("uno\r\ndos, \"tres\""), Some("cuatro")]);
}

#[test]
fn a_byte_order_mark_is_not_part_of_the_first_column_name() {
    let env = TestEnv::new();
    env.write("a.csv", "\u{feff}text,id\nhola,1\n");
    assert_eq!(texts(&embed(&env, "a.csv", &[])), [Some("hola")]);
}

#[test]
fn a_byte_order_mark_is_not_part_of_the_first_line() {
    let env = TestEnv::new();
    env.write("a.txt", "\u{feff}hola\r\nadiós\r\n");
    assert_eq!(texts(&embed(&env, "a.txt", &[])), [Some("hola"), Some("adiós")]);
}

#[test]
fn bad_rows_get_a_reason_and_their_neighbours_a_vector() {
    let env = TestEnv::new();
    let mut csv = b"id,text\n0,hola\n1,\n2,   \n3,caf\xe9\n4,".to_vec();
    csv.extend(b"x,y,z\n5,adi\xc3\xb3s\n");
    env.write("a.csv", csv);
    let ran = env.run_ok("a.csv", "out", &["--json"]);
    let found = rows(&env.path("out"));
    assert_eq!(found.len(), 6);
    assert!(found[0].embedding.is_some() && found[5].embedding.is_some());
    assert!(found[1..5].iter().all(|row| row.embedding.is_none() && row.error.is_some()));
    assert_eq!(errors(&found)[2..], [Some("empty_text"), Some("invalid_utf8"), Some("malformed_record"), None]);
    assert_eq!((&ran.json()["embedded"], &ran.json()["rejected"]["invalid_utf8"]), (&2.into(), &1.into()));
    ran.expect_said(&["4 rows rejected", "1 invalid_utf8", "`error`"]);
    env.encaje(["verify", "out", "--corpus", "a.csv"]).expect_code(0);
}

#[test]
fn json_lines_reject_alone() {
    let env = TestEnv::new();
    env.write(
        "a.jsonl",
        "{\"text\":\"hola\"}\n{\"text\":null}\n{\"id\":3}\n{\"text\":\n{\"text\":5}\n{\"text\":\"fin\"}",
    );
    let found = embed(&env, "a.jsonl", &["--keep", "none"]);
    let expected = [None, Some("null_text"), Some("null_text"), Some("malformed_record"), Some("not_a_string"), None];
    assert_eq!(errors(&found), expected);
}

#[test]
fn a_ten_megabyte_text_is_truncated_not_refused() {
    let env = TestEnv::new();
    let long = "la playa ".repeat(10 << 20 >> 3);
    env.write("a.jsonl", corpora::jsonl(&[long, "hola".to_owned()]));
    let found = embed(&env, "a.jsonl", &["--keep", "none"]);
    assert!(found[0].truncated && found[0].embedding.is_some());
    assert!(!found[1].truncated && found[1].embedding.is_some());
}

#[test]
fn a_header_without_the_text_column_names_the_columns_that_are_there() {
    let env = TestEnv::new();
    env.write("a.csv", "id,body\n1,hola\n");
    refuse(&env, "a.csv", &["a.csv", "`text`", "body", "--text-column"]);
    assert!(!env.path("out").exists(), "nothing was begun");
    env.run_ok("a.csv", "out", &["--text-column", "body"]);
}

#[test]
fn a_column_with_one_of_our_names_is_refused_before_any_work() {
    let env = TestEnv::new();
    env.write("a.csv", "text,embedding\nhola,1\n");
    refuse(&env, "a.csv", &["a.csv", "`embedding`", "--keep"]);
    env.run_ok("a.csv", "out", &["--keep", "text"]);
}

#[test]
fn an_empty_file_and_a_missing_file_are_named() {
    let env = TestEnv::new();
    env.write("a.csv", "");
    refuse(&env, "a.csv", &["a.csv", "empty"]);
    refuse(&env, "nothing-*.csv", &["nothing-*.csv"]);
    refuse(&env, "nothing.csv", &["nothing.csv"]);
    env.write("a.doc", "hola");
    refuse(&env, "a.doc", &["a.doc", "--format"]);
}

#[test]
fn no_rows_are_a_valid_empty_output() {
    let env = TestEnv::new();
    env.write("a.csv", "id,text\n");
    let found = embed(&env, "a.csv", &[]);
    assert_eq!(found, []);
    let set = dataset::VectorSet::open(&env.path("out")).unwrap();
    assert_eq!(set.files(), 1, "a reader of *.parquet finds the columns");
    assert_eq!(set.kept_schema().fields().len(), 2);
    env.write("b.txt", "");
    env.run_ok("b.txt", "one.parquet", &[]);
    assert_eq!(rows(&env.path("one.parquet")), []);
}

#[test]
fn a_truncated_gzip_fails_the_job_and_names_the_file() {
    let env = TestEnv::new();
    let gzip = corpora::gzip(corpora::csv(&sentences(2_000)).as_bytes());
    env.write("a.csv.gz", &gzip[..gzip.len() - 100]);
    refuse(&env, "a.csv.gz", &["the job failed", "a.csv.gz", "after row", "cut off"]);
    assert!(!env.path("out/manifest.json").exists());

    env.write("a.csv.gz", &gzip);
    let ran = env.run_ok("a.csv.gz", "out", &["--json"]);
    ran.expect_said(&["has changed", "had made nothing yet"]);
    assert_eq!(ran.json()["embedded"], 2_000);
}

#[test]
fn sources_whose_columns_conflict_are_both_named() {
    let env = TestEnv::new();
    corpora::write_parquet(&env.path("a.parquet"), &sentences(3));
    env.write("b.csv", corpora::csv(&sentences(3)));
    let model = crate::harness::model();
    let ran = env.encaje(["run", "a.parquet", "b.csv", "--model", model.to_str().unwrap(), "--out", "out"]);
    ran.expect_code(1);
    ran.expect_said(&["a.parquet", "b.csv", "`id`", "--keep"]);
}

#[test]
fn strict_tells_a_script_about_rejects() {
    let env = TestEnv::new();
    env.write("a.csv", "text,id\nhola,1\n,2\n");
    let ran = env.encaje(run_words("a.csv", "out", &["--strict"]));
    ran.expect_code(3);
    let again = env.encaje(run_words("a.csv", "out", &["--strict"]));
    again.expect_code(3);
    env.run_ok("a.csv", "out", &[]);
}

#[test]
fn a_bad_row_can_fail_the_job_and_is_named() {
    let env = TestEnv::new();
    env.write("a.csv", "id,text\n1,hola\n2,\n3,adiós\n");
    let ran = env.encaje(run_words("a.csv", "out", &["--on-bad-row", "fail"]));
    ran.expect_code(1);
    ran.expect_said(&["row 1", "the job failed"]);
    assert!(!env.path("out/manifest.json").exists());
    let again = env.encaje(run_words("a.csv", "out", &["--on-bad-row", "fail"]));
    again.expect_code(1);
    again.expect_said(&["row 1"]);
}

#[test]
fn too_many_rejects_fail_the_job() {
    let env = TestEnv::new();
    env.write("a.csv", "id,text\n1,hola\n2,\n3,\n4,x\n");
    for (limit, code) in [("2", 0), ("1", 1), ("50%", 0), ("49%", 1)] {
        let out = format!("out-{}", limit.replace('%', "p"));
        let ran = env.encaje(run_words("a.csv", &out, &["--max-rejects", limit]));
        ran.expect_code(code);
        if code == 1 {
            ran.expect_said(&["the job failed", "--max-rejects"]);
        }
    }
}
