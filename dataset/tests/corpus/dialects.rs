//! Files that are not spelled as RFC 4180 and UTF-8 have it: read as the options say, or refused with the option to add.

use dataset::{
    Compression, ErrorKind, Keep, Notice, Quote, ReadOptions, RejectReason, SliceRange, encoding_name, expand,
    inspect_with_notices,
};

use crate::harness::{Corpus, Text, block_on, compress, path_text};

fn ok(text: &str) -> Text {
    Ok(text.to_owned())
}

fn with(mut corpus: Corpus, options: ReadOptions) -> Corpus {
    corpus.options = options;
    corpus
}

fn encoded_as(label: &str) -> ReadOptions {
    ReadOptions { encoding: Some(encoding_name(label).unwrap().to_owned()), ..ReadOptions::default() }
}

fn unquoted() -> ReadOptions {
    ReadOptions { quote: Some(Quote::None), ..ReadOptions::default() }
}

/// The warnings of inspecting a corpus, and of cutting it.
fn notices(corpus: &Corpus) -> (Vec<Notice>, Vec<Notice>) {
    block_on(async {
        let patterns = [path_text(&corpus.files[0]).to_owned()];
        let sources = expand(&patterns, None).await.unwrap();
        let (planned, before) = inspect_with_notices(&sources, &corpus.options).await.unwrap();
        let mut cutter = corpus.cutter(&planned, &corpus.storage("store"), Default::default()).await;
        while cutter.next().await.unwrap().is_some() {}
        (before, cutter.take_notices())
    })
}

fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(to_bytes).collect()
}

#[test]
fn delimiter_and_quote_options_are_applied() {
    let semicolons = ReadOptions { delimiter: Some(';'), ..ReadOptions::default() };
    let corpus = Corpus::of("a.csv", b"id;text\n1;\"uno; \"\"dos\"\"\"\n2;tres, cuatro\n");
    assert_eq!(with(corpus, semicolons).texts(), [ok("uno; \"dos\""), ok("tres, cuatro")]);
    let apostrophes = ReadOptions { quote: Some(Quote::Char('\'')), ..ReadOptions::default() };
    let corpus = Corpus::of("a.tsv", b"id\ttext\n1\t'uno\n\"dos\"'\n2\t\"tres\"\n");
    assert_eq!(with(corpus, apostrophes).texts(), [ok("uno\n\"dos\""), ok("\"tres\"")]);
}

#[test]
fn the_line_in_which_excel_names_the_delimiter_is_not_a_record() {
    let semicolon = || ReadOptions { delimiter: Some(';'), ..ReadOptions::default() };
    let text = "sep=;\r\nid;text\r\n1;uno\r\n2;dos\r\n";
    let expected = [ok("uno"), ok("dos")];
    for bytes in [
        text.as_bytes().to_vec(),
        text.replace("\r\n", "\n").into_bytes(),
        utf16(&format!("\u{feff}{text}"), u16::to_le_bytes),
    ] {
        for rows_max in [1000, 1] {
            let corpus = with(Corpus::of("a.csv", &bytes), semicolon()).limits(rows_max, 1 << 20);
            assert_eq!(corpus.texts(), expected);
        }
    }
    assert_eq!(Corpus::of("a.csv", b"SEP=,\nid,text\n1,uno\n2,dos\n").texts(), expected);
    let later = with(Corpus::of("a.csv", b"sep=;\nid;text\nsep=;\n"), semicolon());
    assert_eq!(later.texts(), [Err(RejectReason::EmptyText)], "a later line is a record");

    for (text, option) in [("sep=;\nid;text\n1;uno\n", "--delimiter ';'"), ("sep=\t\nid\ttext\n", "--delimiter tab")] {
        let refused = block_on(Corpus::of("a.csv", text.as_bytes()).plan()).unwrap_err().to_string();
        assert!(refused.contains("Excel's `sep=") && refused.contains(option), "{refused}");
    }
}

#[test]
fn without_quotes_every_line_is_a_row() {
    let text = b"text\nuno dos\n\"hola que tal\ntres\ncuatro\n\"adios\nseis\n";
    assert_eq!(Corpus::of("stray.csv", text).texts().len(), 3);
    for limits in [(1, 1), (2, 1 << 20), (1000, 1 << 20)] {
        let corpus = with(Corpus::of("stray.csv", text), unquoted()).limits(limits.0, limits.1);
        let outcome = corpus.read();
        let texts: Vec<Text> = outcome.rows.iter().map(|row| row.text.clone()).collect();
        let lines = ["uno dos", "\"hola que tal", "tres", "cuatro", "\"adios", "seis"];
        assert_eq!(texts, lines.map(ok));
        corpus.check_resume(&outcome);
    }
}

