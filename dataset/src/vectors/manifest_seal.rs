//! The checksum at the end of a manifest, over every byte before it: a manifest of which a byte changed is refused.
//!
//! It is the last field, `blake3`. Manifests that were written before it existed have no such field, nor any that is not
//! known; so damage to the name of the field does not make a new manifest an old one.

use std::fmt;
use std::io::{self, Read, Write};

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// The fields of a manifest without a checksum.
const UNSEALED_FIELDS: [&str; 8] = ["format", "job_id", "spec_digest", "info", "files", "holes", "sources", "totals"];

/// What a manifest ends with once the checksum is taken off.
const END: &[u8] = b"\n}";
const SEAL_BEGIN: &str = ",\n  \"blake3\": \"";
const SEAL_END: &str = "\"\n}\n";
const SEAL_BYTES: usize = SEAL_BEGIN.len() + 2 * blake3::OUT_LEN + SEAL_END.len();

/// Returns the last bytes of a manifest whose other bytes have this digest.
pub(super) fn seal(digest: &blake3::Hash) -> String {
    format!("{SEAL_BEGIN}{}{SEAL_END}", digest.to_hex())
}

/// Passes bytes on, hashes them, and holds the last ones back.
struct Tailed<W> {
    out: W,
    hasher: blake3::Hasher,
    tail: Vec<u8>,
    tail_bytes: usize,
}

impl<W: Write> Tailed<W> {
    fn new(out: W, tail_bytes: usize) -> Self {
        Self { out, hasher: blake3::Hasher::new(), tail: Vec::new(), tail_bytes }
    }
}

impl<W: Write> Write for Tailed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tail.extend_from_slice(bytes);
        let passed = self.tail.len().saturating_sub(self.tail_bytes);
        self.out.write_all(&self.tail[..passed])?;
        self.hasher.update(&self.tail[..passed]);
        self.tail.drain(..passed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes what `fill` writes, a JSON object in several lines, with its checksum as the last field.
pub(super) fn write_sealed<W: Write>(out: W, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut tailed = Tailed::new(out, END.len());
    fill(&mut tailed)?;
    if tailed.tail != END {
        return Err(io::Error::other("a manifest is a JSON object in several lines"));
    }
    let digest = tailed.hasher.finalize();
    tailed.out.write_all(seal(&digest).as_bytes())
}

/// Reads a manifest and takes its digest on the way.
pub(super) struct SealedReader<R> {
    inner: R,
    seen: Tailed<io::Sink>,
}

impl<R: Read> SealedReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, seen: Tailed::new(io::sink(), SEAL_BYTES) }
    }

    /// Whether the bytes that were read, to their end, have the checksum that is the last of them.
    pub(super) fn has_its_checksum(&self) -> bool {
        self.seen.tail == seal(&self.seen.hasher.finalize()).as_bytes()
    }
}

/// The version of a manifest and the names of its fields, read without the rest.
pub(super) struct Outline {
    pub(super) format: u64,
    fields: Vec<String>,
}

impl Outline {
    /// Whether a manifest with these fields was written before there was a checksum.
    pub(super) fn is_of_before_the_checksum(&self) -> bool {
        self.fields.iter().all(|field| UNSEALED_FIELDS.contains(&field.as_str()))
    }
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Outline;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the field `format`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
                let (mut format, mut fields) = (None, Vec::new());
                while let Some(field) = map.next_key::<String>()? {
                    if field == "format" {
                        format = Some(map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                    fields.push(field);
                }
                let format = format.ok_or_else(|| A::Error::missing_field("format"))?;
                Ok(Outline { format, fields })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl<R: Read> Read for SealedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.seen.write_all(&buffer[..count])?;
        Ok(count)
    }
}
