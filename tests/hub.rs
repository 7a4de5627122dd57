//! A data set of the Hub as a corpus: run, resume, verify, submit; and the messages when it goes wrong.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use testkit::hub::{HubFault, HubServer};

use crate::harness::corpora::{self, sentences};
use crate::harness::daemon::Daemon;
use crate::harness::output::rows;
use crate::harness::{Ran, TestEnv, files_below, model, run_words, wait_for};

const REPO: &str = "ana/tweets";
const URL: &str = "hf://datasets/ana/tweets";
const TOKEN: &str = "hf_canary_0123456789abcdef";
const SHARDS: [&str; 3] = ["--shard-rows", "20", "--json"];

/// Runs the program with what it needs to reach the Hub.
fn encaje<S: AsRef<std::ffi::OsStr>>(env: &TestEnv, hub: &HubServer, words: impl IntoIterator<Item = S>) -> Ran {
    Ran::of(env.command(words).envs(hub.environment()).env("HF_TOKEN", TOKEN).output().unwrap())
}

/// A Parquet file with these texts and a wide column beside them.
fn parquet_file(texts: &[String]) -> Vec<u8> {
    let mut noise = 7u64;
    let mut wide = |_: &String| {
        let words = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("{noise:016x}")
        });
        words.take(200).collect::<String>()
    };
    let wide: Vec<String> = texts.iter().map(&mut wide).collect();
    let column = |values: &[String]| Arc::new(StringArray::from_iter_values(values)) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("wide", column(&wide)), ("text", column(texts))]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn a_data_set_gives_the_rows_of_the_same_files_on_disk() {
    let (env, hub) = (TestEnv::new(), HubServer::start());
    let texts = sentences(90);
    let (front, back) = texts.split_at(40);
    let files = [
        ("data/test.csv", corpora::csv(front).into_bytes()),
        ("data/train.csv.gz", corpora::gzip(corpora::csv(back).as_bytes())),
    ];
    for (name, content) in &files {
        env.write(name, content);
    }
    hub.commit(REPO, "main", &files.each_ref().map(|(name, content)| (*name, content.as_slice())));
    hub.commit(REPO, "main", &[("README.md", b"# Tweets"), ("labels.csv", b"label\nx\n")]);
    hub.require_token(TOKEN);
    // A network as it is.
    hub.fail("HEAD", "data/test.csv", HubFault::Answer(429, "Retry-After: 1\r\n"), 1);
    hub.fail("GET", "/content/", HubFault::CutAfter(700), 2);
    hub.fail("GET", "/tree/", HubFault::Answer(503, ""), 1);
    let ran = encaje(&env, &hub, run_words(URL, "out", &SHARDS));
    ran.expect_code(0);
    ran.expect_said(&["data/test.csv", "data/train.csv.gz", "at commit", "(main)", "left out: `labels.csv`"]);
    assert_eq!(ran.json()["embedded"], 90);
    env.run_ok("data/*.csv*", "disk-out", &SHARDS);
    assert!(rows(&env.path("out")) == rows(&env.path("disk-out")));
    let verified = encaje(&env, &hub, ["verify", "out", "--corpus", URL]);
    verified.expect_code(0);
    // The token went to the Hub alone, and nothing that was written or said has it, or a signature.
    assert!(!hub.has_leaked());
    for said in [&ran, &verified] {
        assert!(!said.stdout.contains("canary") && !said.stderr.contains("canary"));
    }
    for file in files_below(&env.path("out"), &|_| true) {
        let content = std::fs::read(&file).unwrap();
        assert!(!content.windows(6).any(|window| window == b"canary"), "{}", file.display());
    }
}

