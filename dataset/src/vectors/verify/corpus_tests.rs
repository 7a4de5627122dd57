//! Outputs made of real corpora, checked beside them: the whole way through planning, cutting and reading.

use std::fs;
use std::io::Write as _;

use super::super::super::info::tests::info;
use super::super::super::layout::part_name;
use super::super::super::testing::Numbers;
use super::super::super::{
    FileInfo, Manifest, ManifestSource, MergeOptions, RowStatus, VectorChunk, VectorWriter, merge,
};
use super::super::verify;
use super::*;
use crate::corpus::{CutLimits, Cutter, expand, inspect, read};
use crate::storage::Storage;
use crate::vectors::layout::MANIFEST_NAME;
use crate::{Cursor, PlannedSource};

const ROWS: u64 = 300;

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Every tenth text is empty; the third column is a number.
fn csv(rows: u64) -> String {
    let mut text = "id,text,weight\n".to_owned();
    for row in 0..rows {
        let line = if row % 10 == 4 { String::new() } else { format!("\"frase, {row}\nen dos líneas\"") };
        text.push_str(&format!("k{row},{line},{}\n", row * 2));
    }
    text
}

fn gzip(path: &Path, text: &str) {
    let mut encoder = flate2::write::GzEncoder::new(fs::File::create(path).unwrap(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap();
}

fn corpus(paths: &[&Path]) -> VerifyCorpus {
    let patterns: Vec<_> = paths.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let options = ReadOptions::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    VerifyCorpus { sources: runtime.block_on(expand(&patterns, None)).unwrap(), options }
}

fn vectors_of(info: &FileInfo, chunk: RecordChunk) -> VectorChunk {
    let mut vectors = Vec::new();
    let mut status = Vec::new();
    for (row, text) in (chunk.first_row..).zip(&chunk.texts) {
        let mut numbers = Numbers(row);
        let raw: Vec<f32> = (0..info.dimensions).map(|_| numbers.component()).collect();
        let norm = raw.iter().map(|value| value * value).sum::<f32>().sqrt();
        vectors.extend(raw.iter().map(|value| value / norm));
        status.push(RowStatus { n_tokens: 9, truncated: false, error: text.as_ref().err().copied() });
    }
    VectorChunk { first_row: chunk.first_row, kept: chunk.kept, vectors, status, reused: None }
}

/// Embeds a corpus with generated vectors, in shards of 70 rows, as the real pipeline does.
async fn embed(corpus: &VerifyCorpus, dir: &Path) -> Result<(), DatasetError> {
    fs::create_dir(dir).unwrap();
    let info = info(4);
    let planned = inspect(&corpus.sources, &corpus.options).await?;
    let kept = kept_schema_of(&planned[0])?;
    let folder = tempfile::tempdir().unwrap();
    let recut = Storage::open(&folder.path().to_string_lossy())?;
    let limits = CutLimits { rows_max: 70, bytes_max: 1 << 20 };
    let options = corpus.options.clone();
    let mut cutter =
        Cutter::new(planned.clone(), options, limits, recut.clone(), "recut".into(), Cursor::default()).await?;
    let mut rows_of = vec![0; planned.len()];
    let mut files = Vec::new();
    while let Some(slice) = cutter.next().await? {
        let name = part_name(files.len() as u64);
        let mut writer = VectorWriter::create(&dir.join(&name), &kept, &info)?;
        let source = &planned[slice.source_index as usize];
        let mut reader = read(source, &slice, &corpus.options, &recut).await?;
        while let Some(chunk) = reader.next_chunk().await? {
            writer.write(vectors_of(&info, chunk))?;
        }
        files.push(writer.finish()?.to_manifest_file(name));
        rows_of[slice.source_index as usize] += slice.rows;
    }
    let source = |(planned, rows): (&PlannedSource, u64)| ManifestSource {
        uri: planned.source.uri.clone(),
        size: planned.fingerprint.size,
        etag: planned.fingerprint.etag.clone(),
        rows,
    };
    let manifest = Manifest::new(info, planned.iter().zip(rows_of).map(source).collect(), files)?;
    fs::write(dir.join(MANIFEST_NAME), manifest.to_bytes()).unwrap();
    Ok(())
}

fn check(target: &Path, corpus: &VerifyCorpus) -> VerifyReport {
    wait(verify(target, Some(corpus), None, &mut |_| ())).unwrap()
}

fn failed(report: &VerifyReport) -> Vec<Check> {
    report.checks.iter().filter(|check| !check.passed).map(|check| check.check).collect()
}

#[test]
fn an_output_agrees_with_its_corpus_of_plain_and_compressed_sources() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, packed) = (dir.path().join("a.csv"), dir.path().join("b.csv.gz"));
    fs::write(&plain, csv(ROWS)).unwrap();
    gzip(&packed, &csv(ROWS));
    let corpus = corpus(&[&plain, &packed]);
    let job = dir.path().join("job");
    wait(embed(&corpus, &job)).unwrap();
    let report = check(&job, &corpus);
    assert!(report.passed(), "{report}");
    assert_eq!((report.totals.rows, report.totals.rejected()), (2 * ROWS, 2 * ROWS / 10));
    let merged = dir.path().join("merged.parquet");
    merge(&job, &merged, &MergeOptions::default(), &mut |_| ()).unwrap();
    assert!(check(&merged, &corpus).passed());
}

