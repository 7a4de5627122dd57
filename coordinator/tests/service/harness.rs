//! A coordinator that tests start, stop and start again, and the fake worker.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::{Config, CoordinatorError, Policy, Roots, Store, TestClock};
use dataset::{
    Compression, FileInfo, Format, Manifest, OutputDtype, RowStatus, Source, Storage, VectorChunk, VectorWriter,
    kept_schema_of,
};
use proto::job::{JobSpec, JobState, JobStatus, RowCounts};
use proto::revision::REVISION;
use proto::work::{CommitOutcome, Grant, Granted, Leased, Output, Session, WorkerInfo};
use proto::{JobId, JobsClient, RequestId, Wire, WorkClient, in_process};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a test waits for must happen within so much real time.
const DEADLINE: Duration = Duration::from_secs(60);

/// A coordinator and its dependencies.
pub(crate) struct Cluster {
    dir: TempDir,
    pub(crate) clock: TestClock,
    pub(crate) config: Config,
    running: Option<Running>,
}

struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), CoordinatorError>>,
    store: Store,
    wire: Wire,
    jobs: JobsClient,
    work: WorkClient,
}

impl Cluster {
    /// Starts a coordinator on an empty folder.
    pub(crate) async fn start() -> Cluster {
        let clock = TestClock::at(1_700_000_000_000);
        let config = Config { clock: Arc::new(clock.clone()), roots: Roots::anywhere(), ..Config::default() };
        let mut cluster = Cluster { dir: tempfile::tempdir().unwrap(), clock, config, running: None };
        cluster.start_again().await;
        cluster
    }