#[test]
fn an_output_is_finished_and_verified_with_the_commit_that_it_was_begun_with() {
    let (env, hub) = (TestEnv::new(), HubServer::start());
    let commit = hub.commit(REPO, "main", &[("a.csv", corpora::csv(&sentences(2_000)).as_bytes())]);
    let hub_url = format!("{URL}@main/*.csv");
    for (pattern, out) in [(URL, "out"), (&hub_url, "named")] {
        let words = run_words(pattern, out, &SHARDS);
        let mut child = env.command(&words).envs(hub.environment()).spawn().unwrap();
        let jobs = env.path(out).join(".encaje/jobs");
        wait_for("shards", || (files_below(&jobs, &|_| true).len() >= 3).then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!env.path(out).join("manifest.json").exists());
    }
    hub.commit(REPO, "main", &[("a.csv", corpora::csv(&sentences(7)).as_bytes())]);
    env.write("a.csv", corpora::csv(&sentences(2_000)));
    env.run_ok("a.csv", "disk-out", &SHARDS);
    for (pattern, out) in [(URL, "out"), (&hub_url, "named")] {
        let ran = encaje(&env, &hub, run_words(pattern, out, &SHARDS));
        ran.expect_code(0);
        ran.expect_said(&[&commit, "with which this output was begun"]);
        assert!(rows(&env.path(out)) == rows(&env.path("disk-out")));
        encaje(&env, &hub, ["verify", out, "--corpus", pattern]).expect_code(0);
        let again = encaje(&env, &hub, run_words(pattern, out, &SHARDS));
        again.expect_code(0);
        again.expect_said(&["nothing to do"]);
    }
    let manifest = std::fs::read_to_string(env.path("out/manifest.json")).unwrap();
    assert!(manifest.contains(&format!("{URL}@{commit}/a.csv")));
    // Another commit, asked for by name, is another corpus.
    let now = hub.commit(REPO, "main", &[("b.txt", b"x")]);
    let other = encaje(&env, &hub, run_words(&format!("{URL}@{now}/a.csv"), "out", &SHARDS));
    other.expect_code(2);
    other.expect_said(&[&commit, &now]);

    // A merged file knows its commit too.
    let single = run_words(&format!("{URL}/a.csv"), "one.parquet", &[]);
    encaje(&env, &hub, &single).expect_code(0);
    hub.commit(REPO, "main", &[("a.csv", corpora::csv(&sentences(9)).as_bytes())]);
    let again = encaje(&env, &hub, &single);
    again.expect_code(0);
    again.expect_said(&["nothing to do", &now]);
    encaje(&env, &hub, ["verify", "one.parquet", "--corpus", &format!("{URL}/a.csv")]).expect_code(0);
}

#[test]
fn of_a_parquet_file_only_what_is_needed_is_fetched() {
    let (env, hub) = (TestEnv::new(), HubServer::start());
    let texts = sentences(2_000);
    let file = parquet_file(&texts);
    hub.commit(REPO, "refs/convert/parquet", &[("default/train/0000.parquet", &file)]);
    hub.commit(REPO, "main", &[("tweets.zip", b"PK"), ("README.md", b"# Tweets")]);
    let ran = encaje(&env, &hub, run_words(URL, "out", &["--keep", "none", "--shard-rows", "500", "--json"]));
    ran.expect_code(0);
    ran.expect_said(&["refs/convert/parquet", "the Hub's conversion"]);
    assert_eq!(ran.json()["embedded"], 2_000);
    let (sent, size) = (hub.bytes_sent(), file.len());
    println!("{sent} of {size} bytes were sent");
    assert!(size > 5_000_000 && sent < size / 5, "{sent} of {size} bytes were sent");
    encaje(&env, &hub, ["verify", "out", "--corpus", URL]).expect_code(0);
}

