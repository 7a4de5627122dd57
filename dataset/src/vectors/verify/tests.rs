//! Every kind of damage is found, by file and row.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch};
use proptest::prelude::*;
use spec::{OutputDtype, RejectReason};

use super::super::info::FileTotals;
use super::super::info::tests::info;
use super::super::layout::part_name;
use super::super::merge::{MergeOptions, merge};
use super::super::parquet_file::ParquetFile;
use super::super::seal::hash_file;
use super::super::testing::{Job, all_rows, flip, job, punch, write_job};
use super::super::write::totals_pair;
use super::*;

fn failed(report: &VerifyReport) -> Vec<Check> {
    report.checks.iter().filter(|check| !check.passed).map(|check| check.check).collect()
}

fn names(report: &VerifyReport) -> Vec<String> {
    let files = report.problems.iter().filter_map(|problem| problem.file.as_ref());
    files.map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

fn edit_manifest(job: &Job, edit: impl FnOnce(&mut Manifest)) {
    let mut manifest = Manifest::load(&job.dir()).unwrap();
    edit(&mut manifest);
    fs::write(job.dir().join(MANIFEST_NAME), manifest.to_bytes()).unwrap();
}

/// Writes part 1 again with other rows, under a manifest and footer that agree with them: only the rows are wrong.
fn forge(job: &Job, forge: impl Fn(RecordBatch) -> RecordBatch) -> VerifyReport {
    let path = job.dir().join(part_name(1));
    let reader = VectorReader::open(&path).unwrap();
    let mut file = ParquetFile::create(&path.with_extension("new"), reader.schema(), reader.info()).unwrap();
    let mut totals = RowCounts::default();
    for batch in all_rows(&path) {
        let batch = forge(batch);
        super::super::columns::StatusColumns::of(&batch).count(&mut totals);
        file.write(&batch).unwrap();
    }
    let first_row = reader.totals().first_row;
    let pair = totals_pair(&FileTotals { first_row, totals: totals.clone() });
    let written = file.finish(vec![pair]).unwrap();
    fs::rename(path.with_extension("new"), &path).unwrap();
    edit_manifest(job, |manifest| {
        let listed = &mut manifest.files[1];
        listed.bytes = written.bytes;
        listed.blake3 = written.blake3;
        (listed.rows, listed.rejects) = (totals.rows, totals.rejects.clone());
        (listed.truncated, listed.tokens) = (totals.truncated, totals.tokens);
        manifest.totals = RowCounts::default();
        let sums: Vec<_> = manifest.files.iter().map(ManifestFile::totals).collect();
        sums.iter().for_each(|file| manifest.totals.add(file));
    });
    check_target(&job.dir())
}

fn with_column(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let mut columns = batch.columns().to_vec();
    columns[batch.schema().index_of(name).unwrap()] = column;
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

#[test]
fn a_good_folder_passes_every_check_and_reads_well() {
    let job = job(8, &[20, 1, 33]);
    let report = check_target(&job.dir());
    assert!(report.passed(), "{report}");
    assert_eq!((report.files, report.totals.rows), (3, 54));
    assert_eq!(report.totals, Manifest::load(&job.dir()).unwrap().totals);
    assert!(report.to_string().ends_with("verified") && report.to_string().contains("ok      row_numbers"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["passed"], true);
    assert_eq!(json["checks"][0]["check"], "manifest");
}

#[test]
fn a_part_that_is_missing_short_or_swapped_is_named() {
    let job = job(8, &[20, 10, 33]);
    let (first, second) = (job.dir().join(part_name(0)), job.dir().join(part_name(1)));
    let bytes = fs::read(&second).unwrap();
    fs::write(&second, &bytes[..bytes.len() - 1]).unwrap();
    let report = check_target(&job.dir());
    assert_eq!((failed(&report), names(&report)), (vec![Check::FileSize], vec![part_name(1)]));
    fs::remove_file(&second).unwrap();
    let report = check_target(&job.dir());
    assert_eq!((failed(&report), names(&report)), (vec![Check::FileSize], vec![part_name(1)]));
    fs::rename(&first, &second).unwrap();
    fs::write(&first, &bytes).unwrap();
    let report = check_target(&job.dir());
    assert_eq!((failed(&report), names(&report)), (vec![Check::FileSize], vec![part_name(0), part_name(1)]));
}

#[test]
fn parts_of_equal_size_that_are_swapped_are_named() {
    let job = job(8, &[20, 20]);
    edit_manifest(&job, |manifest| {
        let names = [manifest.files[1].name.clone(), manifest.files[0].name.clone()];
        manifest.files.iter_mut().zip(names).for_each(|(file, name)| file.name = name);
    });
    let report = check_target(&job.dir());
    assert!(!report.passed());
    assert_eq!(names(&report), [part_name(1), part_name(0)]);
}

#[test]
fn a_hole_is_told_apart_from_a_loss() {
    let job = job(8, &[20, 10, 33]);
    punch(&job.dir(), &[1]);
    let report = check_target(&job.dir());
    assert!(report.passed() && report.missing == 10, "{report}");
    edit_manifest(&job, |manifest| manifest.holes.clear());
    let report = check_target(&job.dir());
    assert_eq!((failed(&report), report.missing), (vec![Check::Manifest], 0));
}

#[test]
fn a_stray_part_is_named_and_other_files_are_not() {
    let job = job(8, &[20]);
    fs::write(job.dir().join("notes.txt"), "mine").unwrap();
    fs::copy(job.dir().join(part_name(0)), job.dir().join(part_name(7))).unwrap();
    let report = check_target(&job.dir());
    assert_eq!((failed(&report), names(&report)), (vec![Check::StrayFiles], vec![part_name(7)]));
}

#[test]
fn a_manifest_that_lies_or_is_damaged_is_found() {
    let job = job(8, &[20, 10]);
    edit_manifest(&job, |manifest| manifest.files[1].first_row = 21);
    assert!(failed(&check_target(&job.dir())).contains(&Check::Manifest));
    edit_manifest(&job, |manifest| {
        manifest.files[1].first_row = 20;
        manifest.files[1].tokens += 1;
        manifest.totals.tokens += 1;
    });
    assert_eq!(failed(&check_target(&job.dir())), [Check::Counts]);
    fs::write(job.dir().join(MANIFEST_NAME), "{").unwrap();
    assert_eq!(failed(&check_target(&job.dir())), [Check::Manifest]);
    fs::remove_file(job.dir().join(MANIFEST_NAME)).unwrap();
    let error = try_target(&job.dir()).unwrap_err();
    assert!(error.to_string().contains("not finished"), "{error}");
}

#[test]
fn files_of_two_jobs_do_not_mix() {
    let ours = job(8, &[20, 10]);
    let theirs = tempfile::tempdir().unwrap();
    let other = FileInfo { model: "other/model".into(), ..info(8) };
    write_job(&theirs.path().join("job"), &other, &[20]);
    let path = theirs.path().join("job").join(part_name(0));
    fs::copy(&path, ours.dir().join(part_name(0))).unwrap();
    edit_manifest(&ours, |manifest| {
        let written = hash_file(&path).unwrap();
        (manifest.files[0].bytes, manifest.files[0].blake3) = (written.bytes, written.blake3);
    });
    let report = check_target(&ours.dir());
    assert_eq!((failed(&report), names(&report)), (vec![Check::Footer], vec![part_name(0)]));
}

#[test]
fn a_duplicated_and_a_lost_row_are_found_though_all_counts_agree() {
    let job = job(8, &[20, 10, 5]);
    let report = forge(&job, |batch| {
        let rows = Int64Array::from_iter_values([20, 21, 22, 22, 24, 25, 26, 27, 28, 29]);
        with_column(&batch, "row", Arc::new(rows))
    });
    assert_eq!(failed(&report), [Check::RowNumbers]);
    let rows: Vec<_> = report.problems.iter().map(|problem| problem.row.unwrap()).collect();
    assert_eq!((names(&report)[0].as_str(), rows), ("part-00001.parquet", vec![23, 23]));
}

#[test]
fn broken_rows_are_found_by_number() {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Float32Type;
    use arrow_array::{FixedSizeListArray, Float32Array, Int32Array, StringArray};
    let vectors = |edit: &dyn Fn(&mut Vec<f32>)| {
        let job = job(4, &[20, 4]);
        forge(&job, |batch| {
            let list = batch.column_by_name("embedding").unwrap().as_fixed_size_list();
            let mut values = list.values().as_primitive::<Float32Type>().values().to_vec();
            edit(&mut values);
            let field = Arc::new(super::super::element::element_field(OutputDtype::F32));
            let values = Arc::new(Float32Array::from(values));
            let list = FixedSizeListArray::new(field, 4, values, list.nulls().cloned());
            with_column(&batch, "embedding", Arc::new(list))
        })
    };
    let row = |report: &VerifyReport| (failed(report), report.problems[0].row.unwrap());
    assert_eq!(row(&vectors(&|values| values[5] = f32::INFINITY)), (vec![Check::Finite], 21));
    assert_eq!(row(&vectors(&|values| values[5] += 0.2)), (vec![Check::UnitNorm], 21));
    // Rows 20 to 23 all have vectors as made, so an error is one too many.
    let report = forge(&job(4, &[20, 4]), |batch| {
        let errors = StringArray::from(vec![None, None, Some("null_text"), Some("no_reason")]);
        let tokens = Int32Array::from(vec![5, 0, 0, 0]);
        with_column(&with_column(&batch, "error", Arc::new(errors)), "n_tokens", Arc::new(tokens))
    });
    assert_eq!(failed(&report), [Check::VectorOrError, Check::ReasonKnown, Check::TokenCounts]);
    let rows =
        |check| report.problems.iter().filter(move |p| p.check == check).filter_map(|p| p.row).collect::<Vec<_>>();
    assert_eq!(rows(Check::VectorOrError), [22, 23]);
    assert_eq!(rows(Check::ReasonKnown), [23]);
    assert!(rows(Check::TokenCounts).contains(&21));
}

#[test]
fn quantized_vectors_that_are_stored_wrongly_are_found_by_number() {
    use arrow_array::{FixedSizeListArray, Float32Array, Int8Array, UInt8Array};
    let forged = |output_dtype, column: &str, array: &dyn Fn() -> ArrayRef| {
        let job = Job::new();
        write_job(&job.dir(), &FileInfo { output_dtype, ..info(4) }, &[20, 2]);
        let report = forge(&job, |batch| with_column(&batch, column, array()));
        (failed(&report), report.problems[0].row.unwrap(), report.problems[0].detail.clone())
    };
    let list = |output_dtype, width, values: ArrayRef| -> ArrayRef {
        let field = Arc::new(super::super::element::element_field(output_dtype));
        Arc::new(FixedSizeListArray::new(field, width, values, None))
    };
    for (scales, check, row) in [
        ([None, Some(0.006)], Check::Finite, 20),
        ([Some(f32::NAN), Some(0.006)], Check::Finite, 20),
        ([Some(-0.006), Some(0.006)], Check::Finite, 20),
        ([Some(1.0), Some(0.006)], Check::UnitNorm, 20),
    ] {
        let found = forged(OutputDtype::Int8, "embedding_scale", &|| Arc::new(Float32Array::from(scales.to_vec())));
        assert_eq!((found.0[0], found.1), (check, row), "{scales:?}: {}", found.2);
    }
    let least = || list(OutputDtype::Int8, 4, Arc::new(Int8Array::from(vec![i8::MIN, 0, 0, 0, 90, 90, 0, 0])));
    let found = forged(OutputDtype::Int8, "embedding", &least);
    assert_eq!((found.1, found.2.contains("-128")), (20, true), "{}", found.2);
    let beyond = || list(OutputDtype::Binary, 1, Arc::new(UInt8Array::from(vec![0b1010_0000, 0b1111_0001])));
    let found = forged(OutputDtype::Binary, "embedding", &beyond);
    assert_eq!((found.1, found.2.contains("beyond its last dimension")), (21, true), "{}", found.2);
}

#[test]
fn many_problems_are_counted_and_few_are_kept() {
    let job = job(4, &[20, 400]);
    let report = forge(&job, |batch| {
        let rows = Int64Array::from_iter_values((0..batch.num_rows() as i64).map(|row| row * 2));
        with_column(&batch, "row", Arc::new(rows))
    });
    assert!(report.check(Check::RowNumbers).unwrap().problems >= 400);
    assert_eq!(report.problems.len(), PROBLEMS_MAX);
    assert!(report.to_string().contains("more problems"));
}

fn merged() -> (Job, PathBuf) {
    let job = job(8, &[20, 10, 33]);
    let out = job.path().join("merged.parquet");
    merge(&job.dir(), &out, &MergeOptions::default(), &mut |_| ()).unwrap();
    (job, out)
}

#[test]
fn every_flipped_byte_of_a_merged_file_is_found() {
    let (_job, out) = merged();
    let bytes = fs::metadata(&out).unwrap().len() as usize;
    for place in (0..bytes).step_by(bytes / 150).chain(bytes - 12..bytes) {
        flip(&out, place);
        let found = try_target(&out);
        assert!(found.is_err() || !found.unwrap().passed(), "byte {place} of {bytes}");
        flip(&out, place);
    }
    assert!(check_target(&out).passed());
}

#[test]
fn a_merged_file_that_is_cut_short_is_found() {
    let (_job, out) = merged();
    let bytes = fs::read(&out).unwrap();
    for length in [0, 3, 12, bytes.len() / 2, bytes.len() - 8, bytes.len() - 1] {
        fs::write(&out, &bytes[..length]).unwrap();
        let report = check_target(&out);
        assert_eq!((failed(&report), names(&report)), (vec![Check::FileChecksum], vec!["merged.parquet".to_owned()]));
    }
}

#[test]
fn a_file_of_a_newer_format_is_an_error_and_not_a_report() {
    let job = job(8, &[5]);
    edit_manifest(&job, |manifest| manifest.format = 2);
    let error = try_target(&job.dir()).unwrap_err();
    assert!(error.to_string().contains("newer encaje"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_flipped_byte_of_any_part_is_found_by_name(part in 0usize..3, place in any::<prop::sample::Index>()) {
        let job = job(8, &[20, 10, 33]);
        let path = job.dir().join(part_name(part as u64));
        flip(&path, place.index(fs::metadata(&path).unwrap().len() as usize));
        let report = check_target(&job.dir());
        prop_assert_eq!(failed(&report), vec![Check::FileChecksum]);
        prop_assert_eq!(names(&report), vec![part_name(part as u64)]);
    }
}

#[test]
fn counts_are_spelled_for_people() {
    let rejects = BTreeMap::from([(RejectReason::NullText, 1)]);
    let totals = RowCounts { rows: 3, rejects, truncated: 0, tokens: 9, reused: 0 };
    assert_eq!(spell(&totals), "3 rows (1 null_text), 0 truncated, 9 tokens");
}
