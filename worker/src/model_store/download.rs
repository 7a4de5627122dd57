//! Fetches one file into the cache: under a lock, resumed where an earlier attempt broke off, checked against what the Hub announced.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use ureq::http::StatusCode;

use super::DownloadProgress;
use super::cache::{ModelCache, make_parent};
use super::error::ModelError;
use super::hub::{FRUITLESS_ATTEMPTS_MAX, Failure, FileHead, Hub, header, pause};

/// Bytes between two reports of progress.
const REPORT_BYTES: u64 = 256 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// One file of one commit, about to be fetched.
pub(super) struct Download<'a> {
    pub(super) hub: &'a Hub<'a>,
    pub(super) cache: &'a ModelCache,
    pub(super) name: &'a str,
    pub(super) commit: &'a str,
    pub(super) file: &'a str,
}

impl Download<'_> {
    /// Brings the file into the snapshot. Bytes that are here already, under whatever commit, are not fetched again.
    pub(super) fn run(&self, progress: &mut dyn FnMut(DownloadProgress<'_>)) -> Result<(), ModelError> {
        let head = self.hub.head(self.commit, self.file)?;
        let blob = self.cache.blob(&head.etag);
        let _lock = self.cache.lock(&head.etag)?;
        if !blob.is_file() {
            let part = PathBuf::from(format!("{}.incomplete", blob.display()));
            make_parent(&part).map_err(|source| io_error(&part, source))?;
            tracing::info!(model = self.name, file = self.file, bytes = head.bytes, "downloading");
            self.fetch(&head, &part, progress)?;
            self.check(&head, &part)?;
            std::fs::rename(&part, &blob).map_err(|source| io_error(&blob, source))?;
        }
        self.cache.link(self.commit, self.file, &head.etag)
    }

    fn fetch(
        &self,
        head: &FileHead,
        part: &Path,
        progress: &mut dyn FnMut(DownloadProgress<'_>),
    ) -> Result<(), ModelError> {
        let mut fruitless = 0;
        loop {
            let mut file = File::options().create(true).append(true).open(part).map_err(|e| io_error(part, e))?;
            let start = file.metadata().map_err(|e| io_error(part, e))?.len();
            if start == head.bytes {
                return file.sync_all().map_err(|e| io_error(part, e));
            }
            let reason = match self.fetch_from(start, head, &mut file, progress) {
                Ok(()) => "the connection ended early".to_owned(),
                Err(Failure::MayPass(reason)) => reason,
                Err(Failure::Final(error)) => return Err(error),
            };
            let now = file.metadata().map_err(|e| io_error(part, e))?.len();
            if now == head.bytes {
                continue;
            }
            fruitless = if now > start { 0 } else { fruitless + 1 };
            if fruitless >= FRUITLESS_ATTEMPTS_MAX {
                return Err(self.hub.unexpected(&self.hub.file_url(self.commit, self.file), reason));
            }
            tracing::debug!(file = self.file, bytes = now, reason, "download broke off, resuming");
            if fruitless > 0 {
                pause(fruitless);
            }
        }
    }

    /// Appends what the Hub sends from `start` on. A server that sends the whole file instead is taken at its word.
    fn fetch_from(
        &self,
        start: u64,
        head: &FileHead,
        file: &mut File,
        progress: &mut dyn FnMut(DownloadProgress<'_>),
    ) -> Result<(), Failure> {
        let failed = |source| Failure::Final(io_error(&self.cache.blob(&head.etag), source));
        let start = if start > head.bytes { 0 } else { start };
        let response = self.hub.get(self.commit, self.file, start)?;
        let resumes = response.status() == StatusCode::PARTIAL_CONTENT
            && header(&response, "content-range").is_some_and(|range| range.starts_with(&format!("bytes {start}-")));
        let mut done = if resumes { start } else { 0 };
        if !resumes {
            file.set_len(0).map_err(failed)?;
        }
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(Failure::MayPass("the server refused to resume".to_owned()));
        }
        let mut report = |bytes_done| {
            progress(DownloadProgress { file: self.file, bytes_done, bytes_total: head.bytes });
        };
        report(done);
        let mut reported = done;
        let mut body = response.into_body().into_with_config().limit(head.bytes + 1).reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let read = body.read(&mut buffer).map_err(|error| Failure::MayPass(error.to_string()))?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read]).map_err(failed)?;
            done += read as u64;
            if done - reported >= REPORT_BYTES {
                reported = done;
                report(done);
            }
        }
        report(done);
        Ok(())
    }

    /// Large files are named by their SHA-256: compare it. Small ones have only their size to be judged by.
    fn check(&self, head: &FileHead, part: &Path) -> Result<(), ModelError> {
        if head.etag.len() != 64 {
            return Ok(());
        }
        let mut hasher = Sha256::new();
        let mut file = File::open(part).map_err(|source| io_error(part, source))?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let read = file.read(&mut buffer).map_err(|source| io_error(part, source))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
        }
        let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found == head.etag {
            return Ok(());
        }
        std::fs::remove_file(part).map_err(|source| io_error(part, source))?;
        let reason = format!("its SHA-256 is {found}, announced was {}", head.etag);
        Err(ModelError::Damaged { name: self.name.to_owned(), file: self.file.to_owned(), reason })
    }
}

fn io_error(path: &Path, source: std::io::Error) -> ModelError {
    ModelError::Io { path: path.to_owned(), source }
}
