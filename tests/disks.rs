//! Disks that fill up, and corpora that change under a job.
#![cfg(unix)]

use std::fs::{File, FileTimes};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::corpora::{self, sentences};
use crate::harness::daemon::{Daemon, coordinator, status, submit, worker};
use crate::harness::{TestEnv, run_words, wait_for};

/// A small disk in memory, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one, or returns `None` where this user may not. CI may.
    #[expect(clippy::print_stderr, reason = "a test that tests nothing says so")]
    fn mount(folder: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "encaje-test"]).arg(folder).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder.to_owned()));
        }
        assert!(std::env::var_os("CI").is_none(), "CI must be able to mount a small disk");
        eprintln!("NOT TESTED: this user cannot mount a small disk");
        None
    }

    fn grow(&self, size: &str) {
        mount(&["-o", &format!("remount,size={size}")], &self.0);
    }

    /// Makes the disk read-only for whoever opens a file from now on, until the answer is dropped. (The kernel refuses to
    /// do so to a mount on which files are open for writing, so that it is another mount of the same disk.)
    fn read_only(&self) -> Self {
        wait_for("a mount without open files", || {
            mount(&["--bind", self.0.to_str().unwrap()], &self.0);
            // Somebody may have opened a file between the two.
            if try_mount(&["-o", "remount,bind,ro"], &self.0) {
                return Some(Self(self.0.clone()));
            }
            drop(Self(self.0.clone()));
            None
        })
    }
}

fn mount(options: &[&str], folder: &Path) {
    assert!(try_mount(options, folder));
}

fn try_mount(options: &[&str], folder: &Path) -> bool {
    Command::new("mount").args(options).arg(folder).status().unwrap().success()
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn a_full_disk_ends_a_run_soon_and_room_lets_it_go_on() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(20_000)));
    let Some(disk) = SmallDisk::mount(&env.path("disk"), "2m") else { return };
    let words = run_words("a.csv", "disk/out", &["--shard-rows", "2000"]);
    let started = Instant::now();
    let full = env.encaje(&words);
    full.expect_code(1);
    full.expect_said(&["cannot write to", "disk/out", "start again"]);
    assert!(started.elapsed() < Duration::from_secs(60), "it took {:?}", started.elapsed());
    assert!(full.stderr.lines().count() < 20, "{}", full.stderr);
    disk.grow("200m");
    env.encaje(&words).expect_code(0);
    env.encaje(["verify", "disk/out", "--corpus", "a.csv"]).expect_code(0);
}

#[test]
fn a_disk_that_is_gone_ends_a_run_soon() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(40_000)));
    let Some(disk) = SmallDisk::mount(&env.path("disk"), "200m") else { return };
    let mut run = Daemon::spawn(&env, "run", env.command(run_words("a.csv", "disk/out", &["--shard-rows", "500"])));
    wait_for("the first shards", || env.path("disk/out/.encaje/jobs").exists().then_some(()));
    drop(disk);
    assert_eq!(run.ended(), Some(1), "{}", run.log());
    assert!(run.log().contains("`disk/out` was removed or replaced while the run worked in it"), "{}", run.log());
}

#[test]
fn a_disk_that_turns_read_only_ends_a_run_and_one_that_can_be_written_lets_it_go_on() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(40_000)));
    let Some(disk) = SmallDisk::mount(&env.path("disk"), "200m") else { return };
    let words = run_words("a.csv", "disk/out", &["--shard-rows", "500"]);
    let mut run = Daemon::spawn(&env, "run", env.command(&words));
    wait_for("the first shards", || env.path("disk/out/.encaje/jobs").exists().then_some(()));
    let read_only = disk.read_only();
    assert_eq!(run.ended(), Some(1), "{}", run.log());
    assert!(run.log().contains("cannot write to") && run.log().contains("start again"), "{}", run.log());
    drop(read_only);
    env.encaje(&words).expect_code(0);
    env.encaje(["verify", "disk/out", "--corpus", "a.csv"]).expect_code(0);
}

#[test]
fn a_worker_whose_spool_turns_read_only_leaves_the_shards_to_others() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(4_000)));
    let Some(disk) = SmallDisk::mount(&env.path("disk"), "20m") else { return };
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &[]);
    let words = ["worker", "--coordinator", &url, "--name", "stuck", "--spool", "disk", "--threads", "1", "--json"];
    let mut stuck = Daemon::start(&env, "stuck", &words);
    wait_for("its spool", || {
        let mut entries = std::fs::read_dir(env.path("disk")).unwrap().map(|entry| entry.unwrap().path());
        // One that is being made has another name.
        entries.find(|spool| spool.extension().is_none())
    });
    let _read_only = disk.read_only();
    let job = submit(&env, &url, "a.csv", &["--shard-rows", "500"]);
    assert_eq!(stuck.ended(), Some(1), "{}", stuck.log());
    assert!(stuck.log().contains("cannot write to"), "{}", stuck.log());
    let found = status(&env, &url, &job);
    assert_eq!((&found["state"], &found["shards"]["dead"]), (&"running".into(), &0.into()), "{found}");
    let _sound = worker(&env, "sound", &url, &[]);
    wait_for("the end of the job", || (status(&env, &url, &job)["state"] == "succeeded").then_some(()));
}

