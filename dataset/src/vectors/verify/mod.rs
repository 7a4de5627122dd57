//! Checks every promise of the output, on a folder or on one file, alone or beside its corpus: streaming, in bounded
//! memory. Damage is not an error: the report lists it, with the file and the row.

mod corpus;
mod report;
mod reuse;
mod rows;

use std::collections::BTreeSet;
use std::path::Path;

pub use corpus::VerifyCorpus;
pub use report::{Check, CheckResult, HOLES_MAX, PROBLEMS_MAX, Problem, VerifyReport};
pub use reuse::VerifyReuse;
use spec::RowCounts;

use self::corpus::CorpusRows;
use self::rows::RowChecker;
use super::error::VectorsError;
use super::info::{FileInfo, SOURCES_KEY};
use super::layout::{MANIFEST_NAME, is_part_name};
use super::manifest::Manifest;
use super::manifest_entries::{ManifestFile, ManifestHole, ManifestSource, missing_in};
use super::place;
use super::read::{BATCH_ROWS, Projection, VectorReader};
use super::seal::{check_seal, open_listed};
use crate::DatasetError;

const FOLDER_CHECKS: [Check; 4] = [Check::Manifest, Check::FileSize, Check::FileChecksum, Check::StrayFiles];
const FILE_CHECKS: [Check; 1] = [Check::FileChecksum];
const ROW_CHECKS: [Check; 9] = [
    Check::Footer,
    Check::Decoding,
    Check::RowNumbers,
    Check::Counts,
    Check::VectorOrError,
    Check::ReasonKnown,
    Check::Finite,
    Check::UnitNorm,
    Check::TokenCounts,
];
const REUSE_CHECKS: [Check; 1] = [Check::ReusedRows];
const CORPUS_CHECKS: [Check; 3] = [Check::CorpusRows, Check::CorpusColumns, Check::CorpusReasons];

/// Called with the number of rows checked so far.
type Progress<'a> = &'a mut (dyn FnMut(u64) + Send);

/// Checks every promise of the output in `target`: the folder of a finished job, or one file. With a corpus, also that
/// the output is of that corpus, row by row. With the earlier outputs that it took vectors from, also that a sample of its files did.
///
/// Reads the disk on the calling thread: meant for a command of its own, not for a busy runtime.
///
/// # Errors
/// Only where nothing can be checked: no manifest, nothing there, a newer format, a corpus that cannot be read. What is
/// wrong with the output is in the report.
pub async fn verify(
    target: &Path,
    corpus: Option<&VerifyCorpus>,
    reuse: Option<VerifyReuse>,
    progress: Progress<'_>,
) -> Result<VerifyReport, DatasetError> {
    let corpus = match corpus {
        Some(corpus) => Some(Box::pin(CorpusRows::open(corpus)).await?),
        None => None,
    };
    let first: &[Check] = if place::is_folder(target) { &FOLDER_CHECKS } else { &FILE_CHECKS };
    let of_reuse: &[Check] = if reuse.is_some() { &REUSE_CHECKS } else { &[] };
    let last: &[Check] = if corpus.is_some() { &CORPUS_CHECKS } else { &[] };
    let report = VerifyReport::new(target, &[first, &ROW_CHECKS, of_reuse, last].concat());
    let verifier = Verifier { report, corpus, reuse, progress };
    if place::is_folder(target) { verifier.folder(target).await } else { verifier.file(target).await }
}

struct Verifier<'a> {
    report: VerifyReport,
    corpus: Option<CorpusRows>,
    reuse: Option<VerifyReuse>,
    progress: Progress<'a>,
}

