//! Text that must not be shown: tokens and passwords.

use std::fmt;

/// A secret. It can be printed by nobody: `Debug` says that there is one, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret in, without the line break that files and terminals put after it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// Returns the secret, for the one who has to send or compare it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new("abc\n");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "(hidden) Some((hidden))");
        assert_eq!(secret.expose(), "abc");
    }
}
