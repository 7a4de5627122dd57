//! The settings of the Pooling module.

use std::path::Path;

use serde_json::{Map, Value};

use super::settings::{self, Rule, Table};
use crate::config::read_json_object;
use crate::pooling::{ModelPooling, PoolingMode};
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

/// `pooling_mode` of newer files, the flag of older ones, and the pooling; in the order in which older files join several.
const MODES: [(&str, &str, PoolingMode); 6] = [
    ("cls", "pooling_mode_cls_token", PoolingMode::Common(Pooling::Cls)),
    ("max", "pooling_mode_max_tokens", PoolingMode::Common(Pooling::Max)),
    ("mean", "pooling_mode_mean_tokens", PoolingMode::Common(Pooling::Mean)),
    ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", PoolingMode::MeanSqrtLen),
    ("weightedmean", "pooling_mode_weightedmean_tokens", PoolingMode::WeightedMean),
    ("lasttoken", "pooling_mode_lasttoken", PoolingMode::Common(Pooling::Last)),
];

/// Reads a pooling config: the pooling, and whether the prompt is included.
pub(super) fn read(path: &Path) -> Result<(ModelPooling, bool), LoadError> {
    if !path.is_file() {
        return Err(settings::missing_file(path.into()));
    }
    let map = read_json_object(path)?;
    settings::check(path, "", POOLING, &map)?;
    let dimension = map.get("embedding_dimension").or_else(|| map.get("word_embedding_dimension"));
    if settings::length(path, "embedding_dimension", dimension)?.is_none() {
        let problem = "neither `embedding_dimension` nor `word_embedding_dimension` is there".into();
        return Err(LoadError::Invalid { path: path.into(), problem });
    }
    Ok((
        ModelPooling::joined(modes(path, &map)?),
        settings::flag(path, "include_prompt", map.get("include_prompt"), true)?,
    ))
}

/// Returns the configured ways of pooling: the mean by default, as in Python; the newer key wins.
fn modes(path: &Path, map: &Map<String, Value>) -> Result<Vec<PoolingMode>, LoadError> {
    let Some(value) = map.get("pooling_mode") else {
        let mut set = Vec::new();
        for (_, key, mode) in MODES {
            if settings::flag(path, key, map.get(key), false)? {
                set.push(mode);
            }
        }
        return Ok(if set.is_empty() { vec![PoolingMode::Common(Pooling::Mean)] } else { set });
    };
    let wrong = || settings::invalid(path, "pooling_mode", value, "the name of a pooling, or several");
    let names: Vec<&str> = match value {
        Value::String(name) => vec![name],
        Value::Array(names) if !names.is_empty() => {
            names.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(wrong)?
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => return Err(wrong()),
    };
    let mode = |name: &str| MODES.iter().find(|(known, ..)| *known == name).map(|(.., mode)| *mode);
    names.into_iter().map(mode).collect::<Option<_>>().ok_or_else(|| {
        let known = MODES.map(|(name, ..)| name).join(", ");
        settings::refused(path, "pooling_mode", value, &format!("which is not supported (supported: {known})"))
    })
}