    /// Starts the coordinator that was stopped, on what it left behind.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.running.is_none(), "it is running");
        let store = self.store().await;
        let (channel, incoming) = in_process();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(coordinator::run(
            self.config.clone(),
            store.clone(),
            self.storage(),
            incoming,
            shutdown.clone(),
        ));
        let (jobs, work) = (JobsClient::new(channel.clone()), WorkClient::new(channel.clone()));
        self.running = Some(Running { shutdown, task, store, wire: channel.into(), jobs, work });
    }

    /// Stops the coordinator and leaves its folder.
    pub(crate) async fn stop(&mut self) {
        let Running { shutdown, task, store, .. } = self.running.take().expect("it is running");
        shutdown.cancel();
        tokio::time::timeout(DEADLINE, task).await.expect("it stops in time").unwrap().unwrap();
        store.close().await.unwrap();
    }

    /// Makes another cluster on a copy of what this one left behind; only while it is stopped.
    pub(crate) fn copy(&self) -> Cluster {
        assert!(self.running.is_none(), "it is running");
        let dir = tempfile::tempdir().unwrap();
        copy_folder(self.dir.path(), dir.path());
        Cluster { dir, clock: self.clock.clone(), config: self.config.clone(), running: None }
    }

    /// Opens the store; only while the coordinator is stopped.
    pub(crate) async fn store(&self) -> Store {
        let url = self.dir.path().join("state.db");
        Store::open_with(url.to_str().unwrap(), Arc::new(self.clock.clone()), Policy::default()).await.unwrap()
    }

    pub(crate) fn storage(&self) -> Storage {
        Storage::open(self.dir.path().join("storage").to_str().unwrap()).unwrap()
    }

    pub(crate) fn wire(&self) -> Wire {
        self.running.as_ref().expect("it is running").wire.clone()
    }

    pub(crate) fn jobs(&self) -> &JobsClient {
        &self.running.as_ref().expect("it is running").jobs
    }

    pub(crate) fn work(&self) -> &WorkClient {
        &self.running.as_ref().expect("it is running").work
    }

    /// Writes a CSV file of `rows` records with the columns `text` and `label`; a row of `empty` has no text.
    pub(crate) fn corpus(&self, name: &str, rows: usize, empty: &[usize]) -> Source {
        let mut csv = String::from("text,label\n");
        for row in 0..rows {
            let text = if empty.contains(&row) { String::new() } else { format!("text {row}") };
            csv.push_str(&format!("{text},l{row}\n"));
        }
        self.file(name, &csv)
    }

    /// Writes a CSV file.
    pub(crate) fn file(&self, name: &str, csv: &str) -> Source {
        let path = self.dir.path().join(name);
        std::fs::write(&path, csv).unwrap();
        source(&path)
    }

    /// Submits a job of ten rows a shard and returns it.
    pub(crate) async fn submit(&self, spec: &JobSpec) -> JobId {
        let job = JobId::generate();
        self.jobs().submit(job, spec).await.unwrap();
        job
    }

    /// Waits until `condition` holds of the job, letting the clock run: loops that wait for their time have it.
    pub(crate) async fn until(&self, job: JobId, condition: impl Fn(&JobStatus) -> bool) -> JobStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let status = self.jobs().get(job).await.unwrap();
            if condition(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "the job never came so far: {status:?}");
            self.tick().await;
        }
    }

    pub(crate) async fn until_state(&self, job: JobId, state: JobState) -> JobStatus {
        self.until(job, |status| {
            let expected = status.state == state;
            assert!(expected || !status.state.is_terminal(), "expected {state:?}: {status:?}");
            expected
        })
        .await
    }

    /// Waits until there is no object under a key.
    pub(crate) async fn until_gone(&self, key: &str) {
        let deadline = Instant::now() + DEADLINE;
        while let Ok(found) = self.storage().head(key).await {
            assert!(Instant::now() < deadline, "`{key}` is still there: {found:?}");
            self.tick().await;
        }
    }

    /// Lets a quarter of a second of the test's time pass, and the loops a moment of real time to use it.
    pub(crate) async fn tick(&self) {
        self.clock.advance(Duration::from_millis(250));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    /// Reads the manifest of a job that has succeeded.
    pub(crate) async fn manifest(&self, status: &JobStatus) -> Manifest {
        let key = status.manifest_key.as_deref().expect("a job that succeeded has a manifest");
        assert_eq!(key, format!("jobs/{}/manifest-1.json", status.id));
        let bytes = self.storage().get(key).await.unwrap();
        Manifest::parse(Path::new(key), &bytes).unwrap()
    }

    pub(crate) async fn worker(&self) -> FakeWorker {
        let info =
            WorkerInfo { name: "fake".into(), devices: vec!["cpu".into()], version: "0".into(), revision: REVISION };
        let session = self.work().open_session(&info).await.unwrap();
        FakeWorker { work: self.work().clone(), session, storage: self.storage(), spool: tempfile::tempdir().unwrap() }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn source(path: &Path) -> Source {
    Source { uri: path.to_str().unwrap().to_owned(), format: Format::Csv, compression: Compression::None }
}

/// A job of ten rows a shard.
pub(crate) fn spec(sources: Vec<Source>) -> JobSpec {
    JobSpec { sources, ..testkit::job_spec() }
}

/// Does what a worker does, with two-dimensional vectors that all say the same.
pub(crate) struct FakeWorker {
    work: WorkClient,
    pub(crate) session: Session,
    storage: Storage,
    spool: TempDir,
}

impl FakeWorker {
    pub(crate) async fn lease(&self, max: u32) -> Vec<Grant> {
        let leased = self.work.lease(self.session.id, RequestId::generate(), max).await.unwrap();
        let mut grants = Vec::new();
        for granted in leased.grants {
            grants.push(self.whole(granted).await);
        }
        grants
    }

    /// Fetches what a grant leaves out.
    pub(crate) async fn whole(&self, granted: Granted) -> Grant {
        match granted {
            Granted::Whole(grant) => *grant,
            Granted::Light(light) => {
                let (job, source) = (light.shard.job, light.slice.source_index);
                light.with(&self.work.source_task(self.session.id, job, source).await.unwrap())
            }
            Granted::Unreadable { problem, .. } => panic!("{problem}"),
        }
    }

    /// Leases, waiting until there is something to lease.
    pub(crate) async fn lease_some(&self, cluster: &Cluster, max: u32) -> Vec<Grant> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let grants = self.lease(max).await;
            if !grants.is_empty() {
                return grants;
            }
            assert!(Instant::now() < deadline, "nothing to lease");
            cluster.tick().await;
        }
    }

    pub(crate) async fn ask(&self, request: RequestId) -> Leased {
        self.work.lease(self.session.id, request, 1).await.unwrap()
    }

    /// Reads the records of a shard and puts its vector file into storage.
    pub(crate) async fn embed(&self, grant: &Grant) -> Output {
        let mut records = dataset::read(&grant.source, &grant.slice, &grant.read, &self.storage).await.unwrap();
        let file = self.spool.path().join(format!("{}-{}.parquet", grant.shard.index, grant.epoch));
        let schema = kept_schema_of(&grant.source).unwrap();
        let mut writer = VectorWriter::create(&file, &schema, &info_of(grant)).unwrap();
        while let Some(chunk) = records.next_chunk().await.unwrap() {
            let status: Vec<RowStatus> = chunk
                .texts
                .iter()
                .map(|text| RowStatus { n_tokens: 3, truncated: false, error: text.as_ref().err().copied() })
                .collect();
            let vectors = [0.6, 0.8].repeat(status.len());
            writer
                .write(VectorChunk { first_row: chunk.first_row, kept: chunk.kept, vectors, status, reused: None })
                .unwrap();
        }
        let summary = writer.finish().unwrap();
        self.storage.put_new_file(&grant.output_key, &file).await.unwrap();
        Output {
            key: grant.output_key.clone(),
            bytes: summary.bytes,
            blake3: summary.blake3,
            input_blake3: records.input_blake3(),
            counts: RowCounts {
                rows: summary.rows,
                rejects: summary.rejects,
                truncated: summary.truncated,
                tokens: summary.tokens,
                reused: summary.reused,
            },
        }
    }

    /// An output of a hundred bytes that was not embedded.
    pub(crate) fn made_up(grant: &Grant) -> Output {
        let counts = RowCounts { rows: grant.wanted().rows, ..RowCounts::default() };
        let (key, digest) = (grant.output_key.clone(), "d".repeat(64));
        let input_blake3 = grant.slice.blake3.clone().unwrap_or_else(|| digest.clone());
        Output { key, bytes: 100, blake3: digest, input_blake3, counts }
    }

    pub(crate) async fn commit(&self, grant: &Grant, output: &Output) -> CommitOutcome {
        self.work.commit(self.session.id, grant.shard, grant.epoch, output).await.unwrap()
    }

    /// Embeds and commits what there is to lease, until nothing is left. Returns how many shards it did.
    pub(crate) async fn drain(&self) -> usize {
        let mut shards = 0;
        loop {
            let grants = self.lease(2).await;
            if grants.is_empty() {
                return shards;
            }
            for grant in grants {
                let output = self.embed(&grant).await;
                assert_eq!(self.commit(&grant, &output).await, CommitOutcome::Committed);
                shards += 1;
            }
        }
    }
}

fn info_of(grant: &Grant) -> FileInfo {
    FileInfo {
        model: grant.model.name.clone(),
        revision: grant.model.revision.clone(),
        model_digest: grant.model.digest.clone(),
        pooling: "cls".into(),
        normalized: grant.embed.normalize,
        max_length: 16,
        dtype: "f32".into(),
        output_dtype: OutputDtype::F32,
        prefix: grant.embed.prefix.clone(),
        prompt: grant.embed.prompt.clone(),
        similarity: grant.embed.similarity.clone(),
        delimiter: None,
        quote: None,
        encoding: None,
        dimensions: 2,
        job_id: grant.shard.job.to_string(),
        spec_digest: grant.spec_digest.clone(),
    }
}
