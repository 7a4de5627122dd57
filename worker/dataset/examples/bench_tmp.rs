//! tmp
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::*;
use dataset::vectors::layout::*;
use dataset::*;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
fn hwm() -> String {
    fs::read_to_string("/proc/self/status").unwrap().lines().filter(|l| l.starts_with("VmHWM")).collect()
}
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let dir = Path::new(&dir);
    let parts: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let info = FileInfo {
        model: "m".into(),
        revision: None,
        model_digest: "0".into(),
        pooling: "mean".into(),
        normalized: true,
        max_length: 128,
        dtype: "f32".into(),
        output_dtype: VectorDtype::F32,
        prefix: String::new(),
        dimensions: 768,
        job_id: "j".into(),
        spec_digest: "0".into(),
    };
    let kept = Schema::new(vec![Field::new("text", DataType::Utf8, true)]);
    let job = dir.join("job");
    fs::create_dir_all(&job).unwrap();
    let mut files = vec![];
    let mut row = 0u64;
    let mut seed = 1u64;
    let mut secs = 0.0;
    for p in 0..parts {
        let name = part_name(p);
        let mut w = VectorWriter::create(&job.join(&name), &kept, &info).unwrap();
        for _ in 0..5 {
            let n = 2000;
            let mut v = Vec::with_capacity(n * 768);
            let mut status = vec![];
            for _ in 0..n {
                let s = v.len();
                for _ in 0..768 {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    v.push((seed >> 40) as f32 / 8388608.0 - 1.0);
                }
                let norm = v[s..].iter().map(|x| x * x).sum::<f32>().sqrt();
                v[s..].iter_mut().for_each(|x| *x /= norm);
                status.push(RowStatus { n_tokens: 20, truncated: false, error: None });
            }
            let t: ArrayRef = Arc::new(StringArray::from_iter_values(
                (0..n).map(|i| format!("some text about number {} and {}", row + i as u64, i * 7)),
            ));
            let kept = RecordBatch::try_new(Arc::new(kept.clone()), vec![t]).unwrap();
            let t0 = Instant::now();
            w.write(VectorChunk { first_row: row, kept, vectors: v, status }).unwrap();
            secs += t0.elapsed().as_secs_f64();
            row += n as u64;
        }
        let t0 = Instant::now();
        files.push(w.finish().unwrap().to_manifest_file(name));
        secs += t0.elapsed().as_secs_f64();
    }
    let mb = row as f64 * 768.0 * 4.0 / 1e6;
    println!("write {row} rows {mb:.0} MB {secs:.1} s {:.0} MB/s {}", mb / secs, hwm());
    let m =
        Manifest::new(info, vec![ManifestSource { uri: "/a".into(), size: 1, etag: None, rows: row }], files).unwrap();
    fs::write(job.join(MANIFEST_NAME), m.to_bytes()).unwrap();
    let t0 = Instant::now();
    let s = merge(&job, &dir.join("m.parquet"), &MergeOptions { overwrite: true, ..Default::default() }, &mut |_| ())
        .unwrap();
    println!("merge copied {} {:.0} MB/s {}", s.copied_row_groups, mb / t0.elapsed().as_secs_f64(), hwm());
    let t0 = Instant::now();
    let s = merge(
        &job,
        &dir.join("h.parquet"),
        &MergeOptions { overwrite: true, output_dtype: Some(VectorDtype::F16), ..Default::default() },
        &mut |_| (),
    )
    .unwrap();
    println!("merge f16 recoded {} {:.0} MB/s {}", s.recoded_row_groups, mb / t0.elapsed().as_secs_f64(), hwm());
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let t0 = Instant::now();
    let r = rt.block_on(verify(&job, None, &mut |_| ())).unwrap();
    println!("verify dir {} {:.0} MB/s {}", r.passed, mb / t0.elapsed().as_secs_f64(), hwm());
    let t0 = Instant::now();
    let r = rt.block_on(verify(&dir.join("m.parquet"), None, &mut |_| ())).unwrap();
    println!("verify file {} {:.0} MB/s {}", r.passed, mb / t0.elapsed().as_secs_f64(), hwm());
    let _ = fs::remove_file(dir.join("o.npy"));
    let t0 = Instant::now();
    export(&job, ExportFormat::Npy, &dir.join("o.npy")).unwrap();
    println!("export npy {:.0} MB/s {}", mb / t0.elapsed().as_secs_f64(), hwm());
}
