//! Outputs in a bucket, over the S3 protocol: written, resumed, read and made into others, under faults and kills.

use std::ffi::OsStr;
use std::time::Duration;

use testkit::s3::{BUCKET, Fault, S3Server, SECRET_KEY};

use crate::harness::corpora::{self, sentences};
use crate::harness::daemon::Daemon;
use crate::harness::output::{assert_same, rows};
use crate::harness::{Ran, TestEnv, files_below, run_words, wait_for};

/// A folder for a test with a corpus of so many rows, and a bucket.
fn start(texts: u64) -> (TestEnv, S3Server) {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(texts)));
    (env, S3Server::start())
}

fn url(name: &str) -> String {
    format!("s3://{BUCKET}/{name}")
}

fn encaje<S: AsRef<OsStr>>(env: &TestEnv, server: &S3Server, words: impl IntoIterator<Item = S>) -> Ran {
    Ran::of(env.command(words).envs(server.environment()).output().unwrap())
}

fn succeed<S: AsRef<OsStr>>(env: &TestEnv, server: &S3Server, words: impl IntoIterator<Item = S>) -> Ran {
    let ran = encaje(env, server, words);
    ran.expect_code(0);
    assert!(!ran.stderr.contains(SECRET_KEY), "{}", ran.stderr);
    ran
}

/// The folders with the state of runs into buckets.
fn states(env: &TestEnv) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(env.path(".")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("s3-")).collect()
}

#[test]
fn a_run_into_a_bucket_gives_what_a_run_into_a_folder_gives() {
    let (env, server) = start(200);
    let out = url("deep/er/out");
    server.fail("PUT", "part-00002.parquet", Fault::Answer(503, "SlowDown"), 2);
    server.fail("PUT", "part-00004.parquet", Fault::ApplyThenCut, 1);
    server.fail("PUT", "manifest.json", Fault::ApplyThenAnswer(500, "InternalError"), 1);
    server.fail("GET", "list-type", Fault::Answer(503, "SlowDown"), 1);
    let words = run_words("a.csv", &out, &["--shard-rows", "20", "--json"]);
    let ran = succeed(&env, &server, &words);
    assert_eq!(ran.json()["embedded"], 200);
    ran.expect_said(&[&out, "s3-lake-deep-er-out-"]);
    env.run_ok("a.csv", "disk", &["--shard-rows", "20"]);
    let made = server.file("deep/er/out");
    assert_same(&rows(&made), &rows(&env.path("disk")));
    let names = |folder: &std::path::Path| {
        let all = files_below(folder, &|path| !path.components().any(|part| part.as_os_str() == ".encaje"));
        all.iter().map(|path| path.file_name().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&made), names(&env.path("disk")));
    assert!(states(&env).is_empty(), "nothing is left on this machine");
    let again = succeed(&env, &server, &words);
    again.expect_said(&["is done already"]);
    assert_eq!(again.json()["embedded"], 200);

    // Another corpus, and another job, are refused, and change nothing.
    env.write("b.csv", corpora::csv(&sentences(30)));
    let other = encaje(&env, &server, run_words("b.csv", &out, &[]));
    other.expect_code(2);
    other.expect_said(&[&out, "other parameters"]);
    assert!(states(&env).is_empty(), "what is refused leaves nothing");
    succeed(&env, &server, ["verify", &out, "--corpus", "a.csv"]);
    // What is wrong here is not wrong with the output.
    let mut without_room = env.command(["verify", &out]);
    let without_room = Ran::of(without_room.envs(server.environment()).env("TMPDIR", "/nowhere").output().unwrap());
    without_room.expect_code(1);
    without_room.expect_said(&["/nowhere", "TMPDIR"]);
    assert!(!without_room.stdout.contains("NOT as promised"), "{}", without_room.stdout);
}

