//! Which Hub, which cache, which token: from the environment variables that Python's `huggingface_hub` reads.

use std::fmt;
use std::path::{Path, PathBuf};

/// The public Hub.
const ENDPOINT_DEFAULT: &str = "https://huggingface.co";

/// Where models are looked for.
#[derive(Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// The Hub, as a URL without a final slash.
    pub endpoint: String,
    /// The cache folder, which holds `models--owner--name/`.
    pub cache_dir: PathBuf,
    /// The access token, for gated and private models. Never shown.
    pub token: Option<String>,
    /// Use what is cached and nothing else.
    pub offline: bool,
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "(hidden)");
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .field("token", &token)
            .field("offline", &self.offline)
            .finish()
    }
}

impl HubOptions {
    /// Reads `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH` and
    /// `HF_HUB_OFFLINE`, with the meaning and defaults that they have in Python.
    pub fn from_env() -> Self {
        Self::from_lookup(&|name| std::env::var(name).ok())
    }

    /// As [`HubOptions::from_env`], over any set of variables.
    pub fn from_lookup(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let home = set("HF_HOME").map_or_else(
            || {
                let cache = set("XDG_CACHE_HOME").map_or_else(|| user_home(&set).join(".cache"), PathBuf::from);
                cache.join("huggingface")
            },
            |path| expand_user(&path, &set),
        );
        let cache_dir = set("HF_HUB_CACHE")
            .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
            .map_or_else(|| home.join("hub"), |path| expand_user(&path, &set));
        let token_path = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), |path| expand_user(&path, &set));
        let token = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN")).or_else(|| read_token(&token_path));
        let offline =
            ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].iter().any(|name| set(name).is_some_and(|v| is_true(&v)));
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT_DEFAULT.to_owned());
        Self { endpoint: endpoint.trim_end_matches('/').to_owned(), cache_dir, token, offline }
    }
}

fn user_home(set: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    set("HOME").or_else(|| set("USERPROFILE")).map_or_else(|| PathBuf::from("."), PathBuf::from)
}

fn expand_user(path: &str, set: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    match path.strip_prefix("~/") {
        Some(rest) => user_home(set).join(rest),
        None => PathBuf::from(path),
    }
}

fn read_token(path: &Path) -> Option<String> {
    let token = std::fs::read_to_string(path).ok()?;
    let token = token.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> HubOptions {
        HubOptions::from_lookup(&|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn defaults_are_those_of_python() {
        let found = options(&[("HOME", "/home/ana")]);
        assert_eq!(found.endpoint, "https://huggingface.co");
        assert_eq!(found.cache_dir, Path::new("/home/ana/.cache/huggingface/hub"));
        assert_eq!((found.token, found.offline), (None, false));
    }

    #[test]
    fn the_narrower_variable_wins() {
        let found = options(&[("HF_HOME", "/data/hf"), ("HOME", "/home/ana"), ("XDG_CACHE_HOME", "/tmp/cache")]);
        assert_eq!(found.cache_dir, Path::new("/data/hf/hub"));
        let found = options(&[("HF_HOME", "/data/hf"), ("HF_HUB_CACHE", "~/models"), ("HOME", "/home/ana")]);
        assert_eq!(found.cache_dir, Path::new("/home/ana/models"));
        let found = options(&[("HOME", "/home/ana"), ("XDG_CACHE_HOME", "/tmp/cache")]);
        assert_eq!(found.cache_dir, Path::new("/tmp/cache/huggingface/hub"));
    }

    #[test]
    fn the_token_comes_from_the_variable_or_the_file_and_is_never_shown() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_from_file\n").unwrap();
        let path = home.path().to_str().unwrap();
        assert_eq!(options(&[("HF_HOME", path)]).token.as_deref(), Some("hf_from_file"));
        let found = options(&[("HF_HOME", path), ("HF_TOKEN", "hf_secret")]);
        assert_eq!(found.token.as_deref(), Some("hf_secret"));
        assert!(!format!("{found:?}").contains("hf_secret"));
    }

    #[test]
    fn offline_is_a_boolean_word() {
        for (word, offline) in [("1", true), ("TRUE", true), ("yes", true), ("0", false), ("", false)] {
            assert_eq!(options(&[("HF_HUB_OFFLINE", word)]).offline, offline, "{word}");
        }
        assert_eq!(options(&[("HF_ENDPOINT", "http://127.0.0.1:9/")]).endpoint, "http://127.0.0.1:9");
    }
}
