//! Tests of splitting JSON arrays.

use super::*;

/// Returns the records of a text, and why it cannot end there.
fn records(text: &str) -> (Vec<&str>, Option<&'static str>) {
    let mut elements = Elements::default();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(length) = elements.find_end(&text.as_bytes()[at..]) {
        found.push(&text[at..at + length]);
        at += length;
    }
    (found, elements.end_problem())
}

#[test]
fn a_record_is_an_element_with_its_separator() {
    let text = r#"[{"a":"]},\""} , {"b":[{}]},"x",1.5,null , [2]
    ]
    "#;
    let expected = [r#"[{"a":"]},\""}"#, r#" , {"b":[{}]}"#, r#","x""#, ",1.5", ",null", " , [2]"];
    assert_eq!(records(text), (expected.to_vec(), None));
    assert_eq!(records("[]"), (vec![], None));
    assert_eq!(records("[[1],{}]"), (vec!["[[1]", ",{}"], None));
}

#[test]
fn an_unterminated_array_is_an_error() {
    for text in ["", "[", "[{}", "[{},", "[{},{\"a\":\"b", "[{\"a\":{}", "[1"] {
        assert!(records(text).1.unwrap().contains("does not end"), "{text}");
    }
    for text in ["[]x", "[{}]\n[{}]", "[{}],{}"] {
        assert!(records(text).1.unwrap().contains("behind the closing bracket"), "{text}");
    }
}

#[test]
fn an_element_follows_exactly_one_separator() {
    for (record, expected) in [("[{}", "{}"), (" ,\n {}", "\n {}"), (",,{}", ",{}"), ("{}", ""), ("]{}", "")] {
        assert_eq!(element(record.as_bytes()), expected.as_bytes(), "{record}");
    }
}
