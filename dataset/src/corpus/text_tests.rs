//! Tests of encoding and file type detection.

use super::*;

#[test]
fn other_file_types_are_detected_by_signature() {
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
fn a_byte_order_mark_overrides_the_encoding_option() {
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
