//! The bytes of each format, read back by hand; `tests/readers.py` reads them with the real libraries.

use std::fs;

use super::super::info::tests::info;
use super::super::layout::part_name;
use super::super::testing::{Job, all_rows, chunk, flip, job, punch, write_job};
use super::super::{MergeOptions, merge};
use super::*;

/// The expected array of the generated job of 27 rows.
fn expected(info: &FileInfo, rows: usize) -> Vec<u8> {
    let made = chunk(info, 0, rows);
    let dimensions = info.dimensions as usize;
    let mut bytes = Vec::new();
    for (index, value) in made.vectors.iter().enumerate() {
        let value = if made.status[index / dimensions].error.is_some() { f32::NAN } else { *value };
        match info.output_dtype {
            OutputDtype::F32 => bytes.extend(value.to_le_bytes()),
            OutputDtype::F16 => bytes.extend(half::f16::from_f32(value).to_le_bytes()),
            OutputDtype::Int8 | OutputDtype::Binary => panic!("these are tried by themselves"),
        }
    }
    bytes
}

fn exported(job: &Job, format: ExportFormat) -> (ExportSummary, Vec<u8>) {
    let out = job.path().join(format!("out.{format}"));
    let summary = export(&job.dir(), format, &out, true).unwrap();
    let bytes = fs::read(&out).unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    assert_eq!((summary.rows, summary.rejected), (27, 4));
    (summary, bytes)
}

#[test]
fn npy_is_a_header_of_64_bytes_and_the_array() {
    let (_, bytes) = exported(&job(8, &[20, 7]), ExportFormat::Npy);
    assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
    let header = std::str::from_utf8(&bytes[10..128]).unwrap();
    assert!(header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (27, 8), }"), "{header}");
    assert!(header.ends_with('\n'));
    assert_eq!(&bytes[128..], expected(&info(8), 27));
}

#[test]
fn missing_rows_are_nan_so_that_all_others_have_their_place() {
    let job = job(8, &[5, 2, 20]);
    let mut bytes = expected(&info(8), 27);
    let nan = f32::NAN.to_le_bytes().repeat(8 * 5);
    bytes[..nan.len()].copy_from_slice(&nan);
    bytes[7 * 32..].copy_from_slice(&f32::NAN.to_le_bytes().repeat(8 * 20));
    punch(&job.dir(), &[0, 2]);
    let (merged, out) = (job.path().join("merged.parquet"), job.path().join("out.npy"));
    merge(&job.dir(), &merged, &MergeOptions::default(), &mut |_| ()).unwrap();
    for target in [job.dir(), merged] {
        let summary = export(&target, ExportFormat::Npy, &out, true).unwrap();
        assert_eq!((summary.rows, summary.missing), (27, 25));
        assert!(fs::read(&out).unwrap()[128..] == bytes, "{}", target.display());
    }
}

#[test]
fn safetensors_tells_how_the_vectors_were_made() {
    let (_, bytes) = exported(&job(8, &[20, 7]), ExportFormat::Safetensors);
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(length % 8, 0);
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    assert_eq!(header["embeddings"]["dtype"], "F32");
    assert_eq!(header["embeddings"]["shape"], serde_json::json!([27, 8]));
    assert_eq!(header["embeddings"]["data_offsets"], serde_json::json!([0, 27 * 8 * 4]));
    assert_eq!(header["__metadata__"]["encaje.model"], "owner/name");
    assert_eq!(&bytes[8 + length..], expected(&info(8), 27));
}

/// An entry of a zip archive, found by way of the directory at its end.
struct Found<'a> {
    name: String,
    crc: u32,
    data: &'a [u8],
    offset: usize,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> usize {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(wide) as usize
}

fn entries(bytes: &[u8]) -> Vec<Found<'_>> {
    let end = bytes.len() - 22;
    assert_eq!(&bytes[end..end + 4], b"PK\x05\x06");
    assert_eq!(&bytes[end - 20..end - 16], b"PK\x06\x07", "zip64 locator");
    let record = number::<8>(bytes, end - 12);
    assert_eq!(&bytes[record..record + 4], b"PK\x06\x06", "zip64 end record");
    let mut at = number::<8>(bytes, record + 48);
    let mut found = Vec::new();
    for _ in 0..number::<8>(bytes, record + 32) {
        assert_eq!(&bytes[at..at + 4], b"PK\x01\x02");
        let name_length = number::<2>(bytes, at + 28);
        let name = String::from_utf8(bytes[at + 46..at + 46 + name_length].to_vec()).unwrap();
        let extra = at + 46 + name_length;
        assert_eq!(number::<2>(bytes, extra), 1, "zip64 field");
        let (size, local) = (number::<8>(bytes, extra + 4), number::<8>(bytes, extra + 20));
        assert_eq!(&bytes[local..local + 4], b"PK\x03\x04");
        let crc = number::<4>(bytes, at + 16) as u32;
        assert_eq!(number::<4>(bytes, local + 14) as u32, crc, "both headers hold the CRC");
        let data = local + 30 + number::<2>(bytes, local + 26) + number::<2>(bytes, local + 28);
        found.push(Found { name, crc, data: &bytes[data..data + size], offset: data });
        at = extra + number::<2>(bytes, at + 30);
    }
    found
}

