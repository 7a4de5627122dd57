//! Files that are wrong in ways that users meet: each works, or fails with a message that names file (and row) and says
//! what to do, and none costs another row.

use std::time::{Duration, SystemTime};

use dataset::{Cursor, ErrorKind, Keep, RejectReason};

use crate::harness::{Corpus, Text, block_on};

fn ok(text: &str) -> Text {
    Ok(text.to_owned())
}

#[test]
fn files_without_records() {
    Corpus::of("empty.csv", b"").error(&["empty.csv", "is empty", "columns"]);
    Corpus::of("empty.tsv", b"\xef\xbb\xbf").error(&["empty.tsv", "is empty"]);
    Corpus::of("blank.csv", b"\r\n\n").error(&["blank.csv", "is empty"]);
    for (name, bytes) in [
        ("header.csv", &b"id,text"[..]),
        ("header.csv", b"id,text\r\n\r\n"),
        ("empty.jsonl", b""),
        ("blank.jsonl", b"\n \n"),
        ("empty.txt", b""),
        ("mark.txt", b"\xef\xbb\xbf"),
    ] {
        assert_eq!(Corpus::of(name, bytes).texts(), [], "{name}");
    }
}

#[test]
fn an_empty_source_does_not_affect_others() {
    let mut corpus = Corpus::of("a.csv", b"text\nuno\n");
    corpus.add("b.csv", b"text\n");
    corpus.add("c.csv", b"text\ndos");
    assert_eq!(corpus.texts(), [ok("uno"), ok("dos")]);
}

#[test]
fn invalid_utf8_only_rejects_its_own_row() {
    let texts = Corpus::of("latin.csv", b"id,text\n1,uno\n2,a\xf1o\n3,tres\n").texts();
    assert_eq!(texts, [ok("uno"), Err(RejectReason::InvalidUtf8), ok("tres")]);
    let texts = Corpus::of("latin.txt", b"uno\na\xf1o\ntres\n").texts();
    assert_eq!(texts, [ok("uno"), Err(RejectReason::InvalidUtf8), ok("tres")]);
    let texts = Corpus::of("latin.jsonl", b"{\"text\":\"uno\"}\n{\"text\":\"a\xf1o\"}\n{\"text\":\"tres\"}\n").texts();
    assert_eq!(texts, [ok("uno"), Err(RejectReason::InvalidUtf8), ok("tres")]);
}

#[test]
fn files_with_a_wrong_extension_are_refused_with_advice() {
    for (name, bytes, word) in [
        ("a.csv", &b"\x1f\x8b\x08\0\0\0\0\0"[..], ".gz"),
        ("a.jsonl", b"\x28\xb5\x2f\xfd\0\0", ".zst"),
        ("a.csv", b"PK\x03\x04rest of a spreadsheet", "spreadsheet"),
        ("a.csv", b"PAR1....PAR1", "--format parquet"),
        ("a.txt", b"ARROW1\0\0", "--format arrow"),
        ("a.csv.gz", b"id,text\n1,hola\n", "not gzip"),
        ("a.csv.zst", b"id,text\n1,hola\n", "zstd"),
        ("a.parquet", b"id,text\n1,hola\n", "does not end as a parquet file"),
        ("a.arrow", b"id,text\n1,hola\n", "arrow"),
        ("a.parquet", b"", "0 bytes"),
        ("a.arrow", b"", "arrow"),
    ] {
        Corpus::of(name, bytes).error(&[name, word]);
    }
}

#[test]
fn headers_that_contradict_the_options_are_refused() {
    Corpus::of("a.csv", b"id,texto\n1,x\n").error(&["a.csv", "`id`, `texto`", "--text-column"]);
    Corpus::of("a.csv", b"id;text\n1;x\n").error(&["a.csv", "semicolons", "--delimiter ';'"]);
    for name in ["row", "embedding", "n_tokens", "truncated", "error"] {
        let bytes = format!("text,{name}\nhola,1\n");
        Corpus::of("a.csv", bytes.as_bytes()).error(&["a.csv", &format!("`{name}`"), "--keep"]);
        assert_eq!(Corpus::of("a.csv", bytes.as_bytes()).keep(&["text"]).texts(), [ok("hola")]);
    }
    Corpus::of("a.csv", b"text\nx\n").keep(&["label"]).error(&["a.csv", "`label`", "--keep"]);
    let mut corpus = Corpus::of("a.csv", b"text\nx\n");
    corpus.options.id_column = Some("id".to_owned());
    corpus.error(&["a.csv", "`id`", "--id-column"]);
    let wide = format!("text,{}\n", "x".repeat(2 << 20));
    Corpus::of("a.csv", wide.as_bytes()).error(&["a.csv", "1 MiB"]);
}

