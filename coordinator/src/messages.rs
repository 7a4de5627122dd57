//! What calls that fail say: not longer than a client can take. A status travels in a header, headers are bounded, and a
//! message may quote what a client sent.

use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Response};

/// The header that holds the message, percent-encoded.
const MESSAGE: &str = "grpc-message";
/// Most bytes of it: a quarter of what clients accept as headers.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// Cuts the message of an answer.
pub(crate) fn bounded(mut answer: Response<Body>) -> Response<Body> {
    cut(answer.headers_mut());
    answer
}

fn cut(headers: &mut HeaderMap) {
    let Some(message) = headers.get(MESSAGE).filter(|message| message.len() > MESSAGE_BYTES_MAX) else { return };
    let short = HeaderValue::from_bytes(beginning(message.as_bytes()));
    // Whatever begins a valid header is one.
    if let Ok(short) = short {
        headers.insert(MESSAGE, short);
    }
}

/// Returns the first bytes of a percent-encoded text, whole characters only.
fn beginning(text: &[u8]) -> &[u8] {
    let begins_character = |at: &usize| {
        let within_escape = text[at.saturating_sub(2)..*at].contains(&b'%');
        let continues = text[*at] == b'%' && matches!(text.get(at + 1), Some(b'8' | b'9' | b'A' | b'B' | b'a' | b'b'));
        !within_escape && !continues
    };
    let end = (0..=MESSAGE_BYTES_MAX).rev().find(begins_character).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::{Code, Status};

    #[test]
    fn a_long_message_arrives_as_its_beginning() {
        for (text, padding) in [("x", 0), ("ñ", 1), ("€ ", 2), ("🙂", 3)] {
            let said = "a".repeat(padding) + &text.repeat(100_000);
            let mut response: Response<Body> = Status::invalid_argument(&said).into_http();
            cut(response.headers_mut());
            assert!(response.headers()[MESSAGE].len() <= MESSAGE_BYTES_MAX);
            let heard = Status::from_header_map(response.headers()).unwrap();
            assert_eq!(heard.code(), Code::InvalidArgument);
            assert!(said.starts_with(heard.message()) && heard.message().len() > 1_000, "{}", heard.message());
        }
        let mut response: Response<Body> = Status::not_found("ñandú").into_http();
        cut(response.headers_mut());
        assert_eq!(Status::from_header_map(response.headers()).unwrap().message(), "ñandú");
    }
}