#[test]
fn rows_swallowed_by_quotes_cause_a_warning() {
    let text = b"text\nuno dos\n\"hola que tal\ntres\ncuatro\n\"adios\nseis\n";
    let (_, found) = notices(&Corpus::of("stray.csv", text));
    assert_eq!(found.len(), 1);
    let said = found[0].to_string();
    for part in ["stray.csv", "row 1", "4 lines", "--quote none"] {
        assert!(said.contains(part), "{said}");
    }
    // As a TSV with other columns, far down, in CRLF.
    let mut text = "id\ttext\tb\r\n".to_owned();
    for id in 0..3000 {
        text.push_str(&format!("{id}\t{}hola {id}\tx\r\n", if id == 500 || id == 1500 { "\"" } else { "" }));
    }
    let (_, found) = notices(&Corpus::of("far.tsv", text.as_bytes()));
    assert!(found[0].to_string().contains("row 500") && found[0].to_string().contains("1001 lines"), "{}", found[0]);
    // Texts that go on over a few lines are what quotes are for.
    let (before, found) = notices(&Corpus::of("fine.csv", b"id,text\n1,\"a\nb\nc\"\n2,\"d \"\"e\"\" f\"\n"));
    assert_eq!((before, found), (vec![], vec![]));
    // Many lines in one field may be meant, but it is said.
    let long = format!("text\n\"{}\"\n", "verso\n".repeat(30));
    let (_, found) = notices(&Corpus::of("long.csv", long.as_bytes()));
    assert!(found[0].to_string().contains("31 lines"), "{}", found[0]);
    let (_, found) = notices(&Corpus::of("dropped.csv", b"text\n\"Hola\" dijo\nadios\n"));
    assert!(found[0].to_string().contains("row 0") && found[0].to_string().contains("--quote none"), "{}", found[0]);
    // Without quotes there is nothing to say.
    assert_eq!(notices(&with(Corpus::of("dropped.csv", b"text\n\"Hola\" dijo\nadios\n"), unquoted())).1, []);
}

#[test]
fn duplicate_and_empty_column_names_are_supported() {
    let commas = b"text,label,,\nhola mundo,a,,\nadios mundo,b,,\n";
    let corpus = || Corpus::of("trailing-commas.csv", commas);
    assert_eq!(corpus().keep(&["text"]).texts(), [ok("hola mundo"), ok("adios mundo")]);
    let outcome = corpus().read();
    assert_eq!(outcome.planned[0].header, ["text", "label", "column_3", "column_4"]);
    assert_eq!(outcome.rows[1].kept, ["adios mundo", "b", "", ""].map(|text| Some(text.to_owned())));
    let twice = || Corpus::of("duplicate-names.csv", b"text,label,label\nhola mundo,a,b\n");
    assert_eq!(twice().keep(&["text"]).texts(), [ok("hola mundo")]);
    assert_eq!(twice().keep(&["label_2"]).read().rows[0].kept, [Some("b".to_owned())]);
    let outcome = twice().read();
    assert_eq!(outcome.planned[0].header, ["text", "label", "label_2"]);
    assert_eq!(outcome.rows[0].kept, ["hola mundo", "a", "b"].map(|text| Some(text.to_owned())));
    let (before, _) = notices(&twice());
    assert!(before[0].to_string().contains("`label_2`"), "{}", before[0]);
    // Of two text columns the first is read.
    assert_eq!(Corpus::of("a.csv", b"text,text\nuno,dos\n").texts(), [ok("uno")]);
}

const SPANISH: &str = "id;text\n1;año «niño» 5 €\n2;\"mañana; y —pasado—\"\n3;hola\n4;¿qué?\n";

fn spanish_texts() -> [Text; 4] {
    ["año «niño» 5 €", "mañana; y —pasado—", "hola", "¿qué?"].map(ok)
}

