//! What a test needs around a worker: a corpus on disk, its shards, a tiny model, and eyes for the output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow_array::{Array, FixedSizeListArray, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray};
use dataset::vectors::{BATCH_ROWS, Projection};
use dataset::{Cursor, CutLimits, Cutter, ReadOptions, Storage, VectorReader};
use engine::ModelDir;
use prost::Message;
use proto::job::{EmbedSpec, ModelSpec, OnBadRow};
use proto::work::{Grant, Output, SourceTask};
use proto::{Epoch, JobId, ShardId};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use worker::{WorkerConfig, WorkerError, WorkerSummary};

use crate::fake::{Event, Fake, Script};

pub(crate) fn model_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/testdata/beto")
}

/// Texts that differ in their tokens; the model's vocabulary spells every octal number.
pub(crate) fn texts(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("palabra {at:o} de {}", "la ".repeat(at % 7))).collect()
}

pub(crate) fn output_key(index: u64, epoch: Epoch) -> String {
    format!("jobs/j/shards/{index:08}/e{:06}.parquet", epoch.0)
}

/// A folder with a corpus, a storage and a spool.
pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) embed: EmbedSpec,
    pub(crate) on_bad_row: OnBadRow,
    pub(crate) digest: String,
    /// The model's folder.
    pub(crate) model: PathBuf,
    pub(crate) threads: usize,
    /// Equal in every rig, so that equal rows give equal files.
    job: JobId,
}

impl Rig {
    /// Writes a CSV of the texts.
    pub(crate) fn new<T: AsRef<str>>(texts: &[T]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut csv = "id,text\n".to_owned();
        for (id, text) in texts.iter().enumerate() {
            csv.push_str(&format!("{id},\"{}\"\n", text.as_ref()));
        }
        std::fs::write(folder.path().join("corpus.csv"), csv).unwrap();
        let model = model_dir();
        let digest = ModelDir::open(&model).unwrap().digest().unwrap();
        let job = "01900000-0000-7000-8000-000000000000".parse().unwrap();
        Self { folder, embed: testkit::job_spec().embed, on_bad_row: OnBadRow::Reject, digest, model, threads: 2, job }
    }