#[test]
fn pt_is_an_archive_of_stored_entries_that_end_with_the_array() {
    let (_, bytes) = exported(&job(8, &[20, 7]), ExportFormat::Pt);
    let entries = entries(&bytes);
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let expected_names = ["embeddings/data.pkl", "embeddings/byteorder", "embeddings/version", "embeddings/data/0"];
    assert_eq!(names, expected_names);
    for entry in &entries {
        let mut crc = flate2::Crc::new();
        crc.update(entry.data);
        assert_eq!((crc.sum(), entry.offset % 64), (entry.crc, 0), "{}", entry.name);
    }
    assert_eq!(entries[3].data, expected(&info(8), 27));
    let pickle = entries[0].data;
    assert!(pickle.starts_with(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(") && pickle.ends_with(b"tR."));
    let has = |word: &[u8]| pickle.windows(word.len()).any(|window| window == word);
    assert!(has(b"ctorch\nFloatStorage\n") && has(b"\x8a\x09\xd8\x00\x00\x00\x00\x00\x00\x00\x00tQ"), "27 * 8 = 0xd8");
}

#[test]
fn sixteen_bit_vectors_stay_so() {
    let info = FileInfo { output_dtype: OutputDtype::F16, ..info(8) };
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("job");
    write_job(&target, &info, &[27]);
    for format in [ExportFormat::Npy, ExportFormat::Safetensors, ExportFormat::Pt] {
        let out = dir.path().join(format.to_string());
        let summary = export(&target, format, &out, false).unwrap();
        assert_eq!(summary.dtype, OutputDtype::F16);
        let bytes = fs::read(&out).unwrap();
        let array = expected(&info, 27);
        assert!(bytes.windows(array.len()).any(|window| window == array), "{format}");
    }
}

fn quantized(output_dtype: OutputDtype, normalized: bool) -> Job {
    let job = Job::new();
    write_job(&job.dir(), &FileInfo { output_dtype, normalized, ..info(8) }, &[20, 7]);
    job
}

#[test]
fn quantized_vectors_are_exported_as_they_are_stored_with_zeros_for_rejected_rows() {
    for (output_dtype, width, kind) in [(OutputDtype::Int8, 8, "|i1"), (OutputDtype::Binary, 1, "|u1")] {
        let job = quantized(output_dtype, true);
        let mut elements = Vec::new();
        for batch in all_rows(&job.dir()) {
            let info = FileInfo { output_dtype, ..info(8) };
            let vectors = Vectors::of(&batch, &info);
            for row in 0..vectors.len() {
                let end = elements.len() + width;
                if vectors.has(row) {
                    vectors.append_bytes(row, &mut elements);
                }
                elements.resize(end, 0);
            }
        }
        for format in [ExportFormat::Npy, ExportFormat::Safetensors, ExportFormat::Pt] {
            let (summary, bytes) = exported(&job, format);
            assert_eq!(summary.dtype, output_dtype);
            assert!(bytes.windows(elements.len()).any(|window| window == elements), "{output_dtype} {format}");
        }
        let (_, bytes) = exported(&job, ExportFormat::Npy);
        let header = String::from_utf8_lossy(&bytes[10..128]).into_owned();
        assert!(header.contains(kind) && header.contains(&format!("(27, {width})")), "{header}");
    }
}

#[test]
fn safetensors_has_the_scales_before_the_elements() {
    let (_, bytes) = exported(&quantized(OutputDtype::Int8, false), ExportFormat::Safetensors);
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    assert_eq!(header["scales"], serde_json::json!({ "dtype": "F32", "shape": [27], "data_offsets": [0, 108] }));
    assert_eq!(header["embeddings"]["data_offsets"], serde_json::json!([108, 108 + 27 * 8]));
    let made = chunk(&info(8), 0, 27);
    for row in 0..27 {
        let scale = f32::from_le_bytes(bytes[start + 4 * row..][..4].try_into().unwrap());
        if made.status[row].error.is_some() {
            assert!(scale.is_nan(), "row {row}");
            continue;
        }
        let elements = &bytes[start + 108 + 8 * row..][..8];
        for (element, value) in elements.iter().zip(&made.vectors[8 * row..]) {
            let decoded = f32::from(element.cast_signed()) * scale;
            assert!((decoded - value).abs() <= scale * 0.5001, "row {row}: {decoded} for {value}");
        }
    }
}

#[test]
fn a_format_without_scales_refuses_vectors_that_need_them() {
    let job = quantized(OutputDtype::Int8, false);
    for format in [ExportFormat::Npy, ExportFormat::Pt] {
        let error = export(&job.dir(), format, &job.path().join("out"), false).unwrap_err().to_string();
        assert!(error.contains("unit length") && error.contains("safetensors"), "{error}");
    }
}

#[test]
fn a_single_file_exports_as_well() {
    let job = job(8, &[27]);
    let out = job.path().join("out.npy");
    let summary = export(&job.dir().join(part_name(0)), ExportFormat::Npy, &out, false).unwrap();
    assert_eq!(summary.rows, 27);
    assert_eq!(&fs::read(&out).unwrap()[128..], expected(&info(8), 27));
}

#[test]
fn an_output_that_is_part_of_the_input_is_refused() {
    let job = job(8, &[20, 7]);
    for name in [part_name(1), "manifest.json".to_owned()] {
        let error = export(&job.dir(), ExportFormat::Npy, &job.dir().join(name), true).unwrap_err().to_string();
        assert!(error.contains("choose another name"), "{error}");
    }
}

#[test]
fn a_damaged_part_is_named_and_no_file_appears() {
    let job = job(8, &[20, 7]);
    flip(&job.dir().join(part_name(1)), 50);
    let out = job.path().join("out.npy");
    let error = export(&job.dir(), ExportFormat::Npy, &out, false).unwrap_err().to_string();
    assert!(error.contains("part-00001.parquet"), "{error}");
    assert_eq!(fs::read_dir(job.path()).unwrap().count(), 1, "only the job exists");
}
