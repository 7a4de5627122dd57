//! Decodes text of any character encoding to UTF-8 in steps. Pure: bytes in, bytes out.

use encoding_rs::{Decoder, DecoderResult, Encoding};

/// Output for undecodable bytes. Invalid in UTF-8, so that the row is rejected as `invalid_utf8` instead of getting
/// replacement characters.
const UNDECODABLE: u8 = 0xff;

/// Output space for any character, so that each call makes progress.
const OUTPUT_SPACE_MIN: usize = 64;

pub(crate) struct Transcoder {
    decoder: Decoder,
    is_finished: bool,
}

impl Transcoder {
    /// Begins after the byte order mark.
    pub(crate) fn new(encoding: &'static Encoding) -> Transcoder {
        Transcoder { decoder: encoding.new_decoder_without_bom_handling(), is_finished: false }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Decodes all of `input`; `is_last` marks the end of the text. Characters may span calls.
    pub(crate) fn decode(&mut self, input: &[u8], is_last: bool) -> Vec<u8> {
        let mut output = vec![0; input.len() + input.len() / 8 + OUTPUT_SPACE_MIN];
        let (mut rest, mut filled) = (input, 0);
        loop {
            let (result, read, written) =
                self.decoder.decode_to_utf8_without_replacement(rest, &mut output[filled..], is_last);
            rest = &rest[read..];
            filled += written;
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => {
                    if filled == output.len() {
                        output.push(0);
                    }
                    output[filled] = UNDECODABLE;
                    filled += 1;
                }
            }
            if output.len() - filled < OUTPUT_SPACE_MIN {
                output.resize(output.len() * 2 + OUTPUT_SPACE_MIN, 0);
            }
        }
        self.is_finished = is_last;
        output.truncate(filled);
        output
    }
}

#[cfg(test)]
mod tests {
    use encoding_rs::{EUC_JP, UTF_16BE, UTF_16LE, WINDOWS_1252};
    use proptest::prelude::*;

    use super::*;

    fn decode(encoding: &'static Encoding, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut transcoder = Transcoder::new(encoding);
        let mut text: Vec<u8> = bytes.chunks(piece).flat_map(|piece| transcoder.decode(piece, false)).collect();
        text.extend(transcoder.decode(&[], true));
        assert!(transcoder.is_finished());
        text
    }

    fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    proptest! {
        #[test]
        fn decoding_round_trips_for_any_block_size(text in any::<String>(), piece in 1_usize..9) {
            prop_assert_eq!(decode(UTF_16LE, &utf16(&text, u16::to_le_bytes), piece), text.as_bytes());
            prop_assert_eq!(decode(UTF_16BE, &utf16(&text, u16::to_be_bytes), piece), text.as_bytes());
        }

        #[test]
        fn decoding_does_not_depend_on_the_block_size(bytes in any::<Vec<u8>>(), piece in 1_usize..9) {
            for encoding in [UTF_16LE, EUC_JP, WINDOWS_1252] {
                prop_assert_eq!(decode(encoding, &bytes, piece), decode(encoding, &bytes, bytes.len().max(1)));
            }
        }
    }

    #[test]
    fn undecodable_bytes_stay_invalid_utf8() {
        // Half of a surrogate pair, and half of a unit.
        let bytes = [b'a', 0, 0x3d, 0xd8, b'b', 0, b'c'];
        assert_eq!(decode(UTF_16LE, &bytes, 100), b"a\xffb\xff");
        // Every byte is defined in Windows-1252, as in browsers.
        assert_eq!(decode(WINDOWS_1252, b"a\xf1o \x80\x81", 1), "año €\u{81}".as_bytes());
    }
}
