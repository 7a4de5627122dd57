//! Decompresses text formats in bounded steps. Pure: bytes in, bytes out.

use flate2::{Decompress, FlushDecompress, Status};
use spec::Compression;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use crate::error::DatasetError;

/// Output after which the compression ratio is checked.
const RATIO_FREE_BYTES: u64 = 1 << 20;

/// Maximum compression ratio, to refuse decompression bombs.
const RATIO_MAX: u64 = 200;

/// Maximum zstd window as a power of 2: 128 MiB, the default of `zstd --long`.
const WINDOW_LOG_MAX: u32 = 27;

/// Decompresses one format, member by member.
pub(crate) struct Decompressor {
    codec: Codec,
    bytes_in: u64,
    bytes_out: u64,
}

enum Codec {
    Gzip(Gzip),
    Zstd { decoder: ZstdDecoder<'static>, in_frame: bool },
}

enum Gzip {
    /// Before the first member.
    Start,
    Member(Box<Decompress>),
    /// After a member: zero padding, another member, or the end.
    Between,
}

/// Why compressed data cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Truncated or corrupted.
    Damaged(String),
    /// Another format, or beyond our limits.
    Refused(String),
}

impl Unreadable {
    pub(crate) fn of(&self, object: &str) -> DatasetError {
        match self {
            Unreadable::Damaged(problem) => DatasetError::corrupt(object, None, problem.as_str()),
            Unreadable::Refused(problem) => DatasetError::bad_input(object, problem.as_str()),
        }
    }
}

/// The result of a [`Decompressor::decompress`] call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// Bytes of input consumed.
    pub(crate) consumed: usize,
    /// Bytes of output written.
    pub(crate) written: usize,
}

impl Decompressor {
    /// Creates a decompressor, or `None` for uncompressed data.
    pub(crate) fn new(compression: Compression) -> Result<Option<Decompressor>, String> {
        let codec = match compression {
            Compression::None => return Ok(None),
            Compression::Gzip => Codec::Gzip(Gzip::Start),
            Compression::Zstd => {
                let mut decoder = ZstdDecoder::new().map_err(|error| error.to_string())?;
                decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(|error| error.to_string())?;
                Codec::Zstd { decoder, in_frame: false }
            }
        };
        Ok(Some(Decompressor { codec, bytes_in: 0, bytes_out: 0 }))
    }

