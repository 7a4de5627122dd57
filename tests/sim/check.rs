//! What must hold when all is over: every job has what it promised, and the disk holds that and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;
use std::time::Duration;

use bytes::Bytes;
use dataset::vectors::layout;
use dataset::{Manifest, RejectReason};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use proto::job::{JobBrief, JobState, JobStatus};
use proto::{JobId, JobsClient};

use crate::clock::BEGIN_MS;
use crate::corpus::{Missing, SimJob};
use crate::driver::policy;
use crate::files::{Rows, file_of, info_of};
use crate::world::{Node, World};

/// Every how many runs the output is also put into a folder, verified and merged by the code that users run.
const VERIFIED: u64 = 16;

/// Checks all jobs; the last argument says whether they are expected to have ended.
pub(crate) async fn all(world: &World, jobs: &[SimJob], user: &JobsClient, ended: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let disk = everything(world).await;
    let mut expected = BTreeSet::new();
    for job in jobs {
        let Ok(status) = user.get(job.id).await else {
            problems.push(format!("job {} cannot be shown", job.id));
            continue;
        };
        if status.state == JobState::Succeeded {
            problems.extend(succeeded(world, &disk, job, &status).await);
        }
        expected.extend(files_of(world, job.id, &status));
    }
    // I12 and I13: nothing but winners, live attempts and manifests, and what tells the storage from others.
    expected.insert(dataset::STORAGE_ID_KEY.to_owned());
    let left = disk.keys().filter(|key| ended && !expected.contains(*key) && !is_old_manifest(key));
    problems.extend(left.map(|key| format!("I12: `{key}` is left over")));
    problems
}

/// Tells of the shards that are not done, with their attempts.
pub(crate) fn unfinished(world: &World, jobs: &[SimJob]) -> String {
    let mut told = String::new();
    for SimJob { id: job, .. } in jobs {
        for (index, shard) in world.memory.shards(*job).iter().enumerate().filter(|(_, shard)| shard.winner.is_none()) {
            told.push_str(&format!("\n{job}/{index} {} {:?}", shard.state, shard.attempts));
        }
    }
    told
}

/// What must hold at any time: the file of a committed shard is there, and the manifest of a job that has succeeded (I5).
/// They may be damaged, but nothing removes them.
pub(crate) async fn files(world: &World, jobs: &[SimJob]) {
    for SimJob { id: job, .. } in jobs {
        let winners = world.memory.shards(*job).into_iter().filter_map(|shard| shard.winner);
        for key in winners.chain(world.memory.manifest(*job)) {
            if world.disk.head(&Path::from(key.as_str())).await.is_err() {
                world.violated(format!("I5: `{key}` was committed and is not there"));
            }
        }
    }
}

/// Whether any shard is committed.
pub(crate) fn any_winner(world: &World, jobs: &[SimJob]) -> bool {
    jobs.iter().flat_map(|job| world.memory.shards(job.id)).any(|shard| shard.winner.is_some())
}

/// Returns the shards of a job that has succeeded whose files are not as the manifest lists them, as `verify` finds them.
pub(crate) async fn damaged(world: &World, status: &JobBrief) -> Vec<u64> {
    let Some(key) = &status.manifest_key else { return Vec::new() };
    let read = async |key: &str| world.disk.get(&Path::from(key)).await.ok()?.bytes().await.ok();
    let Some(bytes) = read(key).await else { return Vec::new() };
    let Ok(manifest) = Manifest::parse(FilePath::new(key), &bytes) else { return Vec::new() };
    let mut damaged = Vec::new();
    for file in &manifest.files {
        let found = read(&file.name).await;
        if found.is_none_or(|bytes| blake3::hash(&bytes).to_hex().as_str() != file.blake3) {
            damaged.extend(shard_of(&file.name));
        }
    }
    damaged
}

/// Returns the shard whose key is in a text.
pub(crate) fn shard_of(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("/shards/")?;
    rest.split('/').next()?.parse().ok()
}

/// What must hold at any time: a worker that is heard holds nothing that it does not know of (I9).
pub(crate) fn look(world: &World, jobs: &[SimJob]) {
    let sessions = world.memory.sessions();
    let ttl = Duration::from_millis(policy(false).ttl_ms.unsigned_abs());
    for SimJob { id: job, .. } in jobs {
        for (index, attempt) in world.memory.leases(*job) {
            let lives = sessions.iter().any(|session| session.id == attempt.session && session.live);
            let granted = Duration::from_millis((attempt.granted_ms - BEGIN_MS).unsigned_abs());
            let lease = (job.to_string(), index, attempt.epoch.0);
            let session = attempt.session.to_string();
            if lives && world.is_unknown_to(&session, &lease, world.begin + granted + ttl) {
                let epoch = attempt.epoch;
                world.violated(format!("I9: {job}/{index} epoch {epoch} is held by a worker that never heard of it"));
            }
        }
    }
}

/// Every worker that runs has a session (I9).
pub(crate) fn idle_workers(world: &World, workers: usize) -> Vec<String> {
    let sessions = world.memory.sessions();
    let names = (0..workers).map(|number| Node::Worker(number).to_string());
    let idle = names.filter(|name| !sessions.iter().any(|session| session.live && session.name == *name));
    idle.map(|name| format!("I9: {name} has no session")).collect()
}

/// Whether no attempt is left whose object is to be deleted.
pub(crate) fn is_cleared(world: &World, jobs: &[SimJob]) -> bool {
    let mut attempts = jobs.iter().flat_map(|job| world.memory.shards(job.id)).flat_map(|shard| shard.attempts);
    attempts.all(|attempt| attempt.deleted || attempt.state == "live" || attempt.state == "committed")
}

