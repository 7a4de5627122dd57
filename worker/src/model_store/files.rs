//! PURE: which files of a repository a model needs. Weights once (safetensors before pickles), every file that decides the
//! vectors, nothing else: no ONNX, no TensorFlow, no training state.

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
    if !has("config.json") {
        return Err("config.json");
    }
    if !(has("tokenizer.json") || has("vocab.txt") || has("vocab.json") && has("merges.txt")) {
        return Err("tokenizer that can be read (tokenizer.json, vocab.txt, or vocab.json with merges.txt)");
    }
    let mut selected = vec!["config.json".to_owned()];
    selected.extend(OPTIONAL.iter().filter(|name| has(name)).map(|name| (*name).to_owned()));
    selected.extend(files.iter().filter(|file| is_pooling_file(file)).cloned());
    selected.extend(weights(files)?);
    Ok(selected)
}

/// The settings of sentence-transformers: maximum length, prompts, and the configuration of each numbered module.
fn is_pooling_file(file: &str) -> bool {
    if let Some((folder, "config.json")) = file.split_once('/') {
        return folder.starts_with(|c: char| c.is_ascii_digit()) && folder[1..].starts_with('_');
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
        assert!(!found.iter().any(|file| file == "sub/config.json"));
        assert_eq!(found.last().unwrap(), "pytorch_model.bin");
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
