//! Merging the parts of a finished job into one file, or into files of equal size: streaming, in bounded memory.
//!
//! Every part is checked (size, BLAKE3, footer, row chain) before its rows are used. Where nothing changes, row groups
//! are copied without decoding their vectors. The output appears whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::file::metadata::KeyValue;
use serde::Serialize;
use spec::{OutputDtype, RowCounts};

use super::atomic::{AtomicFile, write_atomically};
use super::columns::{StatusColumns, recode};
use super::element::converts;
use super::error::VectorsError;
use super::holes::RowNumbers;
use super::info::{FileInfo, FileTotals, HOLES_KEY, MANIFEST_DIGEST_KEY, REUSE_KEY, SOURCES_KEY, TEXT_COLUMN_KEY};
use super::layout::{MANIFEST_NAME, is_part_name, part_name};
use super::manifest::Manifest;
use super::manifest_entries::ManifestFile;
use super::parquet_file::{ParquetFile, ROW_GROUP_ROWS_MAX};
use super::place;
use super::read::{BATCH_ROWS, Projection, VectorReader, VectorSet, same_place};
use super::schema::output_schema;
use super::seal::Written;
use super::write::totals_pair;
use crate::DatasetError;

/// A row group of fewer (compressed) bytes and rows than these is encoded again, together with its neighbours: thousands
/// of tiny row groups make a file slow to read.
const COPY_BYTES_MIN: i64 = 1 << 20;
const COPY_ROWS_MIN: usize = ROW_GROUP_ROWS_MAX / 4;

/// How to merge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergeOptions {
    /// Number format of the merged vectors; that of the parts where absent.
    pub output_dtype: Option<OutputDtype>,
    /// Cut the output into files of so many rows (the last may have fewer, and those before a hole) in a folder with a
    /// manifest.
    pub partition_rows: Option<u64>,
    /// Replace an existing output.
    pub overwrite: bool,
}

/// What a merge made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MergeSummary {
    /// The file, or the folder.
    pub out: PathBuf,
    /// The files written, as a manifest lists them; one unless partitioned.
    pub files: Vec<ManifestFile>,
    /// Counts.
    pub totals: RowCounts,
    /// Rows that are in none of the parts; the others keep their numbers.
    pub missing: u64,
    /// Row groups that were copied without decoding.
    pub copied_row_groups: u64,
    /// Row groups that had to be decoded and encoded again.
    pub recoded_row_groups: u64,
}

/// Merges the parts of the finished job in `dir` into the file `out`, or with `partition_rows` into parts and a manifest
/// in the folder `out`. `progress` receives the number of merged rows.
///
/// Refuses a folder without a manifest, and any part that is not what the manifest lists; then no output appears. (With
/// `overwrite`, the parts of an earlier partitioned output are removed before the work begins.)
pub fn merge(
    dir: &Path,
    out: &Path,
    options: &MergeOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<MergeSummary, DatasetError> {
    let set = VectorSet::open(dir)?;
    let manifest = set.manifest.as_ref().expect("a folder opens with its manifest");
    if options.partition_rows == Some(0) {
        return Err(VectorsError::bad_rows("a partition needs at least one row").into());
    }
    if set.has_file(out) {
        return Err(VectorsError::unusable(out, "the output is one of the parts; choose another name").into());
    }
    let mut merger = Merger::start(&set, dir, manifest, out, options)?;
    if options.partition_rows.is_some() {
        claim_folder(dir, out, options.overwrite)?;
    } else {
        merger.open_output()?;
    }
    for_each_checked(&set, |reader| merger.add(&reader, progress))?;
    merger.finish()
}

/// Checks files one ahead of the one that is being used: hashing and copying overlap.
fn for_each_checked(
    set: &VectorSet,
    mut each: impl FnMut(VectorReader) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(1);
        scope.spawn(move || {
            for index in 0..set.files() {
                let opened = set.open_checked(index);
                let failed = opened.is_err();
                if sender.send(opened).is_err() || failed {
                    return;
                }
            }
        });
        receiver.into_iter().try_for_each(|reader| each(reader?))
    })
}

/// Refuses a partitioned output that would mix with existing files.
fn claim_folder(dir: &Path, out: &Path, overwrite: bool) -> Result<(), DatasetError> {
    place::check_writable(out)?;
    if place::url_of(out).is_none() {
        fs::create_dir_all(out).map_err(VectorsError::io("create", out))?;
    }
    if same_place(dir, out) {
        return Err(VectorsError::unusable(out, "the output is the input; name another folder").into());
    }
    for entry in place::list(out)?.unwrap_or_default() {
        if entry.name() == MANIFEST_NAME || is_part_name(&entry.name()) {
            if !overwrite {
                return Err(VectorsError::Exists { path: entry.path }.into());
            }
            place::remove(&entry.path)?;
        }
    }
    Ok(())
}