#[test]
fn a_csv_from_a_spanish_spreadsheet_is_read_with_two_options() {
    let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode(SPANISH);
    let semicolons = |options| ReadOptions { delimiter: Some(';'), ..options };
    // Without them, each message names the next option.
    let corpus = Corpus::of("a.csv", &bytes);
    let message = corpus.error(&["a.csv"]).to_string();
    assert!(message.ends_with("add --delimiter ';'"), "{message}");
    let error = with(corpus, semicolons(ReadOptions::default())).error(&["a.csv", "3 of its first 4 rows"]);
    assert!(error.to_string().ends_with("add --encoding windows-1252"), "{error}");
    assert_eq!(error.kind(), ErrorKind::BadInput);
    for label in ["windows-1252", "latin1", "cp1252"] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let name = ["a.csv", "a.csv.gz", "a.csv.zst"][compression as usize];
            for limits in [(1, 1), (2, 40), (1000, 1 << 20)] {
                let corpus = with(Corpus::of(name, &compress(compression, &bytes)), semicolons(encoded_as(label)))
                    .limits(limits.0, limits.1);
                let outcome = corpus.read();
                let texts: Vec<Text> = outcome.rows.iter().map(|row| row.text.clone()).collect();
                assert_eq!(texts, spanish_texts(), "{label} {name}");
                assert!(outcome.slices.iter().all(|slice| slice.recut_key.is_some()));
                corpus.check_resume(&outcome);
            }
        }
    }
}

#[test]
fn utf_16_is_read_by_its_mark_or_option() {
    let semicolons = |options| ReadOptions { delimiter: Some(';'), ..options };
    for (to_bytes, label) in [(u16::to_le_bytes as fn(u16) -> [u8; 2], "utf-16le"), (u16::to_be_bytes, "utf-16be")] {
        let marked = utf16(&format!("\u{feff}{SPANISH}"), to_bytes);
        let bare = utf16(SPANISH, to_bytes);
        for limits in [(1, 1), (2, 1 << 20)] {
            let options =
                [ReadOptions::default(), encoded_as("windows-1252"), encoded_as("utf-8"), encoded_as("utf-16le")];
            for options in options {
                let corpus = with(Corpus::of("a.csv", &marked), semicolons(options)).limits(limits.0, limits.1);
                let outcome = corpus.read();
                assert_eq!(corpus.texts(), spanish_texts());
                corpus.check_resume(&outcome);
            }
            let corpus = with(Corpus::of("a.csv", &bare), semicolons(encoded_as(label))).limits(limits.0, limits.1);
            assert_eq!(corpus.texts(), spanish_texts());
        }
        let error = Corpus::of("a.csv", &bare).error(&["a.csv", "UTF-16 text without a byte order mark"]).to_string();
        assert!(error.to_lowercase().ends_with(&format!("--encoding {label}")), "{error}");
    }
    let lines = utf16("\u{feff}uno\r\nañ\u{a0d}o\u{d0a}\r\n", u16::to_le_bytes);
    assert_eq!(Corpus::of("a.txt", &lines).texts(), [ok("uno"), ok("añ\u{a0d}o\u{d0a}")]);
    let json = utf16("\u{feff}{\"text\":\"año\"}\n{\"text\":\"\u{1f600}\"}\n", u16::to_be_bytes);
    assert_eq!(Corpus::of("a.jsonl", &json).texts(), [ok("año"), ok("\u{1f600}")]);
}

#[test]
fn undecodable_bytes_only_reject_their_row() {
    // Half of a surrogate pair in the second of three lines.
    let mut bytes = utf16("\u{feff}uno\n", u16::to_le_bytes);
    bytes.extend_from_slice(&[0x3d, 0xd8, b'x', 0, b'\n', 0]);
    bytes.extend_from_slice(&utf16("tres", u16::to_le_bytes));
    let rows = Corpus::of("a.txt", &bytes).read().rows;
    assert_eq!(
        rows.iter().map(|row| row.text.clone()).collect::<Vec<_>>(),
        [ok("uno"), Err(RejectReason::InvalidUtf8), ok("tres")]
    );
    assert_eq!(rows[1].kept, [None]);
}

#[test]
fn a_utf8_mark_overrides_options_and_valid_utf8_causes_a_warning() {
    let marked = Corpus::of("a.txt", "\u{feff}año\n".as_bytes());
    assert_eq!(with(marked, encoded_as("windows-1252")).texts(), [ok("año")]);
    let bare = with(Corpus::of("a.txt", "año\n".as_bytes()), encoded_as("windows-1252"));
    assert_eq!(bare.texts(), [ok("aÃ±o")]);
    assert!(notices(&bare).0[0].to_string().contains("good UTF-8"));
    let ascii = with(Corpus::of("a.txt", b"hola\n"), encoded_as("windows-1252"));
    assert_eq!(notices(&ascii).0, []);
}

