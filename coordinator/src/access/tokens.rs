//! Bearer tokens: a file with one line per token, which holds its digest and never the token. The file is read again when
//! it changes: a line that is taken out is a token that is revoked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use common::FileWatch;
use tracing::{error, info};

use super::{Identity, Role};
use crate::clock::Clock;

/// How often the file is looked at.
const LOOK_EVERY_MS: i64 = 1_000;

/// A token file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("cannot read the token file `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is no token.
    #[error(
        "`{path}`, line {line}: {problem}; a line reads NAME SCOPE EXPIRES DIGEST, and `encaje token new` writes it"
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

/// A token as the file holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenLine {
    /// Whose it is.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Seconds since the Unix epoch.
    pub expires_s: i64,
    /// BLAKE3 of the token. Comparing two of these takes the same time wherever they differ.
    pub digest: blake3::Hash,
}

/// Returns what is stored of a token. Tokens have 256 bits of chance: one round of any good hash keeps them secret.
pub fn token_digest(token: &str) -> blake3::Hash {
    blake3::hash(token.as_bytes())
}

impl std::fmt::Display for TokenLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {}", self.name, self.role, self.expires_s, self.digest.to_hex())
    }
}

impl FromStr for TokenLine {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, role, expires, digest] = words[..] else { return Err(format!("it has {} words", words.len())) };
        Ok(Self {
            name: name.to_owned(),
            role: role.parse()?,
            expires_s: expires.parse().map_err(|_| format!("`{expires}` is no time in seconds since 1970"))?,
            digest: blake3::Hash::from_hex(digest).map_err(|_| format!("`{digest}` is no BLAKE3 digest"))?,
        })
    }
}

/// The tokens that are taken.
pub struct TokenFile {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    read: Mutex<Read>,
}

struct Read {
    lines: Vec<TokenLine>,
    watched: FileWatch,
    looked_ms: i64,
}

impl TokenFile {
    /// Reads a file: a token a line, empty lines and those that begin with `#` left out.
    ///
    /// # Errors
    /// It cannot be read, or a line is no token.
    pub fn open(path: PathBuf, clock: Arc<dyn Clock>) -> Result<Self, TokenFileError> {
        let (watched, lines) = (FileWatch::new([path.clone()]), Self::lines(&path)?);
        let read = Mutex::new(Read { lines, watched, looked_ms: clock.now_ms() });
        Ok(Self { path, clock, read })
    }

    /// Reads the tokens of a file.
    ///
    /// # Errors
    /// It cannot be read, or a line is no token.
    pub fn lines(path: &Path) -> Result<Vec<TokenLine>, TokenFileError> {
        let text = fs::read_to_string(path).map_err(|source| TokenFileError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Reads the tokens in the text of a file; `path` names it in errors.
    ///
    /// # Errors
    /// A line is no token.
    pub fn parse(path: &Path, text: &str) -> Result<Vec<TokenLine>, TokenFileError> {
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let wrong = |problem| TokenFileError::Line { path: path.to_owned(), line: index + 1, problem };
            lines.push(line.parse().map_err(wrong)?);
        }
        Ok(lines)
    }

    /// Returns whose token this is, if it is one and has not expired. Takes as long for a wrong one as for a right one.
    pub(super) fn identity(&self, token: &str) -> Option<Identity> {
        let digest = token_digest(token);
        let now_ms = self.clock.now_ms();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        self.look_again(&mut read, now_ms);
        let mut found = None;
        for line in &read.lines {
            let valid = line.expires_s.saturating_mul(1_000) > now_ms;
            if (line.digest == digest) & valid {
                found = Some(line);
            }
        }
        found.map(|line| Identity { name: line.name.clone(), role: line.role })
    }

    /// Reads the file again if it has changed. One that cannot be read revokes all tokens, since it may have been removed for that.
    fn look_again(&self, read: &mut Read, now_ms: i64) {
        if now_ms - read.looked_ms < LOOK_EVERY_MS {
            return;
        }
        read.looked_ms = now_ms;
        if !read.watched.has_changed() {
            return;
        }
        match Self::lines(&self.path) {
            Ok(lines) => {
                info!(tokens = lines.len(), "token file read again");
                read.lines = lines;
            }
            Err(problem) => {
                error!(error = problem.to_string(), "no token is taken any more");
                read.lines.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::TestClock;

    fn line(name: &str, role: Role, expires_s: i64, token: &str) -> String {
        TokenLine { name: name.to_owned(), role, expires_s, digest: token_digest(token) }.to_string()
    }

    #[test]
    fn a_token_is_taken_until_it_expires_or_is_taken_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let lines = [line("ana", Role::Submitter, 100, "secret-a"), line("luis", Role::Reader, 2_000, "secret-b")];
        fs::write(&path, format!("# people\n\n{}\n{}\n", lines[0], lines[1])).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains("secret"));
        let clock = TestClock::at(50_000);
        let tokens = TokenFile::open(path.clone(), Arc::new(clock.clone())).unwrap();
        let ana = Identity { name: "ana".to_owned(), role: Role::Submitter };
        assert_eq!(tokens.identity("secret-a"), Some(ana));
        assert_eq!(tokens.identity("secret-c"), None);
        clock.advance(Duration::from_secs(50));
        assert_eq!(tokens.identity("secret-a"), None, "expired");
        assert!(tokens.identity("secret-b").is_some());

        fs::write(&path, &lines[0]).unwrap();
        clock.advance(Duration::from_secs(2));
        assert_eq!(tokens.identity("secret-b"), None, "revoked");
        fs::remove_file(&path).unwrap();
        clock.advance(Duration::from_secs(2));
        assert_eq!(tokens.identity("secret-b"), None);
    }

    #[test]
    fn a_line_that_is_no_token_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let good = line("ana", Role::Admin, 1, "t");
        for bad in ["ana", "ana king 1 00", "ana read soon 00", "ana read 1 xyz"] {
            fs::write(&path, format!("{good}\n{bad}\n")).unwrap();
            let error = TokenFile::lines(&path).unwrap_err().to_string();
            assert!(error.contains("line 2"), "{error}");
        }
        assert!(TokenFile::lines(&dir.path().join("none")).is_err());
        assert_eq!(good.parse::<TokenLine>().unwrap().to_string(), good);
    }
}
