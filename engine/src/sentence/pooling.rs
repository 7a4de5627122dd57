//! The settings of the Pooling module.

use std::path::Path;

use serde_json::{Map, Value};

use super::settings::{self, Rule, Table};
use crate::config::read_json_object;
use crate::{LoadError, Pooling};

const POOLING: Table = &[
    ("embedding_dimension", Rule::Read),
    ("word_embedding_dimension", Rule::Read),
    ("pooling_mode", Rule::Read),
    ("pooling_mode_cls_token", Rule::Read),
    ("pooling_mode_max_tokens", Rule::Read),
    ("pooling_mode_mean_tokens", Rule::Read),
    ("pooling_mode_mean_sqrt_len_tokens", Rule::Read),
    ("pooling_mode_weightedmean_tokens", Rule::Read),
    ("pooling_mode_lasttoken", Rule::Read),
    ("include_prompt", Rule::Read),
];

/// `pooling_mode` of newer files, the flag of older ones, and the pooling; `None` is unsupported.
const MODES: [(&str, &str, Option<Pooling>); 6] = [
    ("cls", "pooling_mode_cls_token", Some(Pooling::Cls)),
    ("max", "pooling_mode_max_tokens", Some(Pooling::Max)),
    ("mean", "pooling_mode_mean_tokens", Some(Pooling::Mean)),
    ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", None),
    ("weightedmean", "pooling_mode_weightedmean_tokens", None),
    ("lasttoken", "pooling_mode_lasttoken", Some(Pooling::Last)),
];

/// Reads a pooling config: the mode, and whether the prompt is included.
pub(super) fn read(path: &Path) -> Result<(Pooling, bool), LoadError> {
    if !path.is_file() {
        let problem = "it is missing, though `modules.json` names it: copy the model's files again".into();
        return Err(LoadError::Invalid { path: path.into(), problem });
    }
    let map = read_json_object(path)?;
    settings::check(path, "", POOLING, &map)?;
    let dimension = map.get("embedding_dimension").or_else(|| map.get("word_embedding_dimension"));
    if settings::length(path, "embedding_dimension", dimension)?.is_none() {
        let problem = "neither `embedding_dimension` nor `word_embedding_dimension` is there".into();
        return Err(LoadError::Invalid { path: path.into(), problem });
    }
    Ok((mode(path, &map)?, settings::flag(path, "include_prompt", map.get("include_prompt"), true)?))
}

/// Returns the one configured mode: the mean by default, as in Python; the newer key wins.
fn mode(path: &Path, map: &Map<String, Value>) -> Result<Pooling, LoadError> {
    let unsupported = |what: String| LoadError::Unsupported { what: format!("`{}`: {what}", path.display()) };
    let wrong = |value: &Value| settings::invalid(path, "pooling_mode", value, "the name of a pooling, or several");
    let modes: Vec<String> = match map.get("pooling_mode") {
        Some(Value::String(mode)) => vec![mode.clone()],
        Some(value @ Value::Array(modes)) if !modes.is_empty() => {
            let names = modes.iter().map(|mode| mode.as_str().map(str::to_owned));
            names.collect::<Option<_>>().ok_or_else(|| wrong(value))?
        }
        Some(other) => return Err(wrong(other)),
        None => {
            let mut set = Vec::new();
            for (mode, key, _) in MODES {
                if settings::flag(path, key, map.get(key), false)? {
                    set.push(mode.to_owned());
                }
            }
            set
        }
    };
    match modes.as_slice() {
        [] => Ok(Pooling::Mean),
        [mode] => {
            MODES.iter().find(|(name, ..)| name == mode).and_then(|(.., pooling)| *pooling).ok_or_else(|| {
                unsupported(format!("pooling `{mode}` is not supported; cls, mean, max and lasttoken are"))
            })
        }
        several => Err(unsupported(format!("joins several poolings ({}); only one is supported", several.join(", ")))),
    }
}
