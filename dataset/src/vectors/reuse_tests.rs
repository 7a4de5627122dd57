//! Looking texts up in earlier outputs: what is found has the bits of its row, and what differs is refused.

use std::fs;
use std::sync::Arc;

use arrow_array::{DictionaryArray, types::Int32Type};
use arrow_schema::Field;
use spec::{ComputeDtype, EmbedSpec, ModelSpec, OutputDtype, Pooling, ReadOptions};

use super::super::info::tests::info;
use super::super::testing::{Job, Numbers, chunk, job, kept_schema, write_job};
use super::super::{
    Check, Manifest, ManifestReuse, ManifestSource, Resolved, RowStatus, VectorChunk, VectorWriter, VerifyReuse, verify,
};
use super::*;

fn text(row: u64) -> Result<String, RejectReason> {
    Ok(format!("texto número {row} ✓"))
}

fn opened(dir: &Path) -> EarlierOutput {
    EarlierOutput::open(dir.to_str().unwrap(), "text").unwrap()
}

fn index(dirs: &[PathBuf], info: &FileInfo) -> ReuseIndex {
    let sources: Vec<ReuseSource> = dirs.iter().map(|dir| opened(dir).source().clone()).collect();
    ReuseIndex::build(&sources, info).unwrap()
}

/// Writes these texts with what is known of them, and zeros for the rest, and returns the batch that was written.
fn written(index: &ReuseIndex, texts: &[Result<String, RejectReason>]) -> (RecordBatch, u64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.parquet");
    let reused = index.look_up(&[texts]).unwrap().remove(0);
    let status = texts.iter().enumerate().map(|(row, text)| {
        let known = reused.as_ref().and_then(|reused| reused.tokens(row));
        let (n_tokens, truncated) = known.unwrap_or((1, false));
        let error =
            if known.is_none() { Some(text.as_ref().err().copied().unwrap_or(RejectReason::NonFinite)) } else { None };
        RowStatus { n_tokens, truncated, error }
    });
    let status: Vec<RowStatus> = status.collect();
    let (vectors, kept) =
        (vec![0.0; texts.len() * index.info.dimensions as usize], chunk(&index.info, 0, texts.len()).kept);
    let mut writer = VectorWriter::create(&path, &kept_schema(), &index.info).unwrap().with_text_column("text");
    writer.write(VectorChunk { first_row: 0, kept, vectors, status, reused }).unwrap();
    let summary = writer.finish().unwrap();
    let reader = VectorReader::open(&path).unwrap();
    assert_eq!(reader.text_column(), Some("text"));
    assert_eq!(reader.totals().totals.reused, summary.reused);
    let batch = reader.batches(&Projection::All, texts.len().max(1)).unwrap().next().unwrap().unwrap();
    (batch, summary.reused)
}

#[test]
fn several_threads_read_one_open_file() {
    let job = Job::new();
    write_job(&job.dir(), &info(300), &[3000]);
    let reader = VectorSet::open(&job.dir()).unwrap().open_checked(0).unwrap();
    let read = || reader.batches(&Projection::All, 100).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let expected = read();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| (0..20).all(|_| read() == expected))).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()), "rows of another place in the file");
    });
}

#[test]
fn a_known_text_gets_the_bits_of_its_earlier_row_in_every_output_type() {
    for output_dtype in OutputDtype::ALL {
        let job = Job::new();
        let info = FileInfo { output_dtype: *output_dtype, ..info(300) };
        write_job(&job.dir(), &info, &[3000, 0, 100, 2500]);
        let index = index(&[job.dir()], &info);
        assert_eq!(index.texts(), (0..5600).filter(|row| row % 7 != 3).count() as u64);
        let mut numbers = Numbers(7);
        // Known ones in any order and repeatedly, unknown ones, rejected ones of then and of now.
        let mut texts: Vec<_> = (0..1500).map(|_| numbers.next() % 6000).map(text).collect();
        texts.push(Err(RejectReason::EmptyText));
        let (found, reused) = written(&index, &texts);
        let known = |text: &Result<String, RejectReason>| {
            let row: u64 = text.as_ref().ok()?.split(' ').nth(2)?.parse().ok()?;
            (row < 5600 && row % 7 != 3).then_some(row)
        };
        assert_eq!(reused, texts.iter().filter_map(known).count() as u64);
        let earlier = super::super::testing::all_rows(&job.dir());
        let earlier = concat_batches(&earlier[0].schema(), &earlier).unwrap();
        for (at, text) in texts.iter().enumerate() {
            let Some(row) = known(text) else {
                assert!(found.column_by_name("embedding").unwrap().is_null(at));
                continue;
            };
            let row = usize::try_from(row).unwrap();
            for name in ["embedding", "embedding_scale", "n_tokens", "truncated"] {
                let Some(column) = found.column_by_name(name) else { continue };
                let expected = earlier.column_by_name(name).unwrap();
                assert_eq!(
                    column.slice(at, 1).to_data(),
                    expected.slice(row, 1).to_data(),
                    "{output_dtype} {name} {row}"
                );
            }
        }
    }
}

