//! PURE: which files of a repository a model needs. Weights once (safetensors before pickles), every file that decides the
//! vectors, nothing else: no ONNX, no TensorFlow, no training state.

use std::collections::BTreeSet;

/// Weights in one file, the preferred ones first.
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// Files that are taken where the repository has them.
pub(super) const OPTIONAL: [&str; 9] = [
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "modules.json",
];

/// Names whose absence is noted in the cache (as Python does), so that a later look needs no network to know it.
pub(super) const NOTED_IF_ABSENT: [&str; 12] = [
    "adapter_config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "modules.json",
];

/// Returns the needed ones among `files` (paths in the repository), weights last, or what is missing.
pub(super) fn select(files: &[String]) -> Result<Vec<String>, &'static str> {
    let has = |name: &str| files.iter().any(|file| file == name);
    // A list of modules may begin with one that has no config.
    if !has("config.json") && !has("modules.json") {
        return Err("config.json");
    }
    let modules = module_files(files);
    let in_folder = modules.iter().any(|file| file.ends_with("/tokenizer.json"));
    if !(in_folder || has("tokenizer.json") || has("vocab.txt") || has("vocab.json") && has("merges.txt")) {
        return Err("tokenizer that can be read (tokenizer.json, vocab.txt, or vocab.json with merges.txt)");
    }
    let mut selected: Vec<String> = has("config.json").then(|| "config.json".to_owned()).into_iter().collect();
    selected.extend(OPTIONAL.iter().filter(|name| has(name)).map(|name| (*name).to_owned()));
    selected.extend(files.iter().filter(|file| is_pooling_file(file)).cloned());
    selected.extend(modules);
    match weights(files) {
        Err(_) if in_folder => {}
        found => selected.extend(found?),
    }
    Ok(selected)
}

/// Returns the tokenizers and weights of modules in folders of their own, as StaticEmbedding and Dense may have them.
fn module_files(files: &[String]) -> Vec<String> {
    let folders: BTreeSet<&str> =
        files.iter().filter_map(|file| file.split_once('/')).map(|(folder, _)| folder).collect();
    let mut found = Vec::new();
    for folder in folders.into_iter().filter(|folder| is_module_folder(folder) && !folder.ends_with("_Transformer")) {
        let has = |name: &str| Some(format!("{folder}/{name}")).filter(|file| files.contains(file));
        found.extend(has("tokenizer.json"));
        found.extend(WEIGHTS.iter().find_map(|name| has(name)));
    }
    found
}

/// Tells whether the weights of a module with a config are not among `files`, as in a snapshot that an older release fetched.
pub(super) fn lack_module_weights(files: &[String]) -> bool {
    let weighted = |folder: &str| folder.ends_with("_Dense") || folder.ends_with("_LayerNorm");
    let folders = files.iter().filter_map(|file| file.strip_suffix("/config.json")).filter(|folder| weighted(folder));
    folders.into_iter().any(|folder| !WEIGHTS.iter().any(|name| files.contains(&format!("{folder}/{name}"))))
}

fn is_module_folder(folder: &str) -> bool {
    folder.starts_with(|c: char| c.is_ascii_digit()) && folder[1..].starts_with('_')
}

/// The settings of sentence-transformers: maximum length, prompts, and the configuration of each numbered module.
fn is_pooling_file(file: &str) -> bool {
    if let Some((folder, "config.json")) = file.split_once('/') {
        return is_module_folder(folder);
    }
    !file.contains('/')
        && (file == "config_sentence_transformers.json"
            || file.starts_with("sentence_") && file.ends_with("_config.json"))
}