/// A repair begins another manifest; the earlier ones stay.
fn is_old_manifest(key: &str) -> bool {
    key.rsplit('/').next().is_some_and(|name| name.starts_with("manifest-"))
}

async fn everything(world: &World) -> BTreeMap<String, Bytes> {
    let found: Vec<_> = world.disk.list(None).try_collect().await.unwrap();
    let mut objects = BTreeMap::new();
    for meta in found {
        let bytes = world.disk.get(&meta.location).await.unwrap().bytes().await.unwrap();
        objects.insert(meta.location.to_string(), bytes);
    }
    objects
}

/// The files that may be there.
fn files_of(world: &World, job: JobId, status: &JobStatus) -> Vec<String> {
    let mut files: Vec<String> = status.manifest_key.iter().cloned().collect();
    for shard in world.memory.shards(job) {
        let live = shard.attempts.iter().filter(|attempt| attempt.state == "live");
        files.extend(live.map(|attempt| attempt.key.clone()));
        files.extend(shard.winner);
    }
    files
}

/// I1, I5, I6, I11: the manifest lists exactly the winners and, where some may be missing, the rows of dead shards; the
/// winners are there as listed, and all of that is the corpus.
async fn succeeded(world: &World, disk: &BTreeMap<String, Bytes>, wanted: &SimJob, status: &JobStatus) -> Vec<String> {
    let SimJob { id: job, rows, missing } = *wanted;
    let mut problems = Vec::new();
    let Some(key) = &status.manifest_key else { return vec![format!("I5: job {job} has no manifest")] };
    let Some(bytes) = disk.get(key) else { return vec![format!("I5: `{key}` is not there")] };
    let manifest = match Manifest::parse(FilePath::new(key), bytes) {
        Ok(manifest) => manifest,
        Err(error) => return vec![format!("I5: {error}")],
    };
    let digest = wanted.spec().digest();
    if manifest.info != info_of(job, &digest) {
        problems.push(format!("I5: `{key}` describes other vectors: {:?}", manifest.info));
    }
    problems.extend(manifest.problems().into_iter().map(|problem| format!("I6: {problem}")));
    let holes: Vec<_> = manifest.holes.iter().map(|hole| hole.first_row..hole.first_row + hole.rows).collect();
    let mut dead = world.memory.shards(job);
    dead.retain(|shard| shard.state == "dead" && !shard.rows.is_empty());
    let mut dead: Vec<_> = dead.into_iter().map(|shard| shard.rows).collect();
    dead.sort_by_key(|rows| rows.start);
    if holes != dead || !holes.is_empty() && (missing != Missing::Allowed || manifest.files.is_empty()) {
        problems.push(format!("I1: {missing:?} are missing: {holes:?}; dead are {dead:?}"));
    }
    let there = rows - manifest.missing();
    if manifest.totals.rows != there || status.counts.rows != there || status.rows_planned != rows {
        let (listed, counted, planned) = (manifest.totals.rows, status.counts.rows, status.rows_planned);
        problems.push(format!("I1: {rows} rows, {listed} listed, {counted} counted, {planned} planned"));
    }
    for file in &manifest.files {
        let is_poison = file.rejects.contains_key(&RejectReason::WorkerCrash);
        let rows = Rows { first: file.first_row, count: file.rows, is_poison, misread: false };
        let made = file_of(job, &digest, rows);
        let guilty = (file.first_row..file.first_row + file.rows).any(|row| world.is_poison(job, row));
        if guilty && !is_poison {
            problems.push(format!("`{}` holds a row that kills workers", file.name));
        }
        if is_poison && !guilty && world.gentle {
            problems.push(format!("`{}` rejects an innocent row", file.name));
        }
        match disk.get(&file.name) {
            None => problems.push(format!("I5: `{}` is listed and not there", file.name)),
            Some(bytes) if *bytes != made.bytes => problems.push(format!("I5: `{}` is not as made", file.name)),
            Some(_) if file.blake3 != made.summary.blake3 || file.rejects != made.summary.rejects => {
                problems.push(format!("I5: `{}` is not as listed", file.name));
            }
            Some(_) => {}
        }
    }
    if problems.is_empty() && common::rng::below(VERIFIED) == 0 {
        problems.extend(verified(disk, &manifest).await);
    }
    problems
}

/// Verifies and merges the output as users do.
async fn verified(disk: &BTreeMap<String, Bytes>, manifest: &Manifest) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let parts = folder.path().join("parts");
    std::fs::create_dir(&parts).unwrap();
    let mut local = manifest.clone();
    for (index, file) in (0..).zip(&mut local.files) {
        let name = layout::part_name(index);
        std::fs::write(parts.join(&name), &disk[&file.name]).unwrap();
        file.name = name;
    }
    std::fs::write(parts.join(layout::MANIFEST_NAME), local.to_bytes()).unwrap();
    let mut problems = Vec::new();
    let report = dataset::vectors::verify(&parts, None, None, &mut |_| {}).await.unwrap();
    problems.extend(report.problems.iter().map(|problem| format!("verify: {problem:?}")));
    let merged = dataset::vectors::merge(&parts, &folder.path().join("all.parquet"), &Default::default(), &mut |_| {});
    match merged {
        Ok(summary) if summary.totals == local.totals => {}
        Ok(summary) => problems.push(format!("merge: {summary:?}")),
        Err(error) => problems.push(format!("merge: {error}")),
    }
    problems
}