    /// Copies the model BERTIN into the folder, with one number of a tensor that is not one, and takes it.
    pub(crate) fn break_model(&mut self, tensor: &str, number: usize) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/testdata/bertin");
        self.model = self.folder.path().join("broken");
        std::fs::create_dir(&self.model).unwrap();
        for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(from.join(name), self.model.join(name)).unwrap();
        }
        let mut bytes = std::fs::read(from.join("model.safetensors")).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
        let start = header + tensors[tensor]["data_offsets"][0].as_u64().unwrap() as usize + number * 4;
        bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(self.model.join("model.safetensors"), bytes).unwrap();
        self.digest = ModelDir::open(&self.model).unwrap().digest().unwrap();
    }

    pub(crate) fn corpus(&self) -> PathBuf {
        self.folder.path().join("corpus.csv")
    }

    pub(crate) fn storage(&self) -> Storage {
        Storage::open(self.folder.path().join("storage").to_str().unwrap()).unwrap()
    }

    /// Cuts the corpus into shards of `rows_max` records.
    pub(crate) async fn grants(&self, rows_max: u64) -> Vec<Grant> {
        let read = ReadOptions::default();
        let sources = dataset::expand(&[self.corpus().to_str().unwrap().to_owned()], None).await.unwrap();
        let planned = dataset::inspect(&sources, &read).await.unwrap();
        let limits = CutLimits { rows_max, bytes_max: u64::MAX };
        let cutter = Cutter::new(
            planned.clone(),
            read.clone(),
            limits,
            self.storage(),
            "jobs/j/recut".to_owned(),
            Cursor::default(),
        );
        let mut cutter = cutter.await.unwrap();
        let mut grants = Vec::new();
        while let Some(slice) = cutter.next().await.unwrap() {
            let index = grants.len() as u64;
            grants.push(Grant {
                shard: ShardId { job: self.job, index },
                epoch: Epoch(1),
                read: read.clone(),
                source: planned[slice.source_index as usize].clone(),
                slice,
                model: ModelSpec {
                    name: self.model.to_str().unwrap().to_owned(),
                    revision: None,
                    digest: self.digest.clone(),
                },
                embed: self.embed.clone(),
                on_bad_row: self.on_bad_row,
                output_key: output_key(index, Epoch(1)),
                spec_digest: "spec".to_owned(),
                window: None,
                is_poison: false,
                reuse: vec![],
            });
        }
        grants
    }

    pub(crate) fn config(&self) -> WorkerConfig {
        let mut config = WorkerConfig::new("test", self.folder.path().join("spool"));
        config.threads = self.threads;
        config.tokenizer_threads = 2;
        config
    }

    /// Runs a worker over these shards until the diary satisfies `condition`, then stops it.
    pub(crate) async fn run_until(
        &self,
        script: Script,
        grants: Vec<Grant>,
        condition: impl Fn(&[Event]) -> bool,
    ) -> (Fake, Result<WorkerSummary, WorkerError>) {
        let (fake, channel) = Fake::start(script, self.storage().url(), grants);
        let shutdown = CancellationToken::new();
        let worker = tokio::spawn(worker::run(self.config(), channel, shutdown.clone()));
        fake.until(condition).await;
        shutdown.cancel();
        let summary = worker.await.unwrap();
        (fake, summary)
    }

    /// Runs a worker until all shards are committed.
    pub(crate) async fn run_all(&self, script: Script, rows_max: u64) -> (Fake, WorkerSummary) {
        let grants = self.grants(rows_max).await;
        let shards = grants.len();
        let (fake, summary) = self.run_until(script, grants, |events| committed(events) == shards).await;
        (fake, summary.unwrap())
    }

    pub(crate) fn output_path(&self, output: &Output) -> PathBuf {
        self.storage().local_path(&output.key).unwrap()
    }

    /// Reads all outputs in shard order.
    pub(crate) fn rows(&self, outputs: &BTreeMap<u64, Output>) -> Vec<OutRow> {
        outputs.values().flat_map(|output| read_rows(&self.output_path(output))).collect()
    }

    /// How many bytes describe what the shards have in common.
    pub(crate) async fn source_task_bytes(&self) -> usize {
        let Grant { read, source, model, embed, on_bad_row, reuse, .. } = self.grants(100).await.remove(0);
        proto::generated::SourceTask::from(&SourceTask { read, source, model, embed, on_bad_row, reuse }).encoded_len()
    }

    /// Whether the spool holds nothing.
    pub(crate) fn spool_is_empty(&self) -> bool {
        std::fs::read_dir(self.folder.path().join("spool")).unwrap().count() == 0
    }
}

pub(crate) fn committed(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Committed(..))).count()
}

/// A row of the output.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OutRow {
    pub(crate) row: i64,
    pub(crate) text: Option<String>,
    pub(crate) vector: Option<Vec<f32>>,
    pub(crate) n_tokens: i32,
    pub(crate) error: Option<String>,
}

pub(crate) fn read_rows(path: &Path) -> Vec<OutRow> {
    let reader = VectorReader::open(path).unwrap();
    let batches = reader.batches(&Projection::All, BATCH_ROWS).unwrap();
    batches.flat_map(|batch| rows_of(&batch.unwrap())).collect()
}

fn column<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> &'a T {
    batch.column_by_name(name).unwrap().as_any().downcast_ref().unwrap()
}

fn rows_of(batch: &RecordBatch) -> Vec<OutRow> {
    let embedding: &FixedSizeListArray = column(batch, "embedding");
    let (rows, tokens): (&Int64Array, &Int32Array) = (column(batch, "row"), column(batch, "n_tokens"));
    let (texts, errors): (&StringArray, &StringArray) = (column(batch, "text"), column(batch, "error"));
    let optional = |strings: &StringArray, at| strings.is_valid(at).then(|| strings.value(at).to_owned());
    let vector = |at| {
        let list = embedding.value(at);
        list.as_any().downcast_ref::<Float32Array>().unwrap().values().to_vec()
    };
    (0..batch.num_rows())
        .map(|at| OutRow {
            row: rows.value(at),
            text: optional(texts, at),
            vector: embedding.is_valid(at).then(|| vector(at)),
            n_tokens: tokens.value(at),
            error: optional(errors, at),
        })
        .collect()
}
