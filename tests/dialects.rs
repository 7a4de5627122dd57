//! Corpora that are not files of UTF-8 and commas: other dialects from command line to `verify`, stdin and pipes.
#![cfg(unix)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::harness::corpora::{self, sentences};
use crate::harness::daemon::{coordinator, worker};
use crate::harness::output::{Row, assert_same, rows};
use crate::harness::{Ran, TestEnv, run_words, wait_for};

/// "año;niño" and so on as a spreadsheet in Spanish writes it: semicolons, Windows-1252.
fn spanish_csv() -> Vec<u8> {
    let text = "id;text\r\n1;el año pasado\r\n2;\"mañana; o pasado\"\r\n3;¿qué niño?\r\n4;hola\r\n";
    text.chars().map(|character| u8::try_from(character).unwrap()).collect()
}

fn texts(rows: &[Row]) -> Vec<Option<&str>> {
    rows.iter().map(|row| row.kept["text"].as_deref()).collect()
}

/// Runs the program with these bytes on its stdin.
fn piped(env: &TestEnv, words: &[String], input: &[u8]) -> Ran {
    let mut child: Child = env.command(words).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A refusal before stdin is read breaks the pipe, which is for the caller to see in what is said.
    stdin.write_all(input).ok();
    drop(stdin);
    Ran::of(child.wait_with_output().unwrap())
}

#[test]
fn a_csv_from_a_spanish_spreadsheet_takes_the_two_options_that_are_named() {
    let env = TestEnv::new();
    env.write("a.csv", spanish_csv());
    let refused = env.encaje(run_words("a.csv", "out", &[]));
    refused.expect_code(1);
    refused.expect_said(&["add --delimiter ';'"]);
    let refused = env.encaje(run_words("a.csv", "out", &["--delimiter", ";"]));
    refused.expect_code(1);
    refused.expect_said(&["3 of its first 4 rows", "add --encoding windows-1252"]);
    assert!(!env.path("out").exists(), "a refusal leaves nothing");

    let options = ["--delimiter", ";", "--encoding", "latin1", "--shard-rows", "2"];
    env.run_ok("a.csv", "out", &options);
    let found = rows(&env.path("out"));
    let expected = ["el año pasado", "mañana; o pasado", "¿qué niño?", "hola"];
    assert_eq!(texts(&found), expected.map(Some));
    assert!(found.iter().all(|row| row.embedding.is_some()));
    let manifest = std::fs::read(env.path("out/manifest.json")).unwrap();
    let info = &serde_json::from_slice::<serde_json::Value>(&manifest).unwrap()["info"];
    assert_eq!((&info["delimiter"], &info["encoding"]), (&";".into(), &"windows-1252".into()));
    // Of a merged file, `verify` has to be told how its corpus is read.
    env.encaje(["verify", "out", "--corpus", "a.csv"]).expect_code(0);
    env.run_ok("a.csv", "one.parquet", &options);
    let said = env.encaje(["verify", "one.parquet", "--corpus", "a.csv"]);
    said.expect_said(&["add --delimiter ';'"]);
    let more = ["--delimiter", ";", "--encoding", "windows-1252"];
    env.encaje([&["verify", "one.parquet", "--corpus", "a.csv"][..], &more].concat()).expect_code(0);
    // Another dialect is another job.
    let other = env.encaje(run_words("a.csv", "out", &["--delimiter", ";", "--encoding", "utf-16le"]));
    assert!(matches!(other.code, Some(1 | 2)), "{other:?}");
    let other = env.encaje(run_words("a.csv", "out", &[&options[..], &["--quote", "none"]].concat()));
    other.expect_code(2);
    other.expect_said(&["--quote: was not given, is `none`"]);
    let again = env.run_ok("a.csv", "out", &options);
    again.expect_said(&["is done already"]);
}

#[test]
fn stray_quotes_that_join_rows_are_said_on_stderr() {
    let env = TestEnv::new();
    env.write("a.csv", "text\nuno dos\n\"hola que tal\ntres\ncuatro\n\"adios\nseis\n");
    let ran = env.run_ok("a.csv", "out", &["--quiet"]);
    ran.expect_said(&["warning", "a.csv", "row 1", "4 lines", "--quote none"]);
    assert_eq!(rows(&env.path("out")).len(), 3);
    let ran = env.run_ok("a.csv", "lines", &["--quote", "none", "--quiet"]);
    assert_eq!(ran.stderr, "");
    let lines = ["uno dos", "\"hola que tal", "tres", "cuatro", "\"adios", "seis"];
    assert_eq!(texts(&rows(&env.path("lines"))), lines.map(Some));
    env.encaje(["verify", "lines", "--corpus", "a.csv"]).expect_code(0);
}