#[test]
fn a_corpus_that_is_not_that_of_the_output_is_told_row_by_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    fs::write(&path, csv(ROWS)).unwrap();
    let job = dir.path().join("job");
    wait(embed(&corpus(&[&path]), &job)).unwrap();
    let with = |text: String| {
        fs::write(&path, text).unwrap();
        check(&job, &corpus(&[&path]))
    };

    let longer = with(csv(ROWS + 1));
    assert_eq!(failed(&longer), [Check::CorpusRows]);
    assert!(longer.to_string().contains("301 records, the output 300 rows"), "{longer}");
    assert_eq!(failed(&with(csv(ROWS - 1))), [Check::CorpusRows]);

    let changed = with(csv(ROWS).replace("k123,", "k124,"));
    assert_eq!((failed(&changed), changed.problems.len()), (vec![Check::CorpusColumns], 1));
    assert_eq!(changed.problems[0].row, Some(123));
    assert!(changed.problems[0].detail.contains("`id`"), "{changed}");

    let emptied = with(csv(ROWS).replace("\"frase, 123\nen dos líneas\"", ""));
    assert_eq!(failed(&emptied), [Check::CorpusColumns, Check::CorpusReasons]);
    assert!(emptied.problems.iter().all(|problem| problem.row == Some(123)));

    let renamed = with(csv(ROWS).replacen("weight", "mass", 1));
    assert_eq!(failed(&renamed), [Check::CorpusColumns]);
    assert!(with(csv(ROWS)).passed());
}

#[test]
fn rows_that_are_known_to_be_missing_are_skipped_in_the_corpus() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    fs::write(&path, csv(ROWS)).unwrap();
    let (job, merged) = (dir.path().join("job"), dir.path().join("merged.parquet"));
    wait(embed(&corpus(&[&path]), &job)).unwrap();
    super::super::super::testing::punch(&job, &[1, 4]);
    merge(&job, &merged, &MergeOptions::default(), &mut |_| ()).unwrap();
    for target in [&job, &merged] {
        let report = check(target, &corpus(&[&path]));
        assert!(report.passed(), "{report}");
        assert_eq!((report.totals.rows, report.missing, report.holes.len()), (ROWS - 90, 90, 2));
        assert!(report.to_string().contains("missing: 70 rows from 70 on: it broke"), "{report}");
    }
    fs::write(&path, csv(ROWS - 1)).unwrap();
    assert_eq!(failed(&check(&merged, &corpus(&[&path]))), [Check::CorpusRows]);
    fs::write(&path, csv(ROWS).replace("k143,", "k144,")).unwrap();
    assert_eq!(check(&merged, &corpus(&[&path])).problems[0].row, Some(143));
}

#[test]
fn rows_of_a_damaged_part_are_skipped_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    fs::write(&path, csv(ROWS)).unwrap();
    let job = dir.path().join("job");
    wait(embed(&corpus(&[&path]), &job)).unwrap();
    super::super::super::testing::flip(&job.join(part_name(1)), 99);
    let report = check(&job, &corpus(&[&path]));
    assert_eq!((failed(&report), report.problems.len()), (vec![Check::FileChecksum], 1));
    assert_eq!(report.totals.rows, ROWS - 70);
}