fn weights(files: &[String]) -> Result<Vec<String>, &'static str> {
    let has = |name: &str| files.iter().any(|file| file == name);
    for (whole, index, stem, extension) in [
        ("model.safetensors", "model.safetensors.index.json", "model-", ".safetensors"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-", ".bin"),
    ] {
        if has(whole) {
            return Ok(vec![whole.to_owned()]);
        }
        let pieces = pieces(files, stem, extension);
        if has(index) && !pieces.is_empty() {
            return Ok(std::iter::once(index.to_owned()).chain(pieces).collect());
        }
    }
    Err("weights (model.safetensors or pytorch_model.bin)")
}

/// Returns the pieces `{stem}00001-of-00003{extension}` …, in order, or none unless all are there.
fn pieces(files: &[String], stem: &str, extension: &str) -> Vec<String> {
    let place = |file: &str| -> Option<(usize, usize)> {
        let (number, of) = file.strip_prefix(stem)?.strip_suffix(extension)?.split_once("-of-")?;
        Some((number.parse().ok()?, of.parse().ok()?))
    };
    let mut found: Vec<(usize, usize, &String)> =
        files.iter().filter_map(|file| place(file).map(|(number, of)| (number, of, file))).collect();
    found.sort();
    let all = found.iter().enumerate().all(|(at, (number, of, _))| *number == at + 1 && *of == found.len());
    if all { found.into_iter().map(|(_, _, file)| file.clone()).collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(files: &[&str]) -> Result<Vec<String>, &'static str> {
        select(&files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn safetensors_win_and_other_frameworks_stay_away() {
        let files = [
            "README.md",
            "config.json",
            "flax_model.msgpack",
            "model.safetensors",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
            "training_args.bin",
        ];
        let expected = ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "model.safetensors"];
        assert_eq!(selected(&files).unwrap(), expected);
    }

    #[test]
    fn a_sentence_transformer_brings_its_pooling() {
        let files = [
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "2_Dense/pytorch_model.bin",
            "config.json",
            "config_sentence_transformers.json",
            "modules.json",
            "sentence_bert_config.json",
            "sub/config.json",
            "pytorch_model.bin",
            "vocab.txt",
        ];
        let found = selected(&files).unwrap();
        for file in ["1_Pooling/config.json", "2_Dense/config.json", "modules.json", "sentence_bert_config.json"] {
            assert!(found.iter().any(|other| other == file), "{file}");
        }
        assert!(found.iter().any(|file| file == "2_Dense/model.safetensors"));
        assert!(!found.iter().any(|file| file == "sub/config.json" || file == "2_Dense/pytorch_model.bin"));
        assert!(!lack_module_weights(&found));
        assert!(lack_module_weights(&["2_Dense/config.json".to_owned()]));
        assert_eq!(found.last().unwrap(), "pytorch_model.bin");
    }

    #[test]
    fn a_static_embedding_has_no_config() {
        let in_folder = ["0_StaticEmbedding/tokenizer.json", "0_StaticEmbedding/model.safetensors", "modules.json"];
        let found = selected(&in_folder).unwrap();
        assert_eq!(found, ["modules.json", in_folder[0], in_folder[1]]);
        let in_root = ["README.md", "model.safetensors", "modules.json", "tokenizer.json"];
        assert_eq!(selected(&in_root).unwrap(), ["tokenizer.json", "modules.json", "model.safetensors"]);
    }

    #[test]
    fn pieces_come_with_their_index_and_only_all_together() {
        let mut files = vec![
            "config.json",
            "vocab.json",
            "merges.txt",
            "model.safetensors.index.json",
            "model-00002-of-00002.safetensors",
            "model-00001-of-00002.safetensors",
        ];
        let found = selected(&files).unwrap();
        assert_eq!(
            found[3..],
            ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        );
        files.pop();
        assert!(selected(&files).unwrap_err().contains("weights"));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(selected(&["model.safetensors"]).unwrap_err(), "config.json");
        assert!(selected(&["config.json", "vocab.json", "model.safetensors"]).unwrap_err().contains("merges.txt"));
        assert!(selected(&["config.json", "vocab.txt", "tf_model.h5"]).unwrap_err().contains("pytorch_model.bin"));
    }
}