#[test]
fn a_file_with_mostly_invalid_utf8_is_refused() {
    for (name, front, row, back) in [
        ("a.csv", "id,text\n", &b"1,a\xf1o\n"[..], "2,hola\n"),
        ("a.txt", "", b"a\xf1o\n", "hola\n"),
        ("a.jsonl", "", b"{\"text\":\"a\xf1o\"}\n", "{\"text\":\"hola\"}\n"),
    ] {
        let file =
            |odd: usize, good: usize| [front.as_bytes(), &row.repeat(odd), back.repeat(good).as_bytes()].concat();
        let error = Corpus::of(name, &file(60, 40)).error(&[name, "60 of its first 100 rows"]);
        assert!(error.to_string().ends_with("add --encoding windows-1252"), "{error}");
        // Fewer are rejected one by one, and the option is named.
        let corpus = Corpus::of(name, &file(40, 60));
        assert_eq!(corpus.texts().iter().filter(|text| text.is_err()).count(), 40);
        let (before, _) = notices(&corpus);
        assert!(before[0].to_string().ends_with("add --encoding windows-1252"), "{}", before[0]);
    }
    // A column that nobody keeps is no reason.
    let file = b"text,x\nhola,a\xf1o\n";
    assert_eq!(Corpus::of("a.csv", file).keep(&["text"]).texts(), [ok("hola")]);
    Corpus::of("a.csv", file).error(&["a.csv", "--encoding windows-1252"]);
    // Single bad bytes among good UTF-8 are no other encoding.
    let corpus = Corpus::of(
        "a.txt",
        "año\nniño\nca\u{301}\n".as_bytes().iter().chain(b"\xff\n").copied().collect::<Vec<_>>().as_slice(),
    );
    assert!(notices(&corpus).0[0].to_string().contains("for example"), "{}", notices(&corpus).0[0]);
    let error = Corpus::of("a.txt", b"\x81\x8d\n").error(&["a.txt"]).to_string();
    assert!(!error.contains("add --encoding windows-1252"), "{error}");
    Corpus::of("latin.csv", b"a\xf1o,text\n1,uno\n").error(&["latin.csv", "header", "--encoding windows-1252"]);
}

#[test]
fn large_files_in_another_encoding_are_cut_by_text() {
    // Many blocks, with characters and line ends across their borders.
    let mut text = "id;text\n".to_owned();
    while text.len() < 3 << 20 {
        text.push_str(&format!("{};\"niño {0} —\n€ \"\"ñ\"\"\"\n", text.len()));
    }
    let expected = Corpus::of("utf8.csv", text.as_bytes());
    let options = ReadOptions { delimiter: Some(';'), keep: Keep::All, ..ReadOptions::default() };
    let expected = with(expected, options.clone()).limits(5000, 1 << 18).read();
    let (latin, _, _) = encoding_rs::WINDOWS_1252.encode(&text);
    let sources = [(latin.to_vec(), "windows-1252"), (utf16(&text, u16::to_be_bytes), "utf-16be")];
    for (bytes, label) in sources {
        let corpus =
            with(Corpus::of("a.csv", &bytes), ReadOptions { encoding: encoded_as(label).encoding, ..options.clone() });
        let outcome = corpus.limits(5000, 1 << 18).read();
        assert_eq!(outcome.rows, expected.rows, "{label}");
        let lengths = |slices: &[dataset::Slice]| -> Vec<u64> {
            slices
                .iter()
                .map(|slice| match slice.range {
                    SliceRange::Bytes { start, end } => end - start,
                    SliceRange::Rows { .. } => 0,
                })
                .collect()
        };
        assert_eq!(lengths(&outcome.slices), lengths(&expected.slices));
        assert_eq!(outcome.hashes, expected.hashes);
    }
}

#[test]
fn options_that_apply_to_no_source_are_refused() {
    with(Corpus::of("a.jsonl", b"{\"text\":\"x\"}\n"), unquoted()).error(&["--quote"]);
    with(Corpus::of("a.txt", b"x\n"), ReadOptions { delimiter: Some(';'), ..ReadOptions::default() })
        .error(&["--delimiter"]);
}