#[test]
fn records_with_a_wrong_number_of_fields_are_rejected_alone() {
    let rows = Corpus::of("a.csv", b"id,text\n1,uno\n2\n3,tres,extra\n4,cuatro\n").read().rows;
    let texts: Vec<&Text> = rows.iter().map(|row| &row.text).collect();
    let malformed = Err(RejectReason::MalformedRecord);
    assert_eq!(texts, [&ok("uno"), &malformed, &malformed, &ok("cuatro")]);
    assert_eq!(rows[1].kept, [Some("2".to_owned()), None]);
    assert_eq!(rows[2].kept, [Some("3".to_owned()), Some("tres".to_owned())]);
}

#[test]
fn an_unclosed_quote_fails_naming_the_row() {
    let error = Corpus::of("a.csv", b"id,text\n1,uno\n2,\"dos\n3,tres\n4,cuatro\n").error(&[
        "a.csv",
        "after row 0",
        "never closes",
        "--quote none",
    ]);
    assert_eq!(error.kind(), ErrorKind::BadInput);
    assert!(!error.to_string().contains("damaged"), "{error}");
    // On the last line it swallows nothing: one bad row.
    let texts = Corpus::of("a.csv", b"id,text\n1,uno\n2,\"dos").texts();
    assert_eq!(texts, [ok("uno"), Err(RejectReason::MalformedRecord)]);
}

#[test]
fn a_text_of_ten_megabytes_is_accepted() {
    let large = "palabra ".repeat(10 << 17);
    let text = format!("id,text\n1,uno\n2,{large}\n3,tres\n");
    let texts = Corpus::of("a.csv", text.as_bytes()).keep(&["id"]).limits(10, 1 << 20).texts();
    assert!(texts == [ok("uno"), ok(&large), ok("tres")]);
}

#[test]
fn control_characters_and_nul_bytes_are_text() {
    let texts = Corpus::of("a.csv", b"id,text\n1,a\0b\n2,\x1b[31mrojo\n").texts();
    assert_eq!(texts, [ok("a\0b"), ok("\x1b[31mrojo")]);
}

#[test]
fn a_changed_source_is_named() {
    for change in ["longer", "touched", "gone"] {
        let corpus = Corpus::of("a.csv", b"id,text\n1,uno\n2,dos\n");
        let outcome = corpus.read();
        let path = &corpus.files[0];
        match change {
            "longer" => std::fs::write(path, b"id,text\n1,uno\n2,dos\n3,tres\n").unwrap(),
            "touched" => {
                std::fs::write(path, b"id,text\n1,UNO\n2,dos\n").unwrap();
                let later = SystemTime::now() + Duration::from_secs(9);
                std::fs::File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
            }
            _ => std::fs::remove_file(path).unwrap(),
        }
        block_on(async {
            let storage = corpus.storage("store");
            let error = corpus.read_slice(&outcome.planned, &outcome.slices[0], &storage).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SourceChanged, "{change}");
            assert!(error.to_string().contains("a.csv"), "{error}");
            let error = corpus.cutter(&outcome.planned, &storage, Cursor::default()).await.next().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SourceChanged, "{change}");
        });
    }
}

#[test]
fn a_source_changed_during_reading_is_named_at_the_end() {
    let corpus = Corpus::of("a.txt", b"uno\ndos\n");
    let outcome = corpus.read();
    block_on(async {
        let storage = corpus.storage("store");
        let (source, slice) = (&outcome.planned[0], &outcome.slices[0]);
        let mut reader = dataset::read(source, slice, &corpus.options, &storage).await.unwrap();
        assert_eq!(reader.next_chunk().await.unwrap().unwrap().texts.len(), 2);
        std::fs::write(&corpus.files[0], b"uno\ndos\ntres\n").unwrap();
        let error = reader.next_chunk().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceChanged);
    });
}

#[test]
fn a_slice_with_other_rows_than_planned_is_corrupt() {
    let corpus = Corpus::of("a.txt", b"uno\ndos\n");
    let outcome = corpus.read();
    for rows in [1, 3] {
        let mut slice = outcome.slices[0].clone();
        slice.rows = rows;
        let storage = corpus.storage("store");
        let error = block_on(corpus.read_slice(&outcome.planned, &slice, &storage)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("a.txt"), "{error}");
    }
}

#[test]
fn keeping_no_column_gives_an_empty_schema() {
    let mut corpus = Corpus::of("a.csv", b"id,text\n1,uno\n");
    corpus.options.keep = Keep::None;
    let rows = corpus.read().rows;
    assert_eq!((rows[0].text.clone(), rows[0].kept.len()), (ok("uno"), 0));
}

#[test]
fn many_rows_are_returned_in_chunks() {
    let text: String = (0..10_000).map(|row| format!("linea {row}\n")).collect();
    let texts = Corpus::of("a.txt", text.as_bytes()).limits(100_000, 1 << 30).texts();
    assert_eq!(texts.len(), 10_000);
    assert_eq!(texts[9_999], ok("linea 9999"));
}
