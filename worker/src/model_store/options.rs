//! Which Hub, which cache, which token: from the environment variables that Python's `huggingface_hub` reads.

use std::path::PathBuf;

use common::Secret;
use common::hub::{HubAccess, expand_user, set_variable};

/// Where models are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// The Hub, as a URL without a final slash.
    pub endpoint: String,
    /// The cache folder, which holds `models--owner--name/`.
    pub cache_dir: PathBuf,
    /// The access token, for gated and private models. Never shown.
    pub token: Option<Secret>,
    /// Use what is cached and nothing else.
    pub offline: bool,
}

impl HubOptions {
    /// Reads `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH` and
    /// `HF_HUB_OFFLINE`, with the meaning and defaults that they have in Python.
    pub fn from_env() -> Self {
        Self::from_lookup(&|name| std::env::var(name).ok())
    }

    /// As [`HubOptions::from_env`], over any set of variables.
    pub fn from_lookup(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let HubAccess { endpoint, token, offline, home } = HubAccess::from_lookup(variable);
        let named = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"].iter().find_map(|name| set_variable(variable, name));
        let cache_dir = named.map_or_else(|| home.join("hub"), |path| expand_user(&path, variable));
        Self { endpoint, cache_dir, token, offline }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
}
