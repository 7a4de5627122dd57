//! Compressed sources: pieces in job storage, damage, and what a record too large does.

use bytes::Bytes;
use dataset::{Compression, Cursor, ErrorKind, RejectReason, SliceRange};

use crate::harness::{Corpus, block_on, compress};

fn csv(rows: usize) -> Vec<u8> {
    let mut text = String::from("id,text\n");
    for id in 0..rows {
        text.push_str(&format!("{id},frase numero {id} con algo mas de texto\n"));
    }
    text.into_bytes()
}

#[test]
fn slices_of_compressed_sources_are_read_from_pieces() {
    let text = csv(100);
    let corpus = Corpus::of("a.csv.gz", &compress(Compression::Gzip, &text)).limits(7, 1 << 20);
    let outcome = corpus.read();
    block_on(async {
        let storage = corpus.storage("store");
        let mut joined = b"id,text\n".to_vec();
        for slice in &outcome.slices {
            let key = slice.recut_key.as_ref().unwrap();
            assert!(key.starts_with("jobs/1/recut/"), "{key}");
            let piece = storage.get(key).await.unwrap();
            assert_eq!(slice.range, SliceRange::Bytes { start: 0, end: piece.len() as u64 });
            joined.extend_from_slice(&piece);
        }
        assert!(joined == text);
        assert_eq!(storage.list("").await.unwrap().len(), outcome.slices.len());
        std::fs::remove_file(&corpus.files[0]).unwrap();
        for slice in &outcome.slices {
            corpus.read_slice(&outcome.planned, slice, &storage).await.unwrap();
        }
    });
}

#[test]
fn a_piece_with_other_bytes_is_refused() {
    let corpus = Corpus::of("a.csv.zst", &compress(Compression::Zstd, &csv(10)));
    block_on(async {
        let planned = corpus.plan().await.unwrap();
        let storage = corpus.storage("store");
        let key = "jobs/1/recut/00000-0000000000000008";
        storage.put_new(key, Bytes::from_static(b"foreign")).await.unwrap();
        let mut cutter = corpus.cutter(&planned, &storage, Cursor::default()).await;
        let error = cutter.next().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(key), "{error}");
        assert_eq!(cutter.cursor(), Cursor::default());
        // Once it is out of the way, the same cutter goes on.
        storage.delete(key).await.unwrap();
        assert_eq!(cutter.next().await.unwrap().unwrap().rows, 10);
        assert_eq!(cutter.next().await.unwrap(), None);
    });
}

#[test]
fn a_missing_piece_is_not_found() {
    let corpus = Corpus::of("a.csv.gz", &compress(Compression::Gzip, &csv(10)));
    let outcome = corpus.read();
    let empty = corpus.storage("empty");
    let error = block_on(corpus.read_slice(&outcome.planned, &outcome.slices[0], &empty)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn truncated_data_fails_with_the_last_good_row_and_keeps_the_slices_before_it() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        // Noise that does not compress, in two members: the second is cut off in its middle.
        let noise = |seed: u64| {
            let mut state = seed;
            let mut text = String::new();
            for _ in 0..30_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(&format!("{:x}\n", state >> 20));
            }
            text
        };
        let (first, second) = (noise(1), noise(2));
        let mut bytes = compress(compression, first.as_bytes());
        let rest = compress(compression, second.as_bytes());
        bytes.extend_from_slice(&rest[..rest.len() / 2]);
        let name = if compression == Compression::Gzip { "a.txt.gz" } else { "a.txt.zst" };
        let corpus = Corpus::of(name, &bytes).limits(10_000, 1 << 20);
        block_on(async {
            let planned = corpus.plan().await.unwrap();
            let storage = corpus.storage("store");
            let mut cutter = corpus.cutter(&planned, &storage, Cursor::default()).await;
            let mut rows = 0;
            let error = loop {
                match cutter.next().await {
                    Ok(Some(slice)) => rows += slice.rows,
                    Ok(None) => panic!("the damage went unnoticed"),
                    Err(error) => break error,
                }
            };
            assert!(rows >= 30_000, "{rows} rows before the damage");
            assert_eq!(cutter.cursor().next_row, rows);
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let message = error.to_string();
            assert!(message.contains(name) && message.contains("cut off"), "{message}");
            let row = message.split("after row ").nth(1).unwrap().split(':').next().unwrap().parse::<u64>().unwrap();
            assert!(row >= rows - 1 && row < 60_000, "{message}");
        });
    }
}

#[test]
fn a_record_too_large_is_rejected_alone_in_every_text_format() {
    // Over 32 MiB that compress less than 200 times, with quotes, commas and line ends where the format bears them.
    let mut large = String::with_capacity(34 << 20);
    let mut state = 1_u32;
    while large.len() < 33 << 20 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        large.push_str(&format!("{state:x} "));
    }
    let csv = format!("id,text\n1,antes\n2,\"{}\"\n3,despues\n", large.replace("1 ", "1,\n"));
    let jsonl = format!("{{\"text\":\"antes\"}}\n{{\"text\":\"{large}\"}}\n{{\"text\":\"despues\"}}\n");
    let txt = format!("antes\n{large}\ndespues\n");
    let cases = [
        ("a.csv", csv.as_bytes(), Compression::None),
        ("a.csv.zst", csv.as_bytes(), Compression::Zstd),
        ("a.jsonl", jsonl.as_bytes(), Compression::None),
        ("a.txt.zst", txt.as_bytes(), Compression::Zstd),
    ];
    for (name, text, compression) in cases {
        let corpus = Corpus::of(name, &compress(compression, text)).keep(&[]).limits(100, 1 << 20);
        let outcome = corpus.read();
        let texts: Vec<_> = outcome.rows.iter().map(|row| row.text.as_deref()).collect();
        assert_eq!(texts, [Ok("antes"), Err(&RejectReason::TextTooLarge), Ok("despues")], "{name}");
        assert_eq!(outcome.slices.len(), 3);
        // Again over the same pieces, one of which was streamed.
        assert_eq!(corpus.read().slices, outcome.slices);
    }
}

#[test]
fn a_bomb_is_refused_naming_the_file() {
    let text = [&b"text\n"[..], &vec![b'a'; 64 << 20]].concat();
    let error = Corpus::of("bomb.csv.zst", &compress(Compression::Zstd, &text))
        .keep(&[])
        .error(&["bomb.csv.zst", "decompress it first"]);
    assert_eq!(error.kind(), ErrorKind::BadInput);
    assert!(!error.to_string().contains("damaged"), "{error}");
}