impl Verifier<'_> {
    async fn folder(mut self, dir: &Path) -> Result<VerifyReport, DatasetError> {
        let manifest = match Manifest::load(dir) {
            Ok(manifest) => manifest,
            Err(DatasetError::Vectors(VectorsError::Damaged { path, detail })) => {
                self.report.problem(Check::Manifest, Some(&path), None, detail);
                return Ok(self.report);
            }
            Err(error) => return Err(error),
        };
        let manifest_path = dir.join(MANIFEST_NAME);
        for problem in manifest.problems() {
            self.report.problem(Check::Manifest, Some(&manifest_path), None, problem);
        }
        self.check_strays(dir, &manifest)?;
        self.expect_holes(&manifest.holes);
        let mut rows = RowChecker::new(&manifest.info, 0, &manifest.holes);
        let mut first = None;
        let mut unread = false;
        for file in &manifest.files {
            let path = Manifest::path_of(dir, file);
            self.report.files += 1;
            rows.go_on(file.first_row);
            let Some(reader) = self.open_listed(&path, file, &manifest.info, &mut first)? else {
                unread = true;
                self.skip(file.rows).await?;
                continue;
            };
            self.check_file_rows(&reader, &mut rows, &file.totals()).await?;
        }
        if !unread && self.report.totals != manifest.totals {
            let detail = "the counts of the rows are not the totals of the manifest";
            self.report.problem(Check::Counts, Some(&manifest_path), None, detail);
        }
        self.finish(manifest.totals.rows).await
    }

    async fn file(mut self, path: &Path) -> Result<VerifyReport, DatasetError> {
        self.report.files = 1;
        let file = place::open(path)?;
        match check_seal(path, &file) {
            Ok(()) => {}
            Err(VectorsError::Damaged { detail, .. }) => {
                self.report.problem(Check::FileChecksum, Some(path), None, format!("{detail}; its rows were not read"));
                return Ok(self.report);
            }
            Err(error) => return Err(error.into()),
        }
        let reader = match VectorReader::of(path, file) {
            Ok(reader) => reader,
            Err(error) if is_unusable(&error) => return Err(error),
            Err(error) => {
                self.report.problem(Check::Footer, Some(path), None, common::error_chain(&error));
                return Ok(self.report);
            }
        };
        let totals = reader.totals().clone();
        self.expect_holes(reader.holes());
        let mut rows = RowChecker::new(reader.info(), totals.first_row, reader.holes());
        self.check_sources(&reader, totals.totals.rows);
        self.check_file_rows(&reader, &mut rows, &totals.totals).await?;
        self.finish(totals.totals.rows).await
    }

    /// Takes it that these rows are missing.
    fn expect_holes(&mut self, holes: &[ManifestHole]) {
        if let Some(corpus) = &mut self.corpus {
            corpus.expect_holes(holes);
        }
        self.report.missing = missing_in(holes);
        self.report.holes = holes[..holes.len().min(HOLES_MAX)].to_vec();
    }

    /// A file that tells its sources is the whole of them, or one partition.
    fn check_sources(&mut self, reader: &VectorReader, rows: u64) {
        let Some(json) = reader.footer_value(SOURCES_KEY) else { return };
        let Ok(sources) = serde_json::from_str::<Vec<ManifestSource>>(json) else {
            self.report.problem(Check::Footer, Some(reader.path()), None, "the sources in its footer do not parse");
            return;
        };
        let records = sources.iter().fold(0u64, |sum, source| sum.saturating_add(source.rows));
        // A file with holes has all of them, those before its first row too.
        let before = if reader.holes().is_empty() { reader.totals().first_row } else { reader.missing() };
        if before.saturating_add(rows) > records {
            let detail = format!("its sources have {records} records, too few for its rows");
            self.report.problem(Check::Counts, Some(reader.path()), None, detail);
        }
    }

    fn check_strays(&mut self, dir: &Path, manifest: &Manifest) -> Result<(), DatasetError> {
        let listed: BTreeSet<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
        // The folders of a web server cannot be listed, and nobody reads what is not named there.
        for entry in place::list(dir)?.unwrap_or_default() {
            if is_part_name(&entry.name()) && !listed.contains(entry.name().as_ref()) {
                self.report.problem(Check::StrayFiles, Some(&entry.path), None, "the manifest does not list it");
            }
        }
        Ok(())
    }

    /// Opens a listed file if its bytes are as listed: the bytes of a damaged file are not decoded.
    fn open_listed(
        &mut self,
        path: &Path,
        file: &ManifestFile,
        info: &FileInfo,
        first: &mut Option<VectorReader>,
    ) -> Result<Option<VectorReader>, DatasetError> {
        let problem = match place::size_of(path) {
            Ok(Some(found)) if found == file.bytes => None,
            Ok(Some(found)) => Some(format!("{found} bytes, expected {}; its rows were not read", file.bytes)),
            Ok(None) => Some("cannot be read: it does not exist".to_owned()),
            Err(error) => Some(format!("cannot be read: {}", common::error_chain(&error))),
        };
        if let Some(problem) = problem {
            self.report.problem(Check::FileSize, Some(path), None, problem);
            return Ok(None);
        }
        let opened = match open_listed(path, file.bytes, &file.blake3) {
            Ok(opened) => opened,
            Err(VectorsError::Damaged { detail, .. }) => {
                let detail = format!("{detail}; its rows were not read");
                self.report.problem(Check::FileChecksum, Some(path), None, detail);
                return Ok(None);
            }
            // Nothing that the file promises.
            Err(error @ VectorsError::Temporary { .. }) => return Err(error.into()),
            Err(error) => {
                self.report.problem(Check::FileChecksum, Some(path), None, common::error_chain(&error));
                return Ok(None);
            }
        };
        let reader = match VectorReader::of(path, opened) {
            Ok(reader) => reader,
            Err(error) => {
                self.report.problem(Check::Footer, Some(path), None, common::error_chain(&error));
                return Ok(None);
            }
        };
        if !info.agrees_with(reader.info()) {
            let detail = "its footer names another job, model or setting than the manifest";
            self.report.problem(Check::Footer, Some(path), None, detail);
        }
        let first = first.get_or_insert_with(|| reader.clone());
        if first.kept_schema() != reader.kept_schema() {
            let detail = format!("its kept columns are not those of `{}`", first.path().display());
            self.report.problem(Check::Footer, Some(path), None, detail);
        }
        if reader.totals().totals != file.totals() || (file.rows > 0 && reader.totals().first_row != file.first_row) {
            self.report.problem(Check::Counts, Some(path), None, "its footer counts otherwise than the manifest");
        }
        // Vectors of another length cannot be checked against this manifest.
        Ok((reader.info().dimensions == info.dimensions).then_some(reader))
    }

    async fn check_file_rows(
        &mut self,
        reader: &VectorReader,
        rows: &mut RowChecker<'_>,
        expected: &RowCounts,
    ) -> Result<(), DatasetError> {
        let path = reader.path();
        let mut totals = RowCounts::default();
        for batch in reader.batches(&Projection::All, BATCH_ROWS)? {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    self.report.problem(
                        Check::Decoding,
                        Some(path),
                        Some(rows.next_row()),
                        common::error_chain(&error),
                    );
                    self.skip(expected.rows.saturating_sub(totals.rows)).await?;
                    break;
                }
            };
            rows.check(path, &batch, &mut totals, &mut self.report);
            if let Some(corpus) = &mut self.corpus {
                Box::pin(corpus.compare(reader, &batch, &mut self.report)).await?;
            }
            if let Some(reuse) = &mut self.reuse {
                reuse.compare(reader, &batch, expected)?;
            }
            (self.progress)(self.report.totals.rows + totals.rows);
        }
        if let Some(reuse) = &mut self.reuse {
            reuse.end_file(path, expected, &mut self.report);
        }
        // Rows do not say where their vectors are from.
        totals.reused = expected.reused;
        if &totals != expected {
            let detail = format!("its rows count {}, expected {}", spell(&totals), spell(expected));
            self.report.problem(Check::Counts, Some(path), None, detail);
        }
        self.report.totals.add(&totals);
        Ok(())
    }

    async fn skip(&mut self, rows: u64) -> Result<(), DatasetError> {
        match &mut self.corpus {
            Some(corpus) => Box::pin(corpus.skip(rows)).await,
            None => Ok(()),
        }
    }

    async fn finish(mut self, rows: u64) -> Result<VerifyReport, DatasetError> {
        if let Some(corpus) = &mut self.corpus {
            let records = Box::pin(corpus.count_all()).await?;
            let missing = self.report.missing;
            if records != rows.saturating_add(missing) {
                let holes = if missing > 0 { format!(" and holes of {missing}") } else { String::new() };
                let detail = format!("the corpus has {records} records, the output {rows} rows{holes}");
                self.report.problem(Check::CorpusRows, None, None, detail);
            }
        }
        Ok(self.report)
    }
}

fn is_unusable(error: &DatasetError) -> bool {
    matches!(error, DatasetError::Vectors(VectorsError::Unusable { .. }))
}

fn spell(totals: &RowCounts) -> String {
    let reasons: Vec<_> = totals.rejects.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let RowCounts { rows, truncated, tokens, .. } = totals;
    format!("{rows} rows ({}), {truncated} truncated, {tokens} tokens", reasons.join(", "))
}

/// Verifies without a corpus, for the tests beside.
#[cfg(test)]
pub(super) fn try_target(target: &Path) -> Result<VerifyReport, DatasetError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    runtime.block_on(verify(target, None, None, &mut |_| ()))
}

/// As [`try_target`], where there must be a report.
#[cfg(test)]
pub(super) fn check_target(target: &Path) -> VerifyReport {
    try_target(target).expect("a report")
}

#[cfg(test)]
mod tests;