/// Writes a finished output of one chunk.
fn write_output(dir: &Path, rows: VectorChunk, reuse: &[&Path]) {
    fs::create_dir_all(dir).unwrap();
    let count = rows.status.len() as u64;
    let mut writer = VectorWriter::create(&dir.join("part-00000.parquet"), &kept_schema(), &info(4)).unwrap();
    writer.write(rows).unwrap();
    let file = writer.finish().unwrap().to_manifest_file("part-00000.parquet");
    let source = ManifestSource { uri: "/c".into(), size: 1, etag: None, rows: count };
    let reuse = reuse.iter().map(|dir| ManifestReuse::from(opened(dir).source())).collect();
    let manifest = Manifest::new(info(4), vec![source], vec![file]).unwrap().with_reuse(reuse);
    fs::write(dir.join("manifest.json"), manifest.to_bytes()).unwrap();
}

/// Writes an output of the usual texts, with other tokens than usual.
fn write_with_other_tokens(dir: &Path, rows: usize) {
    let mut rows = chunk(&info(4), 0, rows);
    rows.status.iter_mut().for_each(|row| row.n_tokens = 99);
    write_output(dir, rows, &[]);
}

#[test]
fn verify_proves_where_reused_rows_are_from() {
    let (one, other, new) = (Job::new(), Job::new(), Job::new());
    write_job(&one.dir(), &info(4), &[20]);
    write_with_other_tokens(&other.dir(), 20);
    let index = index(&[one.dir()], &info(4));
    let verify_with = |given: &[&Path]| {
        let given: Vec<String> = given.iter().map(|place| place.to_str().unwrap().to_owned()).collect();
        let reuse = VerifyReuse::open(&VectorSet::open(&new.dir()).unwrap(), &given, "text")?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(verify(&new.dir(), None, Some(reuse), &mut |_| ()))
    };
    for (listed, passes) in [(&one, true), (&other, false)] {
        let mut rows = chunk(&info(4), 0, 25);
        let texts: Vec<_> = (0..25).map(text).collect();
        rows.reused = index.look_up(&[&texts]).unwrap().remove(0);
        write_output(&new.dir(), rows, &[&listed.dir()]);
        let report = verify_with(&[]).unwrap();
        assert_eq!((report.passed(), report.reused_compared), (passes, Some(17)), "{report}");
        assert_eq!(report.check(Check::ReusedRows).unwrap().passed, passes);
        let moved = listed.path().join("moved");
        fs::rename(listed.dir(), &moved).unwrap();
        assert!(verify_with(&[]).is_err());
        assert_eq!(verify_with(&[&moved]).unwrap().passed(), passes);
    }
    let error = verify_with(&[&one.path().join("moved")]).unwrap_err().to_string();
    assert!(error.contains("none of the earlier outputs"), "{error}");
    write_output(&new.dir(), chunk(&info(4), 0, 5), &[]);
    let error = verify_with(&[]).unwrap_err().to_string();
    assert!(error.contains("without --reuse"), "{error}");
}

#[test]
fn of_a_text_that_several_outputs_have_the_first_counts() {
    let (one, other) = (Job::new(), Job::new());
    let read = |first: &Job, second: &Job| {
        let index = index(&[first.dir(), second.dir()], &info(4));
        let reused = index.look_up(&[&[text(1), text(50)]]).unwrap().remove(0).unwrap();
        (reused.tokens(0).unwrap().0, reused.has(1))
    };
    write_job(&one.dir(), &info(4), &[20]);
    write_with_other_tokens(&other.dir(), 60);
    assert_eq!(read(&one, &other), (3, true));
    assert_eq!(read(&other, &one), (99, true));
}

