//! Which Hub of Hugging Face, and with which token: from the variables that Python's `huggingface_hub` reads. Also what
//! names and revisions of its repositories look like.

use std::path::{Path, PathBuf};

use crate::Secret;

/// The public Hub.
const ENDPOINT_DEFAULT: &str = "https://huggingface.co";

/// Where the Hub is, and how it is accessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubAccess {
    /// The Hub, as a URL without a final slash.
    pub endpoint: String,
    /// The access token, for gated and private repositories.
    pub token: Option<Secret>,
    /// Whether requests are forbidden.
    pub offline: bool,
    /// The folder of the token and the cache.
    pub home: PathBuf,
}

impl HubAccess {
    /// Reads `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, `XDG_CACHE_HOME` and `HF_HUB_OFFLINE`, with the meaning and
    /// defaults that they have in Python.
    pub fn from_lookup(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| set_variable(variable, name);
        let home = set("HF_HOME").map_or_else(
            || {
                let cache = set("XDG_CACHE_HOME").map_or_else(|| user_home(&set).join(".cache"), PathBuf::from);
                cache.join("huggingface")
            },
            |path| expand_user(&path, variable),
        );
        let token_path = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), |path| expand_user(&path, variable));
        let token = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN")).or_else(|| read_token(&token_path));
        let offline =
            ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].iter().any(|name| set(name).is_some_and(|v| is_true(&v)));
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT_DEFAULT.to_owned());
        let token = token.map(|token| Secret::new(&token));
        Self { endpoint: endpoint.trim_end_matches('/').to_owned(), token, offline, home }
    }
}

/// Returns a variable without surrounding white space; `None` for an empty one.
pub fn set_variable(variable: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Returns the path that a variable names, with `~/` as the user's home.
pub fn expand_user(path: &str, variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    match path.strip_prefix("~/") {
        Some(rest) => user_home(&|name| set_variable(variable, name)).join(rest),
        None => PathBuf::from(path),
    }
}

fn user_home(set: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    set("HOME").or_else(|| set("USERPROFILE")).map_or_else(|| PathBuf::from("."), PathBuf::from)
}

fn read_token(path: &Path) -> Option<String> {
    let token = std::fs::read_to_string(path).ok()?;
    let token = token.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}

/// Whether a text is `owner/name` or an old `name`, of the characters that the Hub allows.
pub fn is_repo_name(name: &str) -> bool {
    let is_part = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !part.is_empty() && part.bytes().all(plain) && !part.starts_with(['.', '-']) && !part.contains("..")
    };
    name.len() <= 96 && name.split('/').count() <= 2 && name.split('/').all(is_part)
}

/// Whether a text can be a revision. It becomes part of paths and URLs: no tricks in it.
pub fn is_revision(revision: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./+".contains(&byte);
    !revision.is_empty()
        && revision.bytes().all(plain)
        && revision.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Whether a text is a full commit hash.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(variables: &[(&str, &str)]) -> HubAccess {
        HubAccess::from_lookup(&|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_token_comes_from_the_variable_or_the_file_and_is_never_shown() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_from_file\n").unwrap();
        let path = home.path().to_str().unwrap();
        assert_eq!(access(&[("HF_HOME", path)]).token, Some(Secret::new("hf_from_file")));
        let found = access(&[("HF_HOME", path), ("HF_TOKEN", "hf_secret")]);
        assert_eq!(found.token, Some(Secret::new("hf_secret")));
        assert!(!format!("{found:?}").contains("hf_secret"));
        let file = home.path().join("token").display().to_string();
        assert_eq!(access(&[("HF_TOKEN_PATH", &file)]).token, Some(Secret::new("hf_from_file")));
    }

    #[test]
    fn offline_is_a_boolean_word() {
        for (word, offline) in [("1", true), ("TRUE", true), ("yes", true), ("0", false), ("", false)] {
            assert_eq!(access(&[("HF_HUB_OFFLINE", word)]).offline, offline, "{word}");
        }
        assert_eq!(access(&[("HF_ENDPOINT", "http://127.0.0.1:9/")]).endpoint, "http://127.0.0.1:9");
    }
}