#[test]
fn what_is_refused_says_what_to_do() {
    let (env, hub) = (TestEnv::new(), HubServer::start());
    hub.commit(REPO, "main", &[("a.csv", b"text\nhola\nadios\n".as_slice()), ("b.tsv", b"text\nhola\n")]);
    let refused = |corpus: &str, parts: &[&str]| {
        let ran = encaje(&env, &hub, run_words(corpus, "out", &[]));
        ran.expect_code(1);
        ran.expect_said(parts);
        assert!(!ran.stderr.contains(TOKEN), "{}", ran.stderr);
        assert!(!env.path("out").exists());
    };
    refused(URL, &["several formats", "csv: `a.csv`", &format!("'{URL}/**/*.csv*'")]);
    refused("hf://ana/tweets", &["hf://datasets/ana/tweets"]);
    refused("hf://models/ana/tweets", &["hf://datasets/OWNER/NAME"]);
    refused("hf://datasets/ana/none", &["no data set `ana/none`", "spelling"]);
    refused(&format!("{URL}@v9/a.csv"), &["no revision `v9`"]);
    refused(&format!("{URL}/c.csv"), &["no `c.csv`"]);
    hub.gate(REPO, true);
    refused(&format!("{URL}/a.csv"), &["gated", "accept the conditions at", "/datasets/ana/tweets"]);
    hub.gate(REPO, false);
    hub.require_token("hf_another");
    refused(&format!("{URL}/a.csv"), &["does not accept the token", "hf auth login"]);
    let mut offline = env.command(run_words(URL, "out", &[]));
    let offline = Ran::of(offline.env("HF_ENDPOINT", hub.url()).output().unwrap());
    offline.expect_code(1);
    offline.expect_said(&["HF_HUB_OFFLINE"]);
    let model_dir = model().display().to_string();
    for words in [
        vec!["run", URL, "--out", "out"],
        vec!["submit", URL, "--coordinator", "http://127.0.0.1:9"],
        vec!["similarity", "--from", URL],
    ] {
        let offline = encaje(&env, &hub, [&words[..], &["--model", &model_dir, "--offline"]].concat());
        offline.expect_code(2);
        offline.expect_said(&["--offline", URL]);
    }
    let url = format!("{URL}/a.csv");
    let written = encaje(&env, &hub, ["merge", "none", "--out", "hf://datasets/ana/out.parquet"]);
    written.expect_code(2);
    written.expect_said(&["read only"]);
    hub.require_token(TOKEN);
    let words = ["similarity", "--model", &model_dir, "--from", &url];
    encaje(&env, &hub, words).expect_code(0);
}

#[test]
fn a_cluster_reads_a_data_set_with_the_tokens_of_its_processes() {
    let (env, hub) = (TestEnv::new(), HubServer::start());
    let texts = sentences(200);
    let commit = hub.commit(REPO, "main", &[("data/a.csv", corpora::csv(&texts).as_bytes())]);
    hub.require_token(TOKEN);
    let daemon = |name: &str, words: &[&str], token: &str| {
        let mut command = env.command(words);
        command.envs(hub.environment()).env("HF_TOKEN", token);
        let mut daemon = Daemon::spawn(&env, name, command);
        let event = daemon.event();
        (daemon, event)
    };
    let words = ["coordinator", "--listen", "127.0.0.1:0", "--database", "state.db", "--storage", "storage", "--json"];
    let words = [&words[..], &["--corpus-root", "hf://datasets/ana"]].concat();
    let (_coordinator, listening) = daemon("c", &words, TOKEN);
    let url = listening["url"].as_str().unwrap();
    let model = model().display().to_string();
    let submit = ["submit", URL, "--model", &model, "--coordinator", url, "--shard-rows", "20"];
    let submitted = encaje(&env, &hub, submit);
    submitted.expect_code(0);
    submitted.expect_said(&[&commit]);
    let job = submitted.stdout.trim().to_owned();
    assert_eq!(encaje(&env, &hub, submit).stdout.trim(), job, "the same commit is the same job");
    // One worker has the token; the other gets the bytes from the coordinator.
    let workers = [("w1", TOKEN), ("w2", "hf_of_nobody_in_particular")].map(|(name, token)| {
        let words = ["worker", "--coordinator", url, "--name", name, "--spool", name, "--threads", "1", "--json"];
        daemon(name, &words, token)
    });
    encaje(&env, &hub, ["download", &job, "--coordinator", url, "--out", "out", "--wait"]).expect_code(0);
    encaje(&env, &hub, ["verify", "out", "--corpus", URL]).expect_code(0);
    env.write("a.csv", corpora::csv(&texts));
    env.run_ok("a.csv", "alone", &SHARDS);
    assert!(rows(&env.path("out")) == rows(&env.path("alone")));
    assert!(!hub.has_leaked());
    for (worker, _) in &workers {
        assert!(!worker.log().contains(TOKEN));
    }
    let other = ["submit", "hf://datasets/eva/poems/a.csv", "--model", &model, "--coordinator", url];
    hub.commit("eva/poems", "main", &[("a.csv", b"text\nhola\n")]);
    let refused = encaje(&env, &hub, other);
    refused.expect_code(1);
    refused.expect_said(&["does not read `hf://datasets/eva/poems@"]);
}
