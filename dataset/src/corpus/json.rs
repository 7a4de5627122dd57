//! The members of a JSON object as they are spelled: a view into the record, so that nothing is lost by rewriting.
//!
//! `NaN`, `Infinity` and `-Infinity` are numbers here, though JSON has none of them: Python writes them, and pandas,
//! pyarrow and DuckDB read them. As DuckDB does, we take them in any case, and `Inf` for short.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// A value by its first byte, with its spelling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number as it is spelled; see [`non_finite`] for those that JSON has not.
    Number(&'a str),
    /// A string with its quotes and escapes; may be no valid UTF-8.
    String(&'a [u8]),
    /// An array or object; may be no valid UTF-8 inside its strings.
    Nested(&'a [u8]),
}

/// Returns keys and values of the object that `record` spells, in its order, or `None` where it is no JSON object or a
/// key is no valid string. The values are views to pass to [`kind`]. Of a repeated key the last value counts, as in
/// Python: callers that fill slots in order get that by themselves.
pub(crate) fn members(record: &[u8]) -> Option<Vec<(String, &[u8])>> {
    if !is_json(record) {
        return None;
    }
    // From here on the record is known to be JSON, so that bytes can be skipped without judging them.
    let mut walk = Walk { json: record, at: 0 };
    walk.skip_space();
    if walk.peek() != Some(b'{') {
        return None;
    }
    walk.at += 1;
    let mut members = Vec::new();
    loop {
        walk.skip_space();
        match walk.peek()? {
            b'}' => return Some(members),
            b',' => {
                walk.at += 1;
                walk.skip_space();
            }
            _ => {}
        }
        let key = string(walk.value())?.into_owned();
        walk.skip_space();
        // The colon.
        walk.at += 1;
        walk.skip_space();
        members.push((key, walk.value()));
    }
}

/// Tells whether the bytes are one JSON value, whatever the strings in it hold.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    let parses = |bytes: &[u8]| serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    parses(bytes) || with_zeros(bytes).is_some_and(|bytes| parses(&bytes))
}

/// Returns the number that a spelling of NaN or an infinity stands for.
pub(crate) fn non_finite(spelling: &str) -> Option<f64> {
    let (sign, word) = spelling.strip_prefix('-').map_or((1.0, spelling), |word| (-1.0, word));
    let is = |name: &str| word.eq_ignore_ascii_case(name);
    match () {
        () if is("nan") => Some(f64::NAN),
        () if is("inf") || is("infinity") => Some(sign * f64::INFINITY),
        () => None,
    }
}

/// Returns the bytes with zeros in the place of NaN and infinities, or `None` where there are none outside of strings.
fn with_zeros(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut copy = None;
    let mut walk = Walk { json: bytes, at: 0 };
    while let Some(byte) = walk.peek() {
        if byte == b'"' {
            walk.skip_string();
        } else if b",:[]{} \t\r\n".contains(&byte) {
            walk.at += 1;
        } else {
            let start = walk.at;
            let word = walk.value();
            if std::str::from_utf8(word).is_ok_and(|word| non_finite(word).is_some()) {
                let copy = copy.get_or_insert_with(|| bytes.to_vec());
                copy[start..walk.at].fill(b' ');
                copy[start] = b'0';
            }
        }
    }
    copy
}

/// Tells what a value from [`members`] is.
pub(crate) fn kind(value: &[u8]) -> Value<'_> {
    match value.first() {
        Some(b'"') => Value::String(value),
        Some(b'{' | b'[') => Value::Nested(value),
        Some(b't') => Value::Boolean(true),
        Some(b'f') => Value::Boolean(false),
        _ if value == b"null" => Value::Null,
        _ => std::str::from_utf8(value).map_or(Value::Null, Value::Number),
    }
}

/// Returns the string that `spelling` (with quotes) stands for, or `None` for invalid UTF-8 or a lone surrogate.
pub(crate) fn string(spelling: &[u8]) -> Option<Cow<'_, str>> {
    let inside = spelling.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !inside.contains(&b'\\') {
        return std::str::from_utf8(inside).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice::<String>(spelling).ok().map(Cow::Owned)
}

/// A position in bytes that are known to be JSON.
struct Walk<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Steps over the value that begins here and returns its spelling.
    fn value(&mut self) -> &'a [u8] {
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'{' | b'[') => self.skip_nested(),
            _ => {
                while self.peek().is_some_and(|byte| !b",}] \t\n\r:".contains(&byte)) {
                    self.at += 1;
                }
            }
        }
        &self.json[start..self.at]
    }

    fn skip_string(&mut self) {
        self.at += 1;
        while let Some(length) = memchr::memchr2(b'"', b'\\', &self.json[self.at..]) {
            self.at += length + 1;
            if self.json[self.at - 1] == b'"' {
                return;
            }
            self.at += 1;
        }
        self.at = self.json.len();
    }

    fn skip_nested(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.skip_string();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }
}
