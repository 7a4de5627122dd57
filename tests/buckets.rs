//! A corpus in a bucket, over the S3 protocol: run, run again, verify; and the messages when it goes wrong.

use crate::harness::corpora::{self, sentences};
use crate::harness::daemon::Daemon;
use crate::harness::output::rows;
use crate::harness::{Ran, TestEnv, files_below, run_words};
use testkit::s3::{BUCKET, Fault, S3Server, SECRET_KEY};

fn put(server: &S3Server, key: &str, bytes: impl AsRef<[u8]>) {
    let file = server.file(key);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, bytes).unwrap();
}

fn encaje<S: AsRef<std::ffi::OsStr>>(env: &TestEnv, server: &S3Server, words: impl IntoIterator<Item = S>) -> Ran {
    Ran::of(env.command(words).envs(server.environment()).output().unwrap())
}

#[test]
fn a_corpus_in_a_bucket_gives_the_rows_of_the_same_corpus_on_disk() {
    let (env, server) = (TestEnv::new(), S3Server::start());
    let texts = sentences(90);
    let (front, back) = texts.split_at(40);
    let compressed = corpora::gzip(corpora::csv(back).as_bytes());
    for (name, content) in [("a.csv", corpora::csv(front).into_bytes()), ("b.csv.gz", compressed)] {
        put(&server, &format!("in/{name}"), &content);
        env.write(&format!("disk/{name}"), &content);
    }
    let pattern = format!("s3://{BUCKET}/in/*.csv*");
    // A network as it is.
    server.fail("GET", "in/a.csv", Fault::Truncate, 1);
    server.fail("GET", "in/b.csv.gz", Fault::Cut, 1);
    server.fail("HEAD", "", Fault::Answer(503, "SlowDown"), 1);
    let more = ["--shard-rows", "20", "--json"];
    let ran = encaje(&env, &server, run_words(&pattern, "out", &more));
    ran.expect_code(0);
    assert_eq!(ran.json()["embedded"], 90);
    env.run_ok("disk/*.csv*", "disk-out", &more);
    assert!(rows(&env.path("out")) == rows(&env.path("disk-out")));

    let verified = encaje(&env, &server, ["verify", "out", "--corpus", &pattern]);
    verified.expect_code(0);
    // Nothing that was written or said has the secret in it.
    for said in [&ran, &verified] {
        assert!(!said.stdout.contains(SECRET_KEY) && !said.stderr.contains(SECRET_KEY));
    }
    for file in files_below(&env.path("out"), &|_| true) {
        let content = std::fs::read(&file).unwrap();
        let leaks = content.windows(SECRET_KEY.len()).any(|window| window == SECRET_KEY.as_bytes());
        assert!(!leaks, "{}", file.display());
    }

    // Another corpus under the same name: neither another run nor a check takes it for the same.
    put(&server, "in/a.csv", corpora::csv(back));
    let changed = encaje(&env, &server, ["verify", "out", "--corpus", &pattern]);
    changed.expect_code(1);
    let again = encaje(&env, &server, run_words(&pattern, "out", &more));
    assert_ne!(again.code, Some(0), "{}", again.stderr);
    again.expect_said(&[&format!("s3://{BUCKET}/in/a.csv")]);
}

#[test]
fn a_bucket_that_cannot_be_read_is_explained_without_the_secret() {
    let (env, server) = (TestEnv::new(), S3Server::start());
    put(&server, "a.csv", corpora::csv(&sentences(3)));
    let uri = format!("s3://{BUCKET}/a.csv");
    server.fail("HEAD", "a.csv", Fault::Answer(403, "ExpiredToken"), 1_000);
    let ran = encaje(&env, &server, run_words(&uri, "out", &[]));
    ran.expect_code(1);
    ran.expect_said(&[&uri, "credentials", "403"]);
    assert!(!ran.stderr.contains(SECRET_KEY), "{}", ran.stderr);
    server.heal();
    let missing = encaje(&env, &server, run_words(&format!("s3://{BUCKET}/none.csv"), "out", &[]));
    assert_ne!(missing.code, Some(0));
    missing.expect_said(&["none.csv", "does not exist"]);
    let secret = encaje(&env, &server, run_words("s3://key:hunter2hunter2@lake/a.csv", "out", &[]));
    assert_ne!(secret.code, Some(0));
    secret.expect_said(&["credentials come from the environment"]);
    assert!(!secret.stderr.contains("hunter2"), "{}", secret.stderr);
}