#[test]
fn dialects_may_come_from_the_environment_and_the_file() {
    let env = TestEnv::new();
    env.write("a.csv", spanish_csv());
    env.write("encaje.toml", "delimiter = \";\"\n");
    let mut command = env.command(run_words("a.csv", "out", &[]));
    Ran::of(command.env("ENCAJE_ENCODING", "windows-1252").output().unwrap()).expect_code(0);
    assert_eq!(rows(&env.path("out")).len(), 4);
    for (option, value) in [("--delimiter", "ab"), ("--delimiter", "ñ"), ("--quote", "''"), ("--encoding", "utf-99")] {
        env.encaje(run_words("a.csv", "x", &[option, value])).expect_code(2);
    }
}

#[test]
fn stdin_and_pipes_are_read_as_files_are() {
    let env = TestEnv::new();
    let csv = corpora::csv(&sentences(100));
    env.write("a.csv", &csv);
    env.run_ok("a.csv", "file", &["--shard-rows", "16"]);
    let expected = rows(&env.path("file"));
    let more = ["--format", "csv", "--shard-rows", "16"];
    let gzipped = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(csv.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    for (name, out, bytes) in
        [("-", "dash", csv.as_bytes()), ("/dev/stdin", "device", csv.as_bytes()), ("-", "gz.parquet", &gzipped)]
    {
        let ran = piped(&env, &run_words(name, out, &more), bytes);
        ran.expect_code(0);
        assert_same(&rows(&env.path(out)), &expected);
        let verify = ["verify", out, "--corpus", name, "--format", "csv"].map(str::to_owned);
        piped(&env, &verify, bytes).expect_code(0);
    }
    // A named pipe tells its format by its name.
    assert!(std::process::Command::new("mkfifo").arg(env.path("pipe.csv")).status().unwrap().success());
    let (path, bytes) = (env.path("pipe.csv"), csv.clone());
    let writer = std::thread::spawn(move || std::fs::write(path, bytes).unwrap());
    env.run_ok("pipe.csv", "pipe", &["--shard-rows", "16"]);
    writer.join().unwrap();
    assert_same(&rows(&env.path("pipe")), &expected);
    // And so does what a shell puts in the place of `<(…)`.
    let command = "\"$0\" run <(cat a.csv) --format csv --model \"$1\" --out shell --shard-rows 16";
    let mut shell = env.command(["-c"]);
    shell = {
        let mut bash = std::process::Command::new("bash");
        bash.args(["-c", command]).arg(shell.get_program()).arg(crate::harness::model());
        bash.current_dir(env.path(""));
        bash
    };
    Ran::of(shell.output().unwrap()).expect_code(0);
    assert_same(&rows(&env.path("shell")), &expected);
}

#[test]
fn stdin_again_must_be_the_same() {
    let env = TestEnv::new();
    let csv = corpora::csv(&sentences(40));
    let words = run_words("-", "out", &["--format", "csv"]);
    piped(&env, &words, csv.as_bytes()).expect_code(0);
    let expected = rows(&env.path("out"));
    piped(&env, &words, csv.as_bytes()).expect_said(&["is done already"]);
    let input = || std::fs::read_dir(env.path("out/.encaje/input")).unwrap().count();
    assert_eq!(input(), 1);
    let other = piped(&env, &words, corpora::csv(&sentences(41)).as_bytes());
    other.expect_code(2);
    other.expect_said(&["the corpus", "the same bytes as before"]);
    assert_eq!(input(), 1, "what was refused is not kept");
    assert_same(&rows(&env.path("out")), &expected);
    // What cannot be read is said before stdin is, and nothing is made.
    let refused = piped(&env, &run_words("-", "new", &[]), csv.as_bytes());
    refused.expect_code(2);
    refused.expect_said(&["`-`", "--format"]);
    let empty = piped(&env, &run_words("-", "new", &["--format", "csv"]), b"");
    empty.expect_code(1);
    empty.expect_said(&["is empty: the first line must name the columns"]);
    assert!(!env.path("new/.encaje").exists());
}

#[test]
fn a_stream_that_was_interrupted_goes_on_where_it_was() {
    let env = TestEnv::new();
    let csv = corpora::csv(&sentences(2000));
    env.write("a.csv", &csv);
    env.run_ok("a.csv", "file", &["--shard-rows", "16"]);
    let words = run_words("-", "out", &["--format", "csv", "--shard-rows", "16"]);
    let mut child = env.command(&words).stdin(std::fs::File::open(env.path("a.csv")).unwrap()).spawn().unwrap();
    wait_for("a shard", || has_shard(&env.path("out/.encaje/jobs")).then_some(()));
    child.kill().unwrap();
    // No wait in between: the lock may be held for a moment longer.
    let ran = piped(&env, &words, csv.as_bytes());
    ran.expect_code(0);
    child.wait().unwrap();
    assert_same(&rows(&env.path("out")), &rows(&env.path("file")));
}

fn has_shard(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().map(|entry| entry.path()).any(|path| {
        if path.is_dir() { has_shard(&path) } else { path.extension().is_some_and(|extension| extension == "parquet") }
    })
}

#[test]
fn a_cluster_reads_streams_and_dialects() {
    let env = TestEnv::new();
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &[]);
    let _worker = worker(&env, "w", &url, &[]);
    let model = crate::harness::model().display().to_string();
    let submit = |corpus: &str| -> Vec<String> {
        let words = ["submit", corpus, "--model", &model, "--coordinator", &url, "--format", "csv"];
        let more = ["--delimiter", ";", "--encoding", "windows-1252", "--wait"];
        words.iter().chain(&more).map(|word| (*word).to_owned()).collect()
    };
    env.write("a.csv", spanish_csv());
    let from_file = env.encaje(submit("a.csv"));
    from_file.expect_code(0);
    let from_stdin = piped(&env, &submit("-"), &spanish_csv());
    from_stdin.expect_code(0);
    // The same bytes again are the same job.
    assert_eq!(piped(&env, &submit("-"), &spanish_csv()).stdout, from_stdin.stdout);
    for (ran, out) in [(from_file, "file"), (from_stdin, "stdin")] {
        let job = ran.stdout.trim();
        env.encaje(["download", job, "--out", out, "--coordinator", &url]).expect_code(0);
        let more = ["--delimiter", ";", "--encoding", "windows-1252"];
        env.encaje([&["verify", out, "--corpus", "a.csv"][..], &more].concat()).expect_code(0);
        let found = rows(&env.path(out));
        assert_eq!(texts(&found)[1], Some("mañana; o pasado"));
    }
}