    /// Decompresses some of `input` into `output`. Makes progress while there is input or pending output and `output`
    /// is not empty; (0, 0) means that more input is needed.
    pub(crate) fn decompress(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Unreadable> {
        let step = match &mut self.codec {
            Codec::Gzip(gzip) => gzip.step(input, output)?,
            Codec::Zstd { decoder, in_frame } => {
                let (mut source, mut target) = (InBuffer::around(input), OutBuffer::around(output));
                let hint = decoder.run(&mut source, &mut target).map_err(|error| zstd_problem(&error))?;
                let step = Step { consumed: source.pos(), written: target.pos() };
                if step.consumed > 0 || step.written > 0 {
                    *in_frame = hint != 0;
                }
                step
            }
        };
        self.bytes_in += step.consumed as u64;
        self.bytes_out += step.written as u64;
        if self.bytes_out > RATIO_FREE_BYTES && self.bytes_out / RATIO_MAX > self.bytes_in {
            return Err(Unreadable::Refused(format!(
                "it expands to more than {RATIO_MAX} times its size: decompress it first if you trust it"
            )));
        }
        Ok(step)
    }

    /// Returns an error if the data is incomplete at the end of input.
    pub(crate) fn finish(&self) -> Result<(), Unreadable> {
        let cut_off =
            |what: &str| Unreadable::Damaged(format!("the {what} data is cut off: copy or download it again"));
        let empty = |what: &str| Unreadable::Refused(format!("it is empty, so not {what} data"));
        match &self.codec {
            Codec::Gzip(Gzip::Between) => Ok(()),
            Codec::Gzip(Gzip::Start) => Err(empty("gzip")),
            Codec::Gzip(Gzip::Member(_)) => Err(cut_off("gzip")),
            Codec::Zstd { in_frame: false, .. } if self.bytes_in > 0 => Ok(()),
            Codec::Zstd { in_frame: false, .. } => Err(empty("zstd")),
            Codec::Zstd { in_frame: true, .. } => Err(cut_off("zstd")),
        }
    }
}

impl Gzip {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Unreadable> {
        let mut consumed = 0;
        if let Gzip::Between = self {
            // Zero padding after a member, as on tapes, is ignored by gzip(1) and Python.
            consumed = input.iter().take_while(|&&byte| byte == 0).count();
        }
        if let (Gzip::Start | Gzip::Between, Some(&first)) = (&*self, input.get(consumed)) {
            if first != 0x1f {
                return Err(match self {
                    Gzip::Start => Unreadable::Refused(
                        "it is not gzip data: name it without .gz if it is not compressed".to_owned(),
                    ),
                    Gzip::Between | Gzip::Member(_) => {
                        Unreadable::Damaged("other bytes follow the gzip data".to_owned())
                    }
                });
            }
            *self = Gzip::Member(Box::new(Decompress::new_gzip(15)));
        }
        let Gzip::Member(member) = self else {
            return Ok(Step { consumed, written: 0 });
        };
        let (in_before, out_before) = (member.total_in(), member.total_out());
        let status = member
            .decompress(&input[consumed..], output, FlushDecompress::None)
            .map_err(|error| Unreadable::Damaged(format!("the gzip data does not decompress: {error}")))?;
        let used = usize::try_from(member.total_in() - in_before).expect("bounded by the slice given");
        let written = usize::try_from(member.total_out() - out_before).expect("bounded by the slice given");
        if status == Status::StreamEnd {
            *self = Gzip::Between;
        }
        Ok(Step { consumed: consumed + used, written })
    }
}

fn zstd_problem(error: &std::io::Error) -> Unreadable {
    let text = error.to_string();
    if text.contains("too much memory") {
        let problem = "its zstd window is larger than 128 MiB: decompress it first with `zstd -d --long=31`";
        return Unreadable::Refused(problem.to_owned());
    }
    if text.contains("Unknown frame descriptor") {
        return Unreadable::Refused("it is not zstd data: name it without .zst if it is not compressed".to_owned());
    }
    Unreadable::Damaged(format!("the zstd data does not decompress: {text}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn all(compression: Compression, input: &[u8], in_size: usize, out_size: usize) -> Result<Vec<u8>, String> {
        decompress(compression, input, in_size, out_size).map_err(|problem| problem.of("a").to_string())
    }

    fn decompress(
        compression: Compression,
        input: &[u8],
        in_size: usize,
        out_size: usize,
    ) -> Result<Vec<u8>, Unreadable> {
        let mut decompressor = Decompressor::new(compression).unwrap().unwrap();
        let (mut text, mut output) = (Vec::new(), vec![0; out_size]);
        for piece in input.chunks(in_size) {
            let mut rest = piece;
            loop {
                let step = decompressor.decompress(rest, &mut output)?;
                text.extend_from_slice(&output[..step.written]);
                rest = &rest[step.consumed..];
                if step.consumed == 0 && step.written == 0 {
                    assert!(rest.is_empty(), "stuck with input left");
                    break;
                }
            }
        }
        decompressor.finish()?;
        Ok(text)
    }

    pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd_bytes(text: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_and_frames_are_concatenated_for_any_block_size() {
        let text: Vec<u8> = (0..5000_u32).flat_map(|i| i.to_le_bytes()).collect();
        let gz = [gzip(&text[..7000]), gzip(b""), gzip(&text[7000..]), vec![0; 9]].concat();
        let zst = [zstd_bytes(&text[..7000]), zstd_bytes(b""), zstd_bytes(&text[7000..])].concat();
        for (in_size, out_size) in [(1, 1), (1, 4096), (3, 7), (100_000, 100_000), (100_000, 13)] {
            assert!(all(Compression::Gzip, &gz, in_size, out_size).unwrap() == text);
            assert!(all(Compression::Zstd, &zst, in_size, out_size).unwrap() == text);
        }
    }

    #[test]
    fn every_truncation_is_detected() {
        let text = b"hola, mundo; adios, mundo".repeat(10);
        for (compression, bytes) in [(Compression::Gzip, gzip(&text)), (Compression::Zstd, zstd_bytes(&text))] {
            for end in 0..bytes.len() {
                assert!(all(compression, &bytes[..end], 10, 64).is_err(), "{compression:?} cut at {end}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_detected() {
        let text: Vec<u8> = (0..3000_u32).flat_map(|i| (i * i).to_le_bytes()).collect();
        for (compression, bytes) in [(Compression::Gzip, gzip(&text)), (Compression::Zstd, zstd_bytes(&text))] {
            let mut damaged = bytes.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 0x10;
            let read = all(compression, &damaged, 4096, 4096);
            assert!(read.is_err(), "{compression:?}");
        }
    }

    #[test]
    fn a_decompression_bomb_is_refused_with_advice() {
        let text = vec![b' '; 64 << 20];
        for (compression, bytes) in [(Compression::Gzip, gzip(&text)), (Compression::Zstd, zstd_bytes(&text))] {
            let error = all(compression, &bytes, 1 << 16, 1 << 16).unwrap_err();
            assert!(error.contains("decompress it first"), "{error}");
        }
    }

    #[test]
    fn a_window_beyond_the_limit_is_refused_with_advice() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_parameter(zstd::stream::raw::CParameter::WindowLog(28)).unwrap();
        encoder.write_all(b"hola").unwrap();
        let bytes = encoder.finish().unwrap();
        let error = all(Compression::Zstd, &bytes, 4096, 4096).unwrap_err();
        assert!(error.contains("--long=31"), "{error}");
    }

    #[test]
    fn data_of_another_format_is_named_in_the_error() {
        assert!(all(Compression::Gzip, b"id,text\n", 4096, 64).unwrap_err().contains("not gzip data"));
        let trailing = [gzip(b"x"), b"tail".to_vec()].concat();
        assert!(all(Compression::Gzip, &trailing, 4096, 64).unwrap_err().contains("other bytes follow"));
        assert!(all(Compression::Zstd, b"id,text\n", 4096, 64).is_err());
    }
}