#[test]
fn a_worker_with_a_full_spool_leaves_the_shards_to_others() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(4_000)));
    let Some(_disk) = SmallDisk::mount(&env.path("disk"), "64k") else { return };
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &[]);
    let job = submit(&env, &url, "a.csv", &["--shard-rows", "2000"]);
    let words = ["worker", "--coordinator", &url, "--name", "full", "--spool", "disk", "--threads", "1", "--json"];
    let mut full = Daemon::start(&env, "full", &words);
    assert_eq!(full.ended(), Some(1), "{}", full.log());
    assert!(full.log().contains("cannot write to"), "{}", full.log());
    let found = status(&env, &url, &job);
    assert_eq!((&found["state"], &found["shards"]["dead"]), (&"running".into(), &0.into()), "{found}");
    let _sound = worker(&env, "sound", &url, &[]);
    wait_for("the end of the job", || (status(&env, &url, &job)["state"] == "succeeded").then_some(()));
}

/// Writes other bytes into a file, and puts its time back.
fn change_in_place(path: &Path) {
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::End(-20)).unwrap();
    file.write_all(b"otros").unwrap();
    file.set_times(FileTimes::new().set_modified(modified)).unwrap();
}

/// Writes another letter into a text of the middle, and puts the time back.
fn change_a_text_in_place(path: &Path) {
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let text = sentences(300)[150].clone().into_bytes();
    let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
    bytes[at] ^= 1;
    let mut file = File::options().write(true).open(path).unwrap();
    file.write_all(&bytes).unwrap();
    file.set_times(FileTimes::new().set_modified(modified)).unwrap();
}

/// Submits a corpus below a root, meddles with it once it is planned, and returns why the job failed.
fn reason_of_failure_after(name: &str, write: impl Fn(&Path, &[String]), meddle: impl Fn(&Path)) -> String {
    let env = TestEnv::new();
    let corpus = env.path("corpora").join(name);
    std::fs::create_dir(env.path("corpora")).unwrap();
    write(&corpus, &sentences(300));
    let root = env.path("corpora").display().to_string();
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &["--corpus-root", &root]);
    let job = submit(&env, &url, corpus.to_str().unwrap(), &["--shard-rows", "50"]);
    wait_for("the plan", || (status(&env, &url, &job)["state"] == "running").then_some(()));
    meddle(&corpus);
    let _worker = worker(&env, "w", &url, &[]);
    let failed = wait_for("the end of the job", || {
        let found = status(&env, &url, &job);
        (found["state"] == "failed").then_some(found)
    });
    failed["reason"].as_str().unwrap().to_owned()
}

fn write_csv(path: &Path, texts: &[String]) {
    std::fs::write(path, corpora::csv(texts)).unwrap();
}

#[test]
fn a_corpus_that_changed_in_place_with_its_time_put_back_fails_the_job() {
    let reason = reason_of_failure_after("a.csv", write_csv, change_in_place);
    assert!(reason.contains("a.csv") && reason.contains("changed since it was planned"), "{reason}");
}

#[test]
fn rows_that_changed_in_place_before_they_were_first_read_fail_the_job() {
    for (name, write) in
        [("a.parquet", corpora::write_parquet as fn(&Path, &[String])), ("a.arrow", corpora::write_arrow)]
    {
        let reason = reason_of_failure_after(name, write, change_a_text_in_place);
        assert!(reason.contains(name) && reason.contains("changed since it was planned"), "{reason}");
    }
}

#[test]
fn a_corpus_that_is_gone_below_a_root_fails_the_job_and_is_named() {
    let reason = reason_of_failure_after("a.csv", write_csv, |corpus| std::fs::remove_file(corpus).unwrap());
    assert!(reason.contains("a.csv") && reason.contains("it is gone"), "{reason}");
}

#[test]
fn the_file_size_limit_of_the_process_ends_a_command_with_a_sentence() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(200)));
    env.run_ok("a.csv", "out", &[]);
    let program = env!("CARGO_BIN_EXE_encaje");
    let command = format!("ulimit -f 1; exec {program} export out --format npy --out a.npy");
    let ended = Command::new("sh").args(["-c", &command]).current_dir(env.path(".")).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("a.npy") && said.contains("too large"), "{said}");
    assert!(!env.path("a.npy").exists());
}
