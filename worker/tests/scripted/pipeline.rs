//! What comes out: every row, in order, with the vector of its own text.

use std::fs::{File, FileTimes};

use dataset::FallbackSource;
use engine::{Batch, Engine, EngineOptions, ModelDir, TextEncoder};
use proto::job::OnBadRow;
use proto::work::FailureClass;
use worker::check_input;

use crate::fake::{Event, Script};
use crate::rig::{Rig, model_dir, texts};

/// More than one chunk of the reader.
const MANY: usize = 5_000;

/// Embeds one text alone, by the engine itself.
fn alone(encoder: &TextEncoder, engine: &Engine, text: &str) -> Vec<f32> {
    let batch: Batch = [encoder.encode(text).unwrap().ids].iter().collect();
    engine.embed(&batch).unwrap()
}

fn largest_difference(first: &[f32], second: &[f32]) -> f32 {
    assert_eq!(first.len(), second.len());
    first.iter().zip(second).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn assert_vectors_are_the_texts_own(rig: &Rig, rows: &[crate::rig::OutRow], prefix: &str) {
    let model = ModelDir::open(&model_dir()).unwrap();
    let encoder = TextEncoder::load(&model, None, prefix).unwrap();
    let engine = Engine::load(&model, &EngineOptions::default()).unwrap();
    assert!(rig.embed.normalize);
    for row in rows.iter().filter(|row| row.error.is_none()) {
        let expected = alone(&encoder, &engine, row.text.as_ref().unwrap());
        let difference = largest_difference(row.vector.as_ref().unwrap(), &expected);
        assert!(difference <= 1e-5, "row {}: {difference}", row.row);
    }
}

#[tokio::test]
async fn every_row_is_there_once_in_order_with_its_own_vector() {
    let texts = texts(MANY);
    let rig = Rig::new(&texts);
    let (fake, summary) = rig.run_all(Script::Obliging, 1_700).await;
    let rows = rig.rows(&fake.outputs());
    assert_eq!(rows.iter().map(|row| row.row).collect::<Vec<_>>(), (0..MANY as i64).collect::<Vec<_>>());
    assert!(rows.iter().zip(&texts).all(|(row, text)| row.text.as_ref() == Some(text)));
    assert_vectors_are_the_texts_own(&rig, &rows[..300], "");
    assert_vectors_are_the_texts_own(&rig, &rows[MANY - 300..], "");
    assert_eq!((summary.shards, summary.rows, summary.rejected, summary.repeats), (3, MANY as u64, 0, 0));
    let tokens: u64 = rows.iter().map(|row| row.n_tokens as u64).sum();
    assert_eq!(summary.tokens, tokens);
    assert!(summary.busy.forward > 0.0 && summary.busy.tokenize > 0.0 && summary.busy.write > 0.0);
    assert!(rig.spool_is_empty());
}

#[tokio::test]
async fn the_number_of_threads_does_not_change_a_byte() {
    let texts = texts(MANY);
    let mut files = Vec::new();
    for threads in [1, 3] {
        let mut rig = Rig::new(&texts);
        rig.threads = threads;
        let mut grants = rig.grants(u64::MAX).await;
        // The corpus lies in another folder each time; what the file says of itself must not tell.
        grants[0].spec_digest = "same".to_owned();
        let (fake, _) = rig.run_until(Script::Obliging, grants, |events| crate::rig::committed(events) == 1).await;
        files.push(std::fs::read(rig.output_path(&fake.outputs()[&0])).unwrap());
    }
    assert!(files[0] == files[1], "{} and {} bytes", files[0].len(), files[1].len());
}

#[tokio::test]
async fn exact_repeats_are_computed_once_and_all_get_the_vector() {
    let six = texts(6);
    let repeated: Vec<&String> = six.iter().cycle().take(3_000).collect();
    let rig = Rig::new(&repeated);
    let (fake, summary) = rig.run_all(Script::Obliging, u64::MAX).await;
    let rows = rig.rows(&fake.outputs());
    assert_eq!((rows.len(), summary.repeats), (3_000, 2_994));
    assert!(rows.iter().enumerate().all(|(at, row)| row.vector == rows[at % 6].vector && row.n_tokens > 2));
    assert_vectors_are_the_texts_own(&rig, &rows[..6], "");
}

#[tokio::test]
async fn a_bad_row_gets_a_reason_and_costs_no_other_row() {
    let mut texts = texts(50);
    texts[7] = String::new();
    texts[20] = "   ".to_owned();
    let rig = Rig::new(&texts);
    let (fake, summary) = rig.run_all(Script::Obliging, 30).await;
    let rows = rig.rows(&fake.outputs());
    assert_eq!((rows.len(), summary.rejected), (50, 2));
    for row in &rows {
        let bad = [7, 20].contains(&row.row);
        assert_eq!(row.error.as_deref(), bad.then_some("empty_text"), "row {}", row.row);
        assert_eq!(row.vector.is_none(), bad, "row {}", row.row);
    }
    assert_eq!(fake.outputs()[&0].counts.rejected(), 2);
    assert_vectors_are_the_texts_own(&rig, &rows, "");
}

#[tokio::test]
async fn a_bad_row_fails_the_job_by_name_where_that_is_wanted() {
    let mut texts = texts(50);
    texts[37] = String::new();
    let mut rig = Rig::new(&texts);
    rig.on_bad_row = OnBadRow::Fail;
    let grants = rig.grants(30).await;
    let failed = |events: &[Event]| events.iter().any(|event| matches!(event, Event::Failed(..)));
    let (fake, summary) = rig.run_until(Script::Obliging, grants, failed).await;
    summary.unwrap();
    let events = fake.events();
    let found = events.iter().find_map(|event| match event {
        Event::Failed(1, FailureClass::BadRow, message) => Some(message),
        _ => None,
    });
    let message = found.unwrap_or_else(|| panic!("{events:?}"));
    for part in ["row 37", "corpus.csv", "empty_text"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(rig.spool_is_empty());
}

/// Writes other letters over the end of the corpus, and puts its time back.
fn change_in_place(rig: &Rig) {
    let modified = std::fs::metadata(rig.corpus()).unwrap().modified().unwrap();
    let mut content = std::fs::read(rig.corpus()).unwrap();
    let at = content.len() - 10;
    content[at] = b'x';
    std::fs::write(rig.corpus(), content).unwrap();
    let times = FileTimes::new().set_modified(modified);
    File::options().write(true).open(rig.corpus()).unwrap().set_times(times).unwrap();
}

#[tokio::test]
async fn bytes_that_were_read_wrong_once_are_told_from_a_corpus_that_changed() {
    let rig = Rig::new(&texts(20));
    let grant = rig.grants(10).await.pop().unwrap();
    let recut = rig.storage();
    let fallback = FallbackSource { storage: rig.storage(), key: "none".to_owned() };
    let again = || dataset::slice_blake3(&grant.source, &grant.slice, &grant.read, &recut, &fallback);
    let planned = grant.slice.blake3.clone().unwrap();
    check_input(&grant, &planned, again()).await.unwrap();
    let misread = check_input(&grant, "a flipped bit", again()).await.unwrap_err();
    assert_eq!(misread.class, FailureClass::Transient);
    assert!(misread.message.contains("when read again"), "{}", misread.message);
    change_in_place(&rig);
    let changed = check_input(&grant, "other letters", again()).await.unwrap_err();
    assert_eq!(changed.class, FailureClass::InputChanged);
    assert!(changed.message.contains("corpus.csv") && changed.message.contains("changed"), "{}", changed.message);
}

#[tokio::test]
async fn a_model_whose_first_shard_has_no_finite_vector_fails_the_job() {
    let mut texts = texts(40);
    texts[3] = String::new();
    let mut rig = Rig::new(&texts);
    rig.break_model("roberta.embeddings.LayerNorm.weight", 0);
    let grants = rig.grants(30).await;
    let failed = |events: &[Event]| events.iter().any(|event| matches!(event, Event::Failed(0, ..)));
    let (fake, summary) = rig.run_until(Script::Obliging, grants, failed).await;
    summary.unwrap();
    let events = fake.events();
    let found = events.iter().find_map(|event| match event {
        Event::Failed(0, FailureClass::Config, message) => Some(message),
        _ => None,
    });
    let message = found.unwrap_or_else(|| panic!("{events:?}"));
    assert!(message.contains("all 29 texts of the first shard came out as NaN or infinity"), "{message}");
}

#[tokio::test]
async fn a_vector_that_is_not_finite_costs_no_other_row() {
    let texts = texts(40);
    let mut rig = Rig::new(&texts);
    let encoder = |rig: &Rig| TextEncoder::load(&ModelDir::open(&rig.model).unwrap(), None, "").unwrap();
    rig.break_model("roberta.embeddings.word_embeddings.weight", 0);
    let ids: Vec<Vec<u32>> = texts.iter().map(|text| encoder(&rig).encode(text).unwrap().ids).collect();
    let rare = ids[1].iter().copied().find(|id| !ids[2].contains(id)).expect("two texts differ");
    std::fs::remove_dir_all(&rig.model).unwrap();
    rig.break_model("roberta.embeddings.word_embeddings.weight", rare as usize * 32);
    let (fake, _) = rig.run_all(Script::Obliging, u64::MAX).await;
    for (row, ids) in rig.rows(&fake.outputs()).iter().zip(&ids) {
        assert_eq!(row.error.as_deref(), ids.contains(&rare).then_some("non_finite"), "row {}", row.row);
    }
}

#[tokio::test]
async fn a_prefix_is_part_of_every_text() {
    let texts = texts(40);
    let mut rig = Rig::new(&texts);
    rig.embed.prefix = "la palabra ".to_owned();
    let (fake, _) = rig.run_all(Script::Obliging, u64::MAX).await;
    assert_vectors_are_the_texts_own(&rig, &rig.rows(&fake.outputs()), "la palabra ");
}

#[tokio::test]
async fn the_output_says_how_it_was_made() {
    let rig = Rig::new(&texts(10));
    let (fake, _) = rig.run_all(Script::Obliging, u64::MAX).await;
    let output = &fake.outputs()[&0];
    let reader = dataset::VectorReader::open(&rig.output_path(output)).unwrap();
    let info = reader.info();
    assert_eq!((info.model_digest.as_str(), info.pooling.as_str()), (rig.digest.as_str(), "cls"));
    assert_eq!((info.dtype.as_str(), info.spec_digest.as_str(), info.dimensions), ("f32", "spec", 32));
    let bytes = std::fs::read(rig.output_path(output)).unwrap();
    assert_eq!((output.bytes, output.counts.rows), (bytes.len() as u64, 10));
    assert_eq!(output.input_blake3.len(), 64);
}
