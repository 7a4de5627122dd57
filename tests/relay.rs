//! Two machines and no bucket: a coordinator whose storage nobody else can open, and a client and a worker that go by
//! way of the coordinator for all they read and write.
#![cfg(unix)]

use std::sync::Arc;

use coordinator::{Clock, Config, Policy, Roots, Store, SystemClock};
use dataset::Storage;
use object_store::local::LocalFileSystem;
use tokio_util::sync::CancellationToken;

use crate::harness::TestEnv;
use crate::harness::corpora::{self, sentences};
use crate::harness::daemon::{fetch_and_verify, submit, worker};
use crate::harness::output::{assert_same, rows};

#[test]
fn a_job_runs_on_a_machine_that_sees_neither_storage_nor_corpus() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(300)));
    // The coordinator's folder, and what is under its name on the other machine: a folder of somebody else. (Uploads are
    // seen under that name too, since the coordinator of this test looks for them there.)
    for folder in ["real/uploads", "named"] {
        std::fs::create_dir_all(env.path(folder)).unwrap();
    }
    env.write("named/storage-id", "of somebody else");
    std::os::unix::fs::symlink(env.path("real/uploads"), env.path("named/uploads")).unwrap();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let shutdown = CancellationToken::new();
    let (url, served) = runtime.block_on(async {
        let store = LocalFileSystem::new_with_prefix(env.path("real")).unwrap();
        let storage = Storage::from_store(Arc::new(store), env.path("named").to_str().unwrap());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let database = env.path("state.db");
        let books = Store::open_with(database.to_str().unwrap(), Arc::clone(&clock), Policy::default()).await.unwrap();
        let incoming = proto::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}", incoming.local_addr().unwrap());
        let config = Config { clock, roots: Roots::anywhere(), ..Config::default() };
        (url, tokio::spawn(coordinator::run(config, books, storage, incoming, shutdown.clone())))
    });

    let mut worker = worker(&env, "w", &url, &[]);
    let job = submit(&env, &url, "a.csv", &["--shard-rows", "50"]);
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
    env.run_ok("a.csv", "alone", &["--shard-rows", "50"]);
    assert_same(&rows(&env.path("out")), &rows(&env.path("alone")));
    worker.signal("TERM");
    assert_eq!(worker.ended(), Some(0));

    let elsewhere: Vec<_> =
        std::fs::read_dir(env.path("named")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(elsewhere.len(), 2, "nothing was written under the name: {elsewhere:?}");
    assert!(env.path(&format!("real/jobs/{job}/shards")).is_dir());
    assert_eq!(std::fs::read_dir(env.path("real/uploads")).unwrap().count(), 1);
    shutdown.cancel();
    runtime.block_on(served).unwrap().unwrap();
}