#[test]
fn texts_of_a_dictionary_are_found() {
    let job = Job::new();
    fs::create_dir_all(job.dir()).unwrap();
    let path = job.dir().join("one.parquet");
    let kind = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let kept = Schema::new(vec![Field::new("text", kind, true)]);
    let texts: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
    let mut rows = chunk(&info(4), 0, 3);
    rows.kept = RecordBatch::try_new(Arc::new(kept.clone()), vec![Arc::new(texts)]).unwrap();
    let mut writer = VectorWriter::create(&path, &kept, &info(4)).unwrap();
    writer.write(rows).unwrap();
    writer.finish().unwrap();
    let index = index(&[path], &info(4));
    assert_eq!(index.texts(), 2);
    let reused = index.look_up(&[&[Ok("b".into()), Ok("c".into())], &[]]).unwrap();
    assert_eq!(reused[0].as_ref().unwrap().tokens(0), Some((3, false)));
    assert!(!reused[0].as_ref().unwrap().has(1) && reused[1].is_none());
}

#[test]
fn a_file_that_changes_and_an_output_that_is_replaced_are_noticed() {
    let job = job(4, &[20, 20]);
    let source = opened(&job.dir()).source().clone();
    let index = index(&[job.dir()], &info(4));
    let part = job.dir().join("part-00001.parquet");
    let bytes = fs::read(&part).unwrap();
    fs::write(&part, &bytes[..bytes.len() - 1]).unwrap();
    let error = index.look_up(&[&[text(1)]]).map(|_| ()).and(index.look_up(&[&[text(25)]]).map(|_| ()));
    assert!(error.unwrap_err().to_string().contains("part-00001.parquet"));
    let error = ReuseIndex::build(std::slice::from_ref(&source), &info(4)).unwrap_err().to_string();
    assert!(error.contains("part-00001.parquet` is damaged"), "{error}");
    write_job(&job.dir(), &info(4), &[20, 21]);
    let error = ReuseIndex::build(&[source], &info(4)).unwrap_err().to_string();
    assert!(error.contains("not the output any more"), "{error}");
}

fn made_by(embed: &EmbedSpec) -> FileInfo {
    let model = ModelSpec { name: "owner/name".into(), revision: None, digest: "d".repeat(64) };
    // What the model makes of the options.
    let resolved = Resolved {
        pooling: embed.pooling.map_or_else(|| "cls".into(), |pooling| pooling.to_string()),
        max_length: embed.max_length.unwrap_or(512),
        dimensions: embed.dimensions.unwrap_or(8),
    };
    FileInfo::of(&model, embed, &ReadOptions::default(), Some(resolved))
}

#[test]
fn every_option_that_decides_vectors_is_named_and_no_other() {
    let plain = || EmbedSpec {
        pooling: None,
        normalize: true,
        max_length: None,
        prefix: String::new(),
        dtype: ComputeDtype::F32,
        output_dtype: OutputDtype::F32,
        dimensions: None,
        batch_tokens: None,
        prompt: None,
        similarity: None,
    };
    // A new option does not compile before it is in one of the lists below.
    let EmbedSpec {
        pooling: _,
        normalize: _,
        max_length: _,
        prefix: _,
        dtype: _,
        output_dtype: _,
        dimensions: _,
        batch_tokens: _,
        prompt: _,
        similarity: _,
    } = plain();
    let deciding = [
        ("--pooling", EmbedSpec { pooling: Some(Pooling::Max), ..plain() }),
        ("--no-normalize", EmbedSpec { normalize: false, ..plain() }),
        ("--max-length", EmbedSpec { max_length: Some(9), ..plain() }),
        ("--prefix", EmbedSpec { prefix: "x".into(), ..plain() }),
        ("--dtype", EmbedSpec { dtype: ComputeDtype::Bf16, ..plain() }),
        ("--output-dtype", EmbedSpec { output_dtype: OutputDtype::Int8, ..plain() }),
        ("--dimensions", EmbedSpec { dimensions: Some(4), ..plain() }),
    ];
    for (name, other) in deciding {
        let found = differences(&made_by(&plain()), &made_by(&other));
        assert!(found.len() == 1 && found[0].starts_with(name), "{name}: {found:?}");
    }
    for other in [
        EmbedSpec { batch_tokens: Some(9), ..plain() },
        EmbedSpec { prompt: Some("x".into()), ..plain() },
        EmbedSpec { similarity: Some("dot".into()), ..plain() },
    ] {
        assert_eq!(differences(&made_by(&plain()), &made_by(&other)), Vec::<String>::new());
    }
    let model = |name: &str, digest: &str| FileInfo { model: name.into(), model_digest: digest.into(), ..info(8) };
    assert!(differences(&model("a", "d"), &model("a", "e"))[0].starts_with("the files of the model"));
    assert!(differences(&model("a", "d"), &model("b", "e"))[0].starts_with("--model was `a`"));
    assert!(differences(&model("a", "d"), &model("b", "d")).is_empty(), "it was moved");
}