/// A process of a cluster that uses the server, and what it said first.
fn daemon(env: &TestEnv, server: &S3Server, name: &str, words: &[&str]) -> (Daemon, serde_json::Value) {
    let mut command = env.command(words);
    command.envs(server.environment());
    let mut daemon = Daemon::spawn(env, name, command);
    let event = daemon.event();
    (daemon, event)
}

/// Runs a command that must succeed, with what is needed to reach the server.
fn succeed(env: &TestEnv, server: &S3Server, words: &[&str]) -> Ran {
    let ran = encaje(env, server, words);
    ran.expect_code(0);
    ran
}

#[test]
fn a_cluster_keeps_everything_in_a_bucket() {
    let (env, server) = (TestEnv::new(), S3Server::start());
    let texts = sentences(300);
    put(&server, "in/a.csv", corpora::csv(&texts));
    env.write("a.csv", corpora::csv(&texts));
    let (corpus, storage) = (format!("s3://{BUCKET}/in/a.csv"), format!("s3://{BUCKET}/results"));
    let words = ["coordinator", "--listen", "127.0.0.1:0", "--database", "state.db", "--storage", &storage];
    let root = format!("s3://{BUCKET}/in");
    let words = [&words[..], &["--corpus-root", &root, "--json"]].concat();
    let (_coordinator, listening) = daemon(&env, &server, "c", &words);
    let url = listening["url"].as_str().unwrap();
    let model = crate::harness::model().display().to_string();
    let submit = ["submit", &corpus, "--model", &model, "--coordinator", url, "--shard-rows", "20"];
    let job = succeed(&env, &server, &submit).stdout.trim().to_owned();

    // What a busy store does to uploads, and to the manifest.
    server.fail("PUT", "shards/00000003", Fault::ApplyThenCut, 1);
    server.fail("PUT", "shards/00000005", Fault::Answer(503, "SlowDown"), 2);
    server.fail("PUT", "manifest-1.json", Fault::ApplyThenAnswer(500, "InternalError"), 1);
    let words = ["worker", "--coordinator", url, "--name", "w", "--spool", "spool", "--threads", "1", "--json"];
    let _worker = daemon(&env, &server, "w", &words);
    succeed(&env, &server, &["download", &job, "--coordinator", url, "--out", "out", "--wait"]);
    succeed(&env, &server, &["verify", "out", "--corpus", &corpus]);
    env.run_ok("a.csv", "alone", &["--shard-rows", "20"]);
    assert!(rows(&env.path("out")) == rows(&env.path("alone")));
    assert!(server.file(&format!("results/jobs/{job}/manifest-1.json")).is_file());

    // A bit of a stored file turns: the fetch names it, and repair makes it again.
    let shards = server.file(&format!("results/jobs/{job}/shards/00000007"));
    let file = files_below(&shards, &|path| path.extension().is_some_and(|end| end == "parquet")).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let words = ["download", &job, "--coordinator", url, "--out", "again", "--wait"];
    let refused = encaje(&env, &server, words);
    refused.expect_code(1);
    refused.expect_said(&["shards/00000007", "encaje repair"]);
    succeed(&env, &server, &["repair", &job, "--coordinator", url]);
    succeed(&env, &server, &words);
    succeed(&env, &server, &["verify", "again", "--corpus", &corpus]);
    assert!(rows(&env.path("again")) == rows(&env.path("alone")));
}
