//! A job of very many shards at a coordinator: planned from a CSV file by the real planner, worked on by a fleet, done to
//! the end by SQL (nobody wants to wait for a million commits), finalized by the real finalizer, and read again.

use std::path::Path;
use std::time::{Duration, Instant};

use dataset::{Manifest, inspect};
use proto::job::{JobState, JobStatus};
use proto::{JobId, JobsClient};

use crate::child::Coordinator;
use crate::{fill, fleet, spec};

/// How long planning and finalizing may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures a job of so many shards in the database at `url`; everything else goes below `folder`.
pub(crate) async fn measure(url: &str, folder: &Path, shards: u64, fleets: &[usize], fleet_seconds: u64) {
    if shards == 0 {
        return;
    }
    let (corpus, storage) = (folder.join("corpus.csv"), folder.join("storage"));
    let text: String = std::iter::once("text\n".to_owned()).chain((0..shards).map(|row| format!("{row}\n"))).collect();
    std::fs::write(&corpus, text).unwrap();
    let (job, spec) = (JobId::generate(), spec::spec(corpus.to_str().unwrap(), 1));
    let source = inspect(&spec.sources, &spec.read).await.unwrap().remove(0);
    let sample = spec::sample(job, &spec, &source, folder);
    let storage_url = storage.to_str().unwrap();

    let coordinator = Coordinator::start(url, storage_url);
    let jobs = JobsClient::new(proto::connect(&coordinator.url).await.unwrap());
    let started = Instant::now();
    jobs.submit(job, &spec).await.unwrap();
    let planned = until(&jobs, job, JobState::Running).await;
    println!(
        "  planned {} shards in {:.1} s, peak memory of the coordinator {} MB",
        planned.shards.pending,
        started.elapsed().as_secs_f64(),
        coordinator.peak_mb()
    );
    assert_eq!((planned.shards.pending, planned.rows_planned), (shards, shards));
    for workers in fleets {
        fleet::measure(&coordinator, storage.clone(), &sample.bytes, *workers, fleet_seconds).await;
    }
    coordinator.stop();

    let first_key = fill::commit_all_but_the_last(url, job, shards, &sample).await;
    let first = storage.join(first_key);
    std::fs::create_dir_all(first.parent().unwrap()).unwrap();
    std::fs::write(first, &sample.bytes).unwrap();
    fill::hot_path(url).await;
    finalized(url, storage_url, job, shards).await;
}

/// Times the end of a job whose shards are done.
async fn finalized(url: &str, storage: &str, job: JobId, shards: u64) {
    let started = Instant::now();
    let coordinator = Coordinator::start(url, storage);
    let jobs = JobsClient::new(proto::connect(&coordinator.url).await.unwrap());
    let done = until(&jobs, job, JobState::Succeeded).await;
    let took = started.elapsed().as_secs_f64();
    let (asked, peak) = (Instant::now(), coordinator.peak_mb());
    jobs.get(job).await.unwrap();
    let status_ms = asked.elapsed().as_secs_f64() * 1e3;
    let path = Path::new(storage).join(done.brief.manifest_key.unwrap());
    let bytes = std::fs::metadata(&path).unwrap().len() >> 20;
    println!(
        "  finalized {shards} shards in {took:.1} s, peak memory of the coordinator {peak} MB; manifest {bytes} MB; \
         status {status_ms:.1} ms"
    );
    coordinator.stop();
    let started = Instant::now();
    let manifest = Manifest::read(&path).unwrap();
    assert_eq!(manifest.problems(), Vec::<String>::new());
    assert_eq!((manifest.files.len() as u64, manifest.totals.rows), (shards, shards));
    println!("  its manifest read and checked in {:.1} s", started.elapsed().as_secs_f64());
}

async fn until(jobs: &JobsClient, job: JobId, state: JobState) -> JobStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = jobs.get(job).await.unwrap();
        if status.state == state {
            return status;
        }
        assert!(!status.state.is_terminal() && Instant::now() < deadline, "expected {state:?}: {status:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
