//! Parses the members of a JSON object as slices of the record, keeping their original spelling.
//!
//! `NaN`, `Infinity` and `-Infinity` are accepted as numbers, as written by Python and read by pandas, pyarrow and
//! DuckDB; like DuckDB in any case, and `Inf` for short.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// A value by its first byte, with its spelling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number as written; see [`non_finite`] for extensions.
    Number(&'a str),
    /// A string with quotes and escapes; may be invalid UTF-8.
    String(&'a [u8]),
    /// An array or object; its strings may be invalid UTF-8.
    Nested(&'a [u8]),
}

/// Returns keys and values of a JSON object in order, or `None` for anything else or an invalid key. Values are for
/// [`kind`]. The last value of a repeated key wins, as in Python, if callers fill slots in order.
pub(crate) fn members(record: &[u8]) -> Option<Vec<(String, &[u8])>> {
    if !is_json(record) {
        return None;
    }
    // The record is valid JSON from here on, so bytes can be skipped unchecked.
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

/// Returns whether the bytes are one JSON value, regardless of UTF-8 in its strings.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    let parses = |bytes: &[u8]| serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    parses(bytes) || with_zeros(bytes).is_some_and(|bytes| parses(&bytes))
}

/// Returns the NaN or infinity with this spelling.
pub(crate) fn non_finite(spelling: &str) -> Option<f64> {
    let (sign, word) = spelling.strip_prefix('-').map_or((1.0, spelling), |word| (-1.0, word));
    let is = |name: &str| word.eq_ignore_ascii_case(name);
    match () {
        () if is("nan") => Some(f64::NAN),
        () if is("inf") || is("infinity") => Some(sign * f64::INFINITY),
        () => None,
    }
}

/// Returns the bytes with zeros instead of NaN and infinities, or `None` if there are none outside of strings.
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

/// Returns the kind of a value from [`members`].
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

/// Decodes a string with quotes; `None` for invalid UTF-8 or a lone surrogate.
pub(crate) fn string(spelling: &[u8]) -> Option<Cow<'_, str>> {
    let inside = spelling.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !inside.contains(&b'\\') {
        return std::str::from_utf8(inside).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice::<String>(spelling).ok().map(Cow::Owned)
}

/// A position in valid JSON.
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

    /// Skips the value at this position and returns its spelling.
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
