//! Tests that splitting does not depend on block boundaries.

use proptest::prelude::*;
use spec::Quote;

use super::*;
use crate::corpus::text::SIGNATURES;
use crate::corpus::text_format::Tail;

fn text_formats() -> Vec<Format> {
    Format::ALL.iter().copied().filter(|format| text_format(*format).is_some()).collect()
}

#[test]
fn every_columnar_format_is_detected_where_text_is_expected() {
    for format in Format::ALL.iter().filter(|format| text_format(**format).is_none()) {
        let advice = format!("--format {format}, or name it .{}", layout(*format).1[0]);
        let is_known = SIGNATURES.iter().any(|(_, problem)| problem.ends_with(&advice));
        assert!(is_known, "add the first bytes of `{format}` to SIGNATURES in text.rs, with `{advice}`");
    }
}

/// Returns record ends and tail of a text, in blocks of the given sizes.
fn ends(format: Format, text: &[u8], sizes: &[usize]) -> (Vec<usize>, Tail) {
    let mut splitter = text_format(format).unwrap().splitter(Dialect::of_format(format));
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
    fn record_ends_do_not_depend_on_block_boundaries(
        text in proptest::collection::vec(proptest::sample::select(b"ab \t,\"\r\n{}[]\\".to_vec()), 0..60),
        sizes in proptest::collection::vec(1_usize..9, 1..5),
    ) {
        for format in text_formats() {
            prop_assert_eq!(ends(format, &text, &sizes), ends(format, &text, &[usize::MAX]), "{:?}", format);
        }
    }

    #[test]
    fn splitting_can_resume_at_any_record_end(
        text in proptest::collection::vec(proptest::sample::select(b"ab \t,\"\r\n{}[]\\".to_vec()), 0..60),
    ) {
        for format in text_formats() {
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
fn line_ends_match_python_text_mode() {
    let (found, tail) = ends(Format::Txt, b"a\nb\r\n\rc\r\r\nd", &[usize::MAX]);
    assert_eq!(found, [2, 5, 6, 8, 10]);
    assert_eq!(tail, Tail::Record);
    assert_eq!(ends(Format::Txt, b"a\n", &[1]), (vec![2], Tail::Nothing));
    assert_eq!(ends(Format::Txt, b"a\r", &[1]), (vec![], Tail::Record));
}

#[test]
fn blank_lines_are_not_json_records() {
    let text = b"\n \t\r\n{}\n\n  {} \r\n \n";
    assert_eq!(ends(Format::Jsonl, text, &[2]), (vec![8, 16], Tail::Nothing));
}

#[test]
fn an_unclosed_quote_is_detected_at_the_end() {
    assert_eq!(ends(Format::Csv, b"1,\"abc", &[1]).1, Tail::Record);
    assert_eq!(ends(Format::Csv, b"1,\"abc\n2,x\n", &[1]).1, Tail::Open);
    assert_eq!(ends(Format::Csv, b"1,\"abc\n\"\"2,x", &[3]).1, Tail::Open);
    assert_eq!(ends(Format::Csv, b"1,\"a\nb\"", &[1]).1, Tail::Record);
}

fn source(format: Format) -> Source {
    Source { uri: "/a".to_owned(), format, compression: spec::Compression::None }
}

#[test]
fn an_option_that_applies_to_no_source_is_refused() {
    let delimiter = ReadOptions { delimiter: Some(';'), ..ReadOptions::default() };
    let quote = ReadOptions { quote: Some(Quote::None), ..ReadOptions::default() };
    let encoding = ReadOptions { encoding: Some("windows-1252".to_owned()), ..ReadOptions::default() };
    for (options, option, bad, good) in [
        (&delimiter, "--delimiter", Format::Jsonl, Format::Csv),
        (&quote, "--quote", Format::Txt, Format::Tsv),
        (&encoding, "--encoding", Format::Parquet, Format::Txt),
    ] {
        let error = check_dialect(&[source(bad)], options).unwrap_err().to_string();
        assert!(error.contains(option), "{error}");
        check_dialect(&[source(bad), source(good)], options).unwrap();
    }
}

#[test]
fn conflicting_delimiter_and_quote_are_refused() {
    let options = |delimiter, quote| ReadOptions { delimiter, quote, ..ReadOptions::default() };
    for refused in [
        options(Some('\n'), None),
        options(Some('§'), None),
        options(Some('"'), None),
        options(None, Some(Quote::Char('é'))),
        options(None, Some(Quote::Char(','))),
    ] {
        assert!(check_dialect(&[source(Format::Csv)], &refused).is_err(), "{refused:?}");
    }
    check_dialect(&[source(Format::Csv)], &options(Some('"'), Some(Quote::None))).unwrap();
    check_dialect(&[source(Format::Tsv)], &options(None, Some(Quote::Char(',')))).unwrap();
}