/// One output file being written.
struct Output {
    temp: AtomicFile,
    file: ParquetFile,
    name: String,
    first_row: u64,
    totals: RowCounts,
}

struct Merger<'a> {
    dir: &'a Path,
    manifest: &'a Manifest,
    manifest_digest: String,
    out: &'a Path,
    options: MergeOptions,
    info: FileInfo,
    schema: SchemaRef,
    recodes: bool,
    output: Option<Output>,
    files: Vec<ManifestFile>,
    totals: RowCounts,
    rows: RowNumbers<'a>,
    /// Name of the column of texts, where the files say it.
    text_column: Option<String>,
    copied: u64,
    recoded: u64,
}

impl<'a> Merger<'a> {
    fn start(
        set: &VectorSet,
        dir: &'a Path,
        manifest: &'a Manifest,
        out: &'a Path,
        options: &MergeOptions,
    ) -> Result<Merger<'a>, VectorsError> {
        let mut info = set.info().clone();
        info.output_dtype = options.output_dtype.unwrap_or(info.output_dtype);
        let (from, to) = (set.info().output_dtype, info.output_dtype);
        if !converts(from, to) {
            let detail = format!(
                "its vectors are {from}, which is rounded, and do not become {to}: leave --output-dtype out, or embed the corpus \
                 again with `--output-dtype {to}` into another directory"
            );
            return Err(VectorsError::unusable(dir, detail));
        }
        Ok(Merger {
            dir,
            manifest,
            manifest_digest: manifest.digest(),
            out,
            options: *options,
            schema: output_schema(set.kept_schema(), &info)?,
            recodes: info.output_dtype != set.info().output_dtype,
            info,
            output: None,
            files: Vec::new(),
            totals: RowCounts::default(),
            rows: RowNumbers::from(0, &manifest.holes),
            text_column: None,
            copied: 0,
            recoded: 0,
        })
    }

    fn open_output(&mut self) -> Result<(), VectorsError> {
        let (path, name) = match self.options.partition_rows {
            None => (self.out.to_owned(), self.out.file_name().unwrap_or_default().to_string_lossy().into_owned()),
            Some(_) => {
                let name = part_name(self.files.len() as u64);
                (self.out.join(&name), name)
            }
        };
        let temp = AtomicFile::create(&path, self.options.overwrite)?;
        let file = ParquetFile::create(temp.path(), &self.schema, &self.info)?;
        let first_row = self.rows.peek();
        self.output = Some(Output { temp, file, name, first_row, totals: RowCounts::default() });
        Ok(())
    }

    /// Rows that the open output file may still take; opens one where none is.
    fn room(&mut self) -> Result<u64, VectorsError> {
        let limit = self.options.partition_rows.unwrap_or(u64::MAX);
        if self.output.as_ref().is_some_and(|output| output.totals.rows >= limit) {
            self.close_output()?;
        }
        if self.output.is_none() {
            self.open_output()?;
        }
        Ok(limit - self.output.as_ref().map_or(0, |output| output.totals.rows))
    }

    fn add(&mut self, reader: &VectorReader, progress: &mut dyn FnMut(u64)) -> Result<(), DatasetError> {
        self.text_column = self.text_column.take().or_else(|| reader.text_column().map(str::to_owned));
        // The rows of a listed file are contiguous: a manifest has no gaps within files.
        if self.rows.skip_hole() > 0 && self.options.partition_rows.is_some() {
            self.close_output()?;
        }
        for group in 0..reader.parquet().num_row_groups() {
            let metadata = reader.parquet().row_group(group);
            let rows = usize::try_from(metadata.num_rows()).unwrap_or_default();
            let large = metadata.compressed_size() >= COPY_BYTES_MIN || rows >= COPY_ROWS_MIN;
            if large && !self.recodes && self.room()? >= rows as u64 {
                self.copy(reader, group)?;
            } else {
                self.recode(reader, group)?;
            }
            progress(self.totals.rows);
        }
        Ok(())
    }

    fn copy(&mut self, reader: &VectorReader, group: usize) -> Result<(), DatasetError> {
        for batch in reader.batches_of(vec![group], &StatusColumns::projection(), BATCH_ROWS)? {
            self.count(reader.path(), &batch?)?;
        }
        let output = self.output.as_mut().expect("asking for room opened an output");
        output.file.copy_row_group(reader.file(), reader.parquet(), group)?;
        self.copied += 1;
        Ok(())
    }

    fn recode(&mut self, reader: &VectorReader, group: usize) -> Result<(), DatasetError> {
        for batch in reader.batches_of(vec![group], &Projection::All, BATCH_ROWS)? {
            let batch = recode(&batch?, reader.info(), &self.schema, &self.info)?;
            let mut start = 0;
            while start < batch.num_rows() {
                let room = usize::try_from(self.room()?).unwrap_or(usize::MAX);
                let piece = batch.slice(start, room.min(batch.num_rows() - start));
                self.count(reader.path(), &piece)?;
                self.output.as_mut().expect("asking for room opened an output").file.write(&piece)?;
                start += piece.num_rows();
            }
        }
        self.recoded += 1;
        Ok(())
    }

    /// Checks that rows follow on each other, and counts them.
    fn count(&mut self, path: &Path, batch: &RecordBatch) -> Result<(), VectorsError> {
        let status = StatusColumns::of(batch);
        for found in status.row.values() {
            let expected = self.rows.next();
            if u64::try_from(*found) != Ok(expected) {
                return Err(VectorsError::damaged(path, format!("it holds row {found}, expected row {expected}")));
            }
        }
        let mut totals = RowCounts::default();
        status.count(&mut totals);
        self.totals.add(&totals);
        self.output.as_mut().expect("rows are counted for an open output").totals.add(&totals);
        Ok(())
    }

    fn close_output(&mut self) -> Result<(), VectorsError> {
        let Some(output) = self.output.take() else { return Ok(()) };
        let totals = FileTotals { first_row: output.first_row, totals: output.totals };
        let sources = serde_json::to_string(&self.manifest.sources).expect("sources have no failing values");
        let mut pairs = vec![
            totals_pair(&totals),
            KeyValue::new(SOURCES_KEY.to_owned(), sources),
            KeyValue::new(MANIFEST_DIGEST_KEY.to_owned(), self.manifest_digest.clone()),
        ];
        if let Some(name) = self.text_column.clone() {
            pairs.push(KeyValue::new(TEXT_COLUMN_KEY.to_owned(), name));
        }
        if self.options.partition_rows.is_none() && !self.manifest.reuse.is_empty() {
            let reuse = serde_json::to_string(&self.manifest.reuse).expect("sources of reuse have no failing values");
            pairs.push(KeyValue::new(REUSE_KEY.to_owned(), reuse));
        }
        if self.options.partition_rows.is_none() && !self.manifest.holes.is_empty() {
            let holes = serde_json::to_string(&self.manifest.holes).expect("holes have no failing values");
            pairs.push(KeyValue::new(HOLES_KEY.to_owned(), holes));
        }
        let written = output.file.finish(pairs)?;
        output.temp.persist()?;
        let FileTotals { first_row, totals: RowCounts { rows, rejects, truncated, tokens, reused } } = totals;
        let (name, Written { bytes, blake3 }) = (output.name, written);
        self.files.push(ManifestFile { name, first_row, rows, bytes, blake3, rejects, truncated, tokens, reused });
        Ok(())
    }

    fn finish(mut self) -> Result<MergeSummary, DatasetError> {
        // Rows do not say where their vectors are from, so that only one file of all rows can count it.
        self.totals.reused = self.manifest.totals.reused;
        if let (None, Some(output)) = (self.options.partition_rows, &mut self.output) {
            output.totals.reused = self.totals.reused;
        }
        if self.totals != self.manifest.totals {
            let manifest = self.dir.join(MANIFEST_NAME);
            return Err(VectorsError::damaged(&manifest, "its totals are not those of the rows in the files").into());
        }
        self.close_output()?;
        if self.options.partition_rows.is_some() {
            let (sources, holes) = (self.manifest.sources.clone(), self.manifest.holes.clone());
            let manifest = Manifest::with_holes(self.info, sources, self.files.clone(), holes)?;
            write_atomically(&self.out.join(MANIFEST_NAME), &manifest.to_bytes())?;
        }
        Ok(MergeSummary {
            out: self.out.to_owned(),
            files: self.files,
            totals: self.totals,
            missing: self.manifest.missing(),
            copied_row_groups: self.copied,
            recoded_row_groups: self.recoded,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::VectorWriter;
    use super::super::info::tests::info;
    use super::super::testing::{Job, all_rows, chunk, flip, job, kept_schema, punch, row_texts, write_job};
    use super::super::verify::check_target;
    use super::*;

    fn options(output_dtype: Option<OutputDtype>, partition_rows: Option<u64>) -> MergeOptions {
        MergeOptions { output_dtype, partition_rows, overwrite: false }
    }

    fn merged(job: &Job, options: &MergeOptions) -> (PathBuf, MergeSummary) {
        let out = job.path().join(if options.partition_rows.is_some() { "merged" } else { "merged.parquet" });
        let mut last = 0;
        let summary = merge(&job.dir(), &out, options, &mut |rows| last = rows).unwrap();
        assert_eq!(last, summary.totals.rows);
        (out, summary)
    }

    #[test]
    fn a_merged_file_holds_the_rows_of_the_parts_and_verifies_alone() {
        let job = job(8, &[3, 1, 40, 7]);
        let (out, summary) = merged(&job, &options(None, None));
        assert_eq!(row_texts(&all_rows(&out)), row_texts(&all_rows(&job.dir())));
        assert_eq!(summary.files.len(), 1);
        assert_eq!(summary.files[0].bytes, fs::metadata(&out).unwrap().len());
        assert!(check_target(&out).passed());
    }

    #[test]
    fn large_row_groups_are_copied_and_give_the_same_rows() {
        let job = job(256, &[2000, 10, 1500]);
        let (out, summary) = merged(&job, &options(None, None));
        assert_eq!((summary.copied_row_groups, summary.recoded_row_groups), (2, 1));
        assert_eq!(row_texts(&all_rows(&out)), row_texts(&all_rows(&job.dir())));
        assert!(check_target(&out).passed());
    }

    #[test]
    fn partitions_have_equal_size_and_a_manifest_that_verifies() {
        let job = job(256, &[2000, 10, 1500]);
        let (out, summary) = merged(&job, &options(None, Some(900)));
        let sizes: Vec<u64> = summary.files.iter().map(|file| file.rows).collect();
        assert_eq!(sizes, [900, 900, 900, 810]);
        assert_eq!(row_texts(&all_rows(&out)), row_texts(&all_rows(&job.dir())));
        assert!(check_target(&out).passed());
    }

    #[test]
    fn missing_rows_leave_the_others_their_numbers_and_are_told_of() {
        for (dimensions, parts, holes) in [(8, &[3, 1, 40, 7][..], &[0, 2][..]), (256, &[2000, 10, 1500], &[1])] {
            let job = job(dimensions, parts);
            punch(&job.dir(), holes);
            let missing: u64 = holes.iter().map(|index| parts[*index] as u64).sum();
            let (out, summary) = merged(&job, &options(None, None));
            assert_eq!((summary.missing, VectorReader::open(&out).unwrap().missing()), (missing, missing));
            assert_eq!(row_texts(&all_rows(&out)), row_texts(&all_rows(&job.dir())));
            let report = check_target(&out);
            assert!(report.passed() && report.missing == missing, "{report}");
            assert!(check_target(&job.dir()).passed());
        }
    }

    #[test]
    fn partitions_end_before_a_hole() {
        let job = job(8, &[3, 1, 40, 7]);
        punch(&job.dir(), &[2]);
        let (out, summary) = merged(&job, &options(None, Some(5)));
        let places: Vec<_> = summary.files.iter().map(|file| (file.first_row, file.rows)).collect();
        assert_eq!(places, [(0, 4), (44, 5), (49, 2)]);
        assert_eq!(row_texts(&all_rows(&out)), row_texts(&all_rows(&job.dir())));
        let report = check_target(&out);
        assert!(report.passed() && report.missing == 40, "{report}");
    }

    #[test]
    fn merging_to_16_bit_floats_rounds_and_says_so_in_the_footer() {
        let job = job(8, &[5, 6]);
        let (out, _) = merged(&job, &options(Some(OutputDtype::F16), None));
        let reader = VectorReader::open(&out).unwrap();
        assert_eq!(reader.info().output_dtype, OutputDtype::F16);
        assert!(check_target(&out).passed());
        let full = all_rows(&job.dir());
        let rounded: Vec<_> =
            full.iter().map(|batch| recode(batch, &info(8), reader.schema(), reader.info()).unwrap()).collect();
        assert_eq!(row_texts(&all_rows(&out)), row_texts(&rounded));
    }

    #[test]
    fn floats_merge_to_the_quantized_vectors_that_a_run_writes() {
        for output_dtype in [OutputDtype::Int8, OutputDtype::Binary] {
            let job = job(11, &[5, 20]);
            let (out, _) = merged(&job, &options(Some(output_dtype), None));
            let quantized = FileInfo { output_dtype, ..info(11) };
            let directory = job.path().join("quantized");
            write_job(&directory, &quantized, &[5, 20]);
            assert_eq!(row_texts(&all_rows(&out)), row_texts(&all_rows(&directory)));
            let report = check_target(&out);
            assert!(report.passed(), "{report}");
        }
    }

    #[test]
    fn what_quantized_vectors_have_lost_is_not_made_up() {
        use OutputDtype::{Binary, F16, F32, Int8};
        let refused = |from, into| {
            let job = Job::new();
            write_job(&job.dir(), &FileInfo { output_dtype: from, ..info(8) }, &[5, 6]);
            let out = job.path().join("merged.parquet");
            let error = merge(&job.dir(), &out, &options(Some(into), None), &mut |_| ()).err()?.to_string();
            assert!(error.contains("--output-dtype") && error.contains(&into.to_string()), "{error}");
            Some(error)
        };
        let pairs = OutputDtype::ALL.iter().flat_map(|from| OutputDtype::ALL.iter().map(move |into| (*from, *into)));
        let found: Vec<_> = pairs.filter(|(from, into)| refused(*from, *into).is_some()).collect();
        let expected = [(Int8, F32), (Int8, F16), (Int8, Binary), (Binary, F32), (Binary, F16), (Binary, Int8)];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_job_without_rows_merges_to_a_file_without_rows() {
        let job = job(8, &[]);
        let (out, summary) = merged(&job, &options(None, None));
        assert_eq!(summary.totals.rows, 0);
        assert!(check_target(&out).passed());
    }

    #[test]
    fn damage_is_refused_by_name_and_nothing_is_written() {
        let job = job(8, &[5, 6, 7]);
        let dir = job.dir();
        let out = job.path().join("merged.parquet");
        let last = fs::metadata(dir.join("part-00000.parquet")).unwrap().len() as usize - 1;
        flip(&dir.join("part-00000.parquet"), last);
        let error = merge(&dir, &out, &MergeOptions::default(), &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("part-00000.parquet") && error.contains("again"), "{error}");
        flip(&dir.join("part-00000.parquet"), last);
        flip(&dir.join("part-00001.parquet"), 100);
        let error = merge(&dir, &out, &MergeOptions::default(), &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("part-00001.parquet") && error.contains("again"), "{error}");
        fs::remove_file(dir.join("part-00002.parquet")).unwrap();
        flip(&dir.join("part-00001.parquet"), 100);
        let error = merge(&dir, &out, &MergeOptions::default(), &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("part-00002.parquet") && error.contains("missing"), "{error}");
        fs::remove_file(dir.join(MANIFEST_NAME)).unwrap();
        let error = merge(&dir, &out, &MergeOptions::default(), &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("not finished"), "{error}");
        assert_eq!(fs::read_dir(job.path()).unwrap().count(), 1, "only the job exists");
    }

    #[test]
    fn an_output_that_is_there_is_replaced_only_on_request() {
        let job = job(8, &[5]);
        let (dir, out) = (job.dir(), job.path().join("merged.parquet"));
        fs::write(&out, "mine").unwrap();
        let error = merge(&dir, &out, &MergeOptions::default(), &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("exists already"), "{error}");
        let overwrite = MergeOptions { overwrite: true, ..MergeOptions::default() };
        merge(&dir, &out, &overwrite, &mut |_| ()).unwrap();
        assert_eq!(VectorReader::open(&out).unwrap().rows(), 5);
        let error = merge(&dir, &dir.join(part_name(0)), &overwrite, &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("one of the parts"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn random_parts_merge_to_the_rows_of_one_file_written_directly(
            parts in proptest::collection::vec(0usize..70, 0..6),
            partition_rows in proptest::option::of(1u64..90),
        ) {
            let job = job(5, &parts);
            let (out, summary) = merged(&job, &options(None, partition_rows));
            let rows: usize = parts.iter().sum();
            let direct = job.path().join("direct.parquet");
            let mut writer = VectorWriter::create(&direct, &kept_schema(), &info(5)).unwrap();
            writer.write(chunk(&info(5), 0, rows)).unwrap();
            let direct_totals = writer.finish().unwrap().to_manifest_file("direct").totals();
            prop_assert_eq!(&summary.totals, &direct_totals);
            prop_assert_eq!(row_texts(&all_rows(&out)), row_texts(&all_rows(&direct)));
            prop_assert!(check_target(&out).passed());
        }
    }
}
