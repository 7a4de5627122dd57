//! Errors in one line.

use std::error::Error;

/// Returns an error and its causes in one line; a cause that the text quotes already is not repeated.
pub fn error_chain(error: &dyn Error) -> String {
    with_causes(error.to_string(), error.source())
}

/// Appends a cause and its own causes to a message, except those that it quotes already.
pub fn with_causes(mut message: String, mut cause: Option<&dyn Error>) -> String {
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Failed(&'static str, Option<Box<Failed>>);

    impl fmt::Display for Failed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Failed {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &dyn Error)
        }
    }

    #[test]
    fn each_cause_is_named_once() {
        let refused = Failed("refused", None);
        let quoting = Failed("connect: refused", Some(Box::new(refused)));
        assert_eq!(error_chain(&Failed("cannot open", Some(Box::new(quoting)))), "cannot open: connect: refused");
    }
}