#[test]
fn every_reader_reads_from_a_bucket_and_writes_into_one() {
    let (env, server) = start(120);
    let out = url("out");
    succeed(&env, &server, run_words("a.csv", &out, &["--shard-rows", "30"]));
    env.run_ok("a.csv", "disk", &["--shard-rows", "30"]);
    // A network as it is.
    server.fail("GET", "out/part-00001.parquet", Fault::Truncate, 1);
    server.fail("GET", "out/part-00002.parquet", Fault::Cut, 1);

    let status = succeed(&env, &server, ["status", &out, "--json"]);
    assert_eq!((&status.json()["state"], &status.json()["rows"]), (&"done".into(), &120.into()));
    let merged = url("all.parquet");
    succeed(&env, &server, ["merge", &out, "--out", &merged]);
    assert_same(&rows(&server.file("all.parquet")), &rows(&env.path("disk")));
    assert_eq!(succeed(&env, &server, ["status", &merged, "--json"]).json()["rows"], 120);
    encaje(&env, &server, ["merge", &out, "--out", &merged]).expect_code(2);
    succeed(&env, &server, ["merge", &out, "--out", &merged, "--force"]);
    succeed(&env, &server, ["merge", &out, "--out", &url("cut"), "--partition-rows", "50"]);
    assert_same(&rows(&server.file("cut")), &rows(&env.path("disk")));

    for target in [&out, &merged] {
        succeed(&env, &server, ["verify", target, "--corpus", "a.csv"]);
        let npy = format!("{}.npy", target.trim_end_matches(".parquet"));
        succeed(&env, &server, ["export", target, "--format", "npy", "--out", &npy]);
    }
    succeed(&env, &server, ["export", "disk", "--format", "npy", "--out", "disk.npy"]);
    let expected = std::fs::read(env.path("disk.npy")).unwrap();
    assert!(std::fs::read(server.file("out.npy")).unwrap() == expected);
    assert!(std::fs::read(server.file("all.npy")).unwrap() == expected);

    let (page, coords) = (url("maps/plot.html"), url("maps/places.parquet"));
    succeed(&env, &server, ["project", &merged, "--out", &page, "--coords", &coords, "--label", "label"]);
    // The same file on this machine gives the same places.
    std::fs::copy(server.file("all.parquet"), env.path("all.parquet")).unwrap();
    succeed(&env, &server, ["project", "all.parquet", "--coords", "places.parquet"]);
    let places = std::fs::read(env.path("places.parquet")).unwrap();
    assert!(std::fs::read(server.file("maps/places.parquet")).unwrap() == places);
    assert!(server.file("maps/plot.html").exists());
    succeed(&env, &server, ["compare", &out, "disk", "--label", "label", "--out", &url("maps/both.svg")]);
    assert!(server.file("maps/both.svg").exists());
    let left: Vec<_> = files_below(&env.path("."), &|path| path.to_string_lossy().contains(".encaje-tmp"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn damage_in_a_bucket_is_found_and_named() {
    let (env, server) = start(100);
    let out = url("out");
    succeed(&env, &server, run_words("a.csv", &out, &["--shard-rows", "25"]));
    let part = server.file("out/part-00001.parquet");
    let mut bytes = std::fs::read(&part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    std::fs::write(server.file("out/part-00009.parquet"), "stray").unwrap();
    let verified = encaje(&env, &server, ["verify", &out]);
    verified.expect_code(1);
    for said in ["part-00001.parquet: its BLAKE3", "part-00009.parquet: the manifest does not list it"] {
        assert!(verified.stdout.contains(said), "{said}: {}", verified.stdout);
    }
    let exported = encaje(&env, &server, ["export", &out, "--format", "npy", "--out", "a.npy"]);
    exported.expect_code(1);
    exported.expect_said(&["part-00001.parquet", "damaged"]);
    assert!(!env.path("a.npy").exists());
    std::fs::remove_file(server.file("out/part-00003.parquet")).unwrap();
    encaje(&env, &server, ["verify", &out]).expect_code(1);
    encaje(&env, &server, ["repair", &out, "--dry-run"]).expect_code(1);
    let repaired = succeed(&env, &server, ["repair", &out, "--json"]);
    assert_eq!(repaired.json()["damaged"].as_array().unwrap().len(), 2);
    std::fs::remove_file(server.file("out/part-00009.parquet")).unwrap();
    succeed(&env, &server, run_words("a.csv", &out, &["--shard-rows", "25"]));
    succeed(&env, &server, ["verify", &out, "--corpus", "a.csv"]);
    for target in [url("none"), url("none.parquet")] {
        let missing = encaje(&env, &server, ["verify", &target]);
        missing.expect_code(1);
        missing.expect_said(&[&target]);
    }
}

#[test]
fn a_run_that_is_killed_goes_on_here_and_elsewhere() {
    const SHARDS: &[&str] = &["--shard-rows", "10", "--json"];
    let (env, server) = start(1_500);
    env.run_ok("a.csv", "disk", SHARDS);
    let expected = rows(&env.path("disk"));
    for round in 0..4_u32 {
        let name = format!("out-{round}");
        let out = url(&name);
        server.fail("PUT", "part-", Fault::Answer(503, "SlowDown"), 3);
        server.fail("PUT", "part-", Fault::ApplyThenCut, 2);
        let mut kills = 0;
        for pause in [150, 500, 1_200] {
            let mut child = env.command(run_words("a.csv", &out, SHARDS)).envs(server.environment()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(pause * u64::from(round + 3) / 4));
            kills += u32::from(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
            // Every other time, the next run is on a machine that knows nothing.
            if round % 2 == 1 {
                states(&env).iter().for_each(|state| std::fs::remove_dir_all(state).unwrap());
            }
        }
        server.heal();
        assert!(kills > 0, "round {round}: it was never killed");
        succeed(&env, &server, run_words("a.csv", &out, SHARDS));
        succeed(&env, &server, ["verify", &out, "--corpus", "a.csv"]);
        assert_same(&rows(&server.file(&name)), &expected);
    }
}

#[test]
fn a_job_at_a_url_is_never_replaced_by_another() {
    let (env, server) = start(60);
    let out = url("out");
    succeed(&env, &server, run_words("a.csv", &out, &[]));
    // As if a machine were in its first shard.
    std::fs::remove_file(server.file("out/manifest.json")).unwrap();
    std::fs::remove_file(server.file("out/part-00000.parquet")).unwrap();
    let record = std::fs::read(server.file("out/.encaje/job.json")).unwrap();
    let other = encaje(&env, &server, run_words("a.csv", &out, &["--pooling", "mean"]));
    other.expect_code(2);
    other.expect_said(&["--pooling", "remove what is below"]);
    assert!(std::fs::read(server.file("out/.encaje/job.json")).unwrap() == record);
    succeed(&env, &server, run_words("a.csv", &out, &[]));
    succeed(&env, &server, ["verify", &out, "--corpus", "a.csv"]);
    // A file of the user's that only looks like a part is left alone.
    std::fs::remove_file(server.file("out/manifest.json")).unwrap();
    std::fs::write(server.file("out/part-mine.parquet"), "mine").unwrap();
    succeed(&env, &server, run_words("a.csv", &out, &[]));
    assert!(server.file("out/part-mine.parquet").exists());
}

#[test]
fn parts_of_another_machine_are_not_made_again() {
    let (env, server) = start(400);
    let out = url("out");
    let words = run_words("a.csv", &out, &["--shard-rows", "20", "--json"]);
    succeed(&env, &server, &words);
    // As if the other machine had been lost before the last parts.
    for name in ["manifest.json", "part-00007.parquet", "part-00019.parquet"] {
        std::fs::remove_file(server.file(&format!("out/{name}"))).unwrap();
    }
    let times = || {
        let parts = files_below(&server.file("out"), &|path| path.extension().is_some_and(|end| end == "parquet"));
        parts.into_iter().map(|path| (std::fs::metadata(&path).unwrap().modified().unwrap(), path)).collect::<Vec<_>>()
    };
    let before = times();
    assert_eq!(before.len(), 18);
    succeed(&env, &server, &words);
    let after = times();
    assert_eq!(after.len(), 20);
    assert!(before.iter().all(|part| after.contains(part)), "a part was written again");
    succeed(&env, &server, ["verify", &out, "--corpus", "a.csv"]);
}

#[test]
fn one_file_and_the_result_of_a_cluster_go_into_a_bucket() {
    let (env, server) = start(150);
    let file = url("one.parquet");
    let words = run_words("a.csv", &file, &["--shard-rows", "40", "--json"]);
    succeed(&env, &server, &words);
    env.run_ok("a.csv", "disk", &["--shard-rows", "40"]);
    let expected = rows(&env.path("disk"));
    assert_same(&rows(&server.file("one.parquet")), &expected);
    succeed(&env, &server, &words).expect_said(&["is done already"]);

    let words = ["coordinator", "--listen", "127.0.0.1:0", "--database", "state.db", "--storage", "storage", "--json"];
    let mut coordinator = Daemon::spawn(&env, "c", env.command(words));
    let cluster = coordinator.event()["url"].as_str().unwrap().to_owned();
    let model = crate::harness::model().display().to_string();
    let submit = ["submit", "a.csv", "--model", &model, "--coordinator", &cluster, "--shard-rows", "40"];
    let job = succeed(&env, &server, submit).stdout.trim().to_owned();
    let words = ["worker", "--coordinator", &cluster, "--name", "w", "--spool", "spool", "--threads", "1", "--json"];
    let _worker = Daemon::spawn(&env, "w", env.command(words));
    server.fail("PUT", "fetched/part-00001", Fault::Answer(503, "SlowDown"), 2);
    let fetch =
        |out: &str| succeed(&env, &server, ["download", &job, "--coordinator", &cluster, "--out", out, "--wait"]);
    fetch(&url("fetched"));
    assert_same(&rows(&server.file("fetched")), &expected);
    // What was damaged is fetched again.
    std::fs::write(server.file("fetched/part-00002.parquet"), "damaged").unwrap();
    let repair = encaje(&env, &server, ["repair", &url("fetched")]);
    repair.expect_code(2);
    repair.expect_said(&["the same `encaje download` again"]);
    fetch(&url("fetched"));
    succeed(&env, &server, ["verify", &url("fetched"), "--corpus", "a.csv"]);
    fetch(&url("fetched.parquet"));
    assert_same(&rows(&server.file("fetched.parquet")), &expected);
}

#[test]
fn places_that_cannot_be_written_are_refused_before_any_work() {
    let (env, server) = start(10);
    for (out, said) in [
        ("https://example.org/out", "read only"),
        ("s3://lake", "whole bucket"),
        ("ftp://host/out", "ftp"),
        ("s3://key:hunter2@lake/out", "credentials come from the environment"),
        ("file:///tmp/out", "without file://"),
        ("s3:/lake/out", "two slashes"),
        ("s3://lake/out?token=hunter2", "no `?`"),
    ] {
        let ran = encaje(&env, &server, run_words("a.csv", out, &[]));
        ran.expect_code(2);
        ran.expect_said(&[said]);
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    }
    let no_bucket = encaje(&env, &server, run_words("a.csv", "s3://pond/out", &[]));
    no_bucket.expect_code(1);
    no_bucket.expect_said(&["s3://pond/out", "NoSuchBucket", "make it first"]);
    let mut only_tls = env.command(run_words("a.csv", &url("out"), &[]));
    let only_tls = Ran::of(only_tls.envs(server.environment()).env_remove("AWS_ALLOW_HTTP").output().unwrap());
    only_tls.expect_code(1);
    only_tls.expect_said(&["AWS_ALLOW_HTTP=true"]);
    assert!(states(&env).is_empty());
    server.fail("", "", Fault::Answer(403, "AccessDenied"), 1_000);
    let denied = encaje(&env, &server, run_words("a.csv", &url("out"), &[]));
    denied.expect_code(1);
    denied.expect_said(&[&url("out"), "credentials"]);
}

#[test]
fn vectors_are_taken_from_outputs_in_a_bucket() {
    let (env, server) = start(120);
    let (old, new) = (url("old"), url("new"));
    succeed(&env, &server, run_words("a.csv", &old, &["--shard-rows", "30"]));
    succeed(&env, &server, ["merge", &old, "--out", &url("old.parquet")]);
    env.write("b.csv", corpora::csv(&sentences(150)[10..]));
    env.run_ok("b.csv", "disk", &[]);
    server.fail("GET", "old/part-00001.parquet", Fault::Truncate, 1);
    server.fail("GET", "old/part-00002.parquet", Fault::Cut, 1);
    for earlier in [&old, &url("old.parquet")] {
        let words = run_words("b.csv", &new, &["--reuse", earlier, "--shard-rows", "40", "--json"]);
        let ran = succeed(&env, &server, &words).json();
        // A line break is put into other sentences than before.
        let reused = ran["reused"].as_u64().unwrap();
        assert!((60..110).contains(&reused) && ran["embedded"] == 140 - reused, "{ran}");
        assert_same(&rows(&server.file("new")), &rows(&env.path("disk")));
        std::fs::remove_dir_all(server.file("new")).unwrap();
    }
}

#[test]
fn a_stream_is_known_by_its_bytes_though_its_copy_is_gone() {
    let (env, server) = start(100);
    let out = url("out");
    let words = run_words("-", &out, &["--format", "csv", "--shard-rows", "25"]);
    let run = || {
        let stdin = std::fs::File::open(env.path("a.csv")).unwrap();
        Ran::of(env.command(&words).envs(server.environment()).stdin(stdin).output().unwrap())
    };
    run().expect_code(0);
    assert!(states(&env).is_empty());
    let again = run();
    again.expect_code(0);
    again.expect_said(&["is done already"]);
    std::fs::remove_file(server.file("out/part-00002.parquet")).unwrap();
    succeed(&env, &server, ["repair", &out]).expect_said(&["run the same"]);
    run().expect_code(0);
    succeed(&env, &server, ["verify", &out, "--corpus", "a.csv"]);
}

#[test]
fn an_outage_of_the_bucket_is_waited_for_and_said() {
    let (env, server) = start(600);
    let out = url("out");
    let words = run_words("a.csv", &out, &["--shard-rows", "20"]);
    // Longer than the client's own attempts: every request is refused for a while.
    server.fail("", "part-", Fault::Answer(500, "InternalError"), 100_000);
    let mut child = env.command(&words);
    child.envs(server.environment()).stderr(std::process::Stdio::piped());
    let child = child.spawn().unwrap();
    std::thread::sleep(Duration::from_secs(20));
    server.heal();
    let ran = Ran::of(child.wait_with_output().unwrap());
    ran.expect_code(0);
    ran.expect_said(&["warning: waiting for the output", "500 Internal Server Error"]);
    succeed(&env, &server, ["verify", &out, "--corpus", "a.csv"]);
}

#[test]
fn an_interrupted_run_leaves_its_parts_in_the_bucket_and_is_found_from_here() {
    let (env, server) = start(4_000);
    let out = url("out");
    let words = run_words("a.csv", &out, &["--shard-rows", "20"]);
    let child = env.command(&words).envs(server.environment()).spawn().unwrap();
    let parts = || files_below(&server.file("out"), &|path| path.to_string_lossy().contains("part-")).len();
    wait_for("a part", || (server.file("out").exists() && parts() > 3).then_some(()));
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let ran = Ran::of(child.wait_with_output().unwrap());
    ran.expect_code(130);
    let state = states(&env).pop().unwrap();
    let found = succeed(&env, &server, ["status", &state.display().to_string(), "--json"]).json();
    assert_eq!((&found["out"], &found["state"]), (&out.clone().into(), &"interrupted".into()));
    assert_eq!(found["shards"]["committed"], parts(), "all that was done is there");
    let listed = succeed(&env, &server, ["list", "--json"]).json();
    assert_eq!(listed[0]["out"], out);
    // Another machine sees the parts, and does not claim that nobody works on them.
    let folder = env.path("elsewhere");
    std::fs::create_dir(&folder).unwrap();
    let mut elsewhere = env.command(["status", &out, "--json"]);
    let elsewhere = Ran::of(elsewhere.envs(server.environment()).current_dir(folder).output().unwrap());
    elsewhere.expect_code(0);
    let elsewhere = elsewhere.json();
    assert_eq!((&elsewhere["state"], &elsewhere["rows_done"]), (&"elsewhere".into(), &found["rows_done"]));
    succeed(&env, &server, &words);
    succeed(&env, &server, ["verify", &out, "--corpus", "a.csv"]);
}

#[test]
fn a_manifest_that_cannot_be_read_is_repaired() {
    let (env, server) = start(60);
    let out = url("out");
    let words = run_words("a.csv", &out, &["--shard-rows", "20"]);
    succeed(&env, &server, &words);
    std::fs::write(server.file("out/manifest.json"), "{").unwrap();
    encaje(&env, &server, &words).expect_said(&["encaje repair"]);
    succeed(&env, &server, ["repair", &out]).expect_said(&["run the same"]);
    succeed(&env, &server, &words);
    succeed(&env, &server, ["verify", &out, "--corpus", "a.csv"]);
    let mut no_url = env.command(["verify", &out]);
    let no_url = Ran::of(no_url.envs(server.environment()).env("AWS_ENDPOINT_URL", "127.0.0.1:1").output().unwrap());
    no_url.expect_code(1);
    no_url.expect_said(&["AWS_ENDPOINT_URL is not the URL of a server"]);
}

#[test]
fn after_an_outage_of_the_corpus_the_next_run_tries_again_all_that_failed() {
    let (env, server) = start(2_000);
    std::fs::rename(env.path("a.csv"), server.file("a.csv")).unwrap();
    let words = run_words(&url("a.csv"), "out", &["--shard-rows", "20"]);
    let child = env.command(&words).envs(server.environment()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let is_planned = || {
        let status = encaje(&env, &server, ["status", "out", "--json"]);
        (status.code == Some(0) && status.json()["shards"]["committed"].as_u64() > Some(2)).then_some(())
    };
    wait_for("a shard", is_planned);
    server.fail("GET", "a.csv", Fault::Answer(500, "InternalError"), 100_000);
    let failed = Ran::of(child.wait_with_output().unwrap());
    failed.expect_code(1);
    failed.expect_said(&["the last of the failures", "InternalError"]);
    server.heal();
    succeed(&env, &server, &words);
    succeed(&env, &server, ["verify", "out", "--corpus", &url("a.csv")]);
}