#[test]
fn jsonl_keeps_what_its_sample_did_not_show() {
    let env = TestEnv::new();
    let mut jsonl = String::new();
    let filler = "x".repeat(2000);
    for row in 0..2000 {
        let (id, more) = match row {
            // Between the places of the sample, which are 128 KiB each and 209 KiB apart.
            600 => ("\"seis\"".to_owned(), ",\"nuevo\":{\"a\": NaN}"),
            _ => (row.to_string(), ""),
        };
        jsonl.push_str(&format!("{{\"id\":{id},\"text\":\"frase {row}\",\"filler\":\"{filler}\"{more}}}\n"));
    }
    env.write("a.jsonl", jsonl);
    env.run_ok("a.jsonl", "out", &[]);
    let found = rows(&env.path("out"));
    assert!(found.iter().all(|row| row.embedding.is_some()));
    assert_eq!(found[600].kept["extra"].as_deref(), Some("{\"nuevo\":{\"a\": NaN},\"id\":\"seis\"}"));
    assert!(found.iter().filter(|row| row.kept["extra"].is_some()).count() == 1);
    env.encaje(["verify", "out", "--corpus", "a.jsonl"]).expect_code(0);
}

#[test]
fn corpora_that_are_no_files_are_named_in_one_sentence() {
    let env = TestEnv::new();
    std::fs::create_dir_all(env.path("folder.csv")).unwrap();
    env.write("header.csv", "text\n");
    env.write("no-end.csv", "text\nhola");
    for (corpus, said) in [
        ("folder.csv", "is a folder"),
        ("gone.csv", "does not exist"),
        ("header.csv/a.csv", "header.csv/a.csv"),
        ("/dev/null", "is empty: the first line must name the columns"),
    ] {
        let ran = env.encaje(run_words(corpus, "out", &["--format", "csv"]));
        assert!(matches!(ran.code, Some(1 | 2)), "{ran:?}");
        ran.expect_said(&[said]);
        for bad in ["Generic", "LocalFileSystem", "damaged"] {
            assert!(!ran.stderr.contains(bad), "{}", ran.stderr);
        }
    }
    env.run_ok("header.csv", "header", &[]);
    assert_eq!(rows(&env.path("header")).len(), 0);
    env.run_ok("no-end.csv", "no-end", &[]);
    assert_eq!(texts(&rows(&env.path("no-end"))), [Some("hola")]);
}
