//! Tests of the splitters: what is a record must not depend on how its bytes arrive.

use proptest::prelude::*;

use super::*;

const TEXT_FORMATS: [Format; 4] = [Format::Csv, Format::Tsv, Format::Jsonl, Format::Txt];

/// Returns where records end, fed in pieces of the given sizes in turn, and what is left.
fn ends(format: Format, text: &[u8], sizes: &[usize]) -> (Vec<usize>, Tail) {
    let mut splitter = Splitter::new(format, Dialect::of_format(format)).unwrap();
    let (mut ends, mut offset) = (Vec::new(), 0);
    let mut sizes = sizes.iter().cycle();
    while offset < text.len() {
        let size = (*sizes.next().unwrap()).min(text.len() - offset);
        let piece = &text[offset..offset + size];
        let mut at = 0;
        while let Some(length) = splitter.find_end(&piece[at..]) {
            at += length;
            ends.push(offset + at);
        }
        offset += size;
    }
    (ends, splitter.finish())
}

proptest! {
    #[test]
    fn record_ends_do_not_depend_on_blocks(
        text in proptest::collection::vec(proptest::sample::select(b"ab \t,\"\r\n{}".to_vec()), 0..60),
        sizes in proptest::collection::vec(1_usize..9, 1..5),
    ) {
        for format in TEXT_FORMATS {
            prop_assert_eq!(ends(format, &text, &sizes), ends(format, &text, &[usize::MAX]), "{:?}", format);
        }
    }

    #[test]
    fn splitting_resumed_at_any_record_end_goes_on_as_before(
        text in proptest::collection::vec(proptest::sample::select(b"ab \t,\"\r\n{}".to_vec()), 0..60),
    ) {
        for format in TEXT_FORMATS {
            let (all, tail) = ends(format, &text, &[usize::MAX]);
            for (done, &start) in all.iter().enumerate() {
                let (rest, rest_tail) = ends(format, &text[start..], &[usize::MAX]);
                let rest: Vec<usize> = rest.into_iter().map(|end| start + end).collect();
                prop_assert_eq!(&rest[..], &all[done + 1..], "{:?} from {}", format, start);
                prop_assert_eq!(rest_tail, tail);
            }
        }
    }
}

#[test]
fn lines_end_as_in_python_text_mode() {
    let (found, tail) = ends(Format::Txt, b"a\nb\r\n\rc\r\r\nd", &[usize::MAX]);
    assert_eq!(found, [2, 5, 6, 8, 10]);
    assert_eq!(tail, Tail::Record);
    assert_eq!(ends(Format::Txt, b"a\n", &[1]), (vec![2], Tail::Nothing));
    assert_eq!(ends(Format::Txt, b"a\r", &[1]), (vec![], Tail::Record));
}

#[test]
fn white_space_lines_are_no_json_records() {
    let text = b"\n \t\r\n{}\n\n  {} \r\n \n";
    assert_eq!(ends(Format::Jsonl, text, &[2]), (vec![8, 16], Tail::Nothing));
}

#[test]
fn an_open_quote_is_told_from_a_swallowed_file() {
    assert_eq!(ends(Format::Csv, b"1,\"abc", &[1]).1, Tail::Record);
    assert_eq!(ends(Format::Csv, b"1,\"abc\n2,x\n", &[1]).1, Tail::OpenQuote);
    assert_eq!(ends(Format::Csv, b"1,\"abc\n\"\"2,x", &[3]).1, Tail::OpenQuote);
    assert_eq!(ends(Format::Csv, b"1,\"a\nb\"", &[1]).1, Tail::Record);
}

#[test]
fn other_files_are_recognised_by_their_first_bytes() {
    for (front, word) in [
        (&b"\xff\xfe\0\0i\0\0\0"[..], "UTF-32"),
        (b"\0\0\xfe\xff", "UTF-32"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"PK\x03\x04", "zip"),
        (b"PAR1", "parquet"),
        (b"ARROW1\0\0", "arrow"),
    ] {
        assert!(sniff(front, None).unwrap_err().contains(word), "{front:?}");
    }
}

#[test]
fn a_byte_order_mark_says_the_encoding_whatever_the_options_say() {
    use encoding_rs::{UTF_16BE, UTF_16LE, WINDOWS_1252};
    for given in [None, Some(WINDOWS_1252), Some(UTF_8)] {
        assert_eq!(sniff(b"\xef\xbb\xbfid", given), Ok(Sniffed { encoding: None, mark: 3 }));
        assert_eq!(sniff(b"\xff\xfei\0d\0", given), Ok(Sniffed { encoding: Some(UTF_16LE), mark: 2 }));
        assert_eq!(sniff(b"\xfe\xff\0i", given), Ok(Sniffed { encoding: Some(UTF_16BE), mark: 2 }));
    }
    assert_eq!(sniff(b"id", Some(WINDOWS_1252)), Ok(Sniffed { encoding: Some(WINDOWS_1252), mark: 0 }));
    assert_eq!(sniff(b"", None), Ok(Sniffed { encoding: None, mark: 0 }));
    assert_eq!(sniff(b"id", Some(UTF_8)), Ok(Sniffed { encoding: None, mark: 0 }));
}
