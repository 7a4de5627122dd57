//! Which files of a Hub's data set are the corpus: those that a pattern matches, or the data files as `datasets` chooses them.

use glob::Pattern;
use serde_json::Value;
use spec::Format;

use crate::corpus::expand::{MATCHING, format_of};

/// Names that `datasets` does not take for data, in lower case.
const METADATA: [&str; 6] =
    ["config.json", "dataset_dict.json", "dataset_info.json", "dataset_infos.json", "dummy_data.zip", "state.json"];
/// Texts about a data set, in lower case, without extension.
const ABOUT: [&str; 10] = [
    "authors",
    "changelog",
    "citation",
    "contributing",
    "copying",
    "licence",
    "license",
    "notice",
    "readme",
    "requirements",
];
/// How paths name splits. The first rule that any file follows decides.
const SPLIT_RULES: [fn(&str) -> bool; 3] = [is_sharded, folder_names_split, file_names_split];
/// Words between separators of a name that name a split.
const SPLITS: [&str; 10] =
    ["train", "training", "validation", "valid", "dev", "val", "test", "testing", "eval", "evaluation"];

/// The data files of a data set, and what else looked like data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) files: Vec<String>,
    pub(crate) left_out: Vec<String>,
}

/// Why there is no single choice.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChoiceError {
    /// Nothing that we read.
    Nothing,
    /// Several tables, none of which is the default.
    Configs { names: Vec<String>, example: String },
    /// Files that are hardly one table.
    Formats { names: Vec<String>, example: String },
}

impl ChoiceError {
    /// Says what is wrong and what to do; `base` is the URL of the folder that the paths are in.
    pub(crate) fn explain(&self, base: &str) -> String {
        match self {
            ChoiceError::Nothing => {
                "it has no files of a known format: name files or another revision of it".to_owned()
            }
            ChoiceError::Configs { names, example } => {
                let names = names.join(", ");
                format!("it has several configurations ({names}): name the files of one, such as '{base}/{example}'")
            }
            ChoiceError::Formats { names, example } => {
                let names = names.join(", ");
                format!(
                    "it has files of several formats ({names}): name those of one, such as '{base}/{example}', or say \
                     --format"
                )
            }
        }
    }
}

/// Returns the data files among all files of a data set, as `datasets` chooses: those of the card's default configuration;
/// where it has none, those with the name of a split; where there are none, all.
pub(crate) fn choose(files: &[String], configs: &Value, format: Option<Format>) -> Result<Chosen, ChoiceError> {
    let data = data_files(files, format)?;
    let is_chosen: Box<dyn Fn(&String) -> bool> = match default_config(configs)? {
        Some(globs) => Box::new(move |file| globs.iter().any(|glob| glob.matches_with(file, MATCHING))),
        None if data.iter().all(|file| is_converted(file)) => {
            let config = converted_config(&data)?;
            Box::new(move |file| file.split('/').next() == Some(config.as_str()))
        }
        None => match SPLIT_RULES.into_iter().find(|names_split| data.iter().any(|file| names_split(file))) {
            Some(names_split) => Box::new(move |file| names_split(file)),
            None => Box::new(|_| true),
        },
    };
    let (files, left_out): (Vec<String>, Vec<String>) = data.into_iter().partition(is_chosen);
    if files.is_empty() {
        return Err(ChoiceError::Nothing);
    }
    refuse_mixed(&files)?;
    Ok(Chosen { files, left_out })
}

/// Returns the data files below a folder that the user named.
pub(crate) fn all_below(files: &[String], format: Option<Format>) -> Result<Chosen, ChoiceError> {
    let files = data_files(files, format)?;
    refuse_mixed(&files)?;
    Ok(Chosen { files, left_out: Vec::new() })
}

/// Returns the files that can be data, of this format if there is one.
fn data_files(files: &[String], format: Option<Format>) -> Result<Vec<String>, ChoiceError> {
    let is_read = |file: &str| format_of(file, None).is_ok_and(|(found, _)| format.is_none_or(|is| is == found));
    let data: Vec<String> = files.iter().filter(|file| is_data(file) && is_read(file)).cloned().collect();
    if data.is_empty() { Err(ChoiceError::Nothing) } else { Ok(data) }
}

/// Whether a file has the name that the Hub gives to those it converts: `CONFIG/SPLIT/NUMBER.parquet`.
fn is_converted(file: &str) -> bool {
    let parts: Vec<&str> = file.split('/').collect();
    let number = parts.last().and_then(|name| name.strip_suffix(".parquet")).unwrap_or_default();
    parts.len() == 3 && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the only or default configuration of converted files.
fn converted_config(files: &[String]) -> Result<String, ChoiceError> {
    let mut configs: Vec<&str> = files.iter().filter_map(|file| file.split('/').next()).collect();
    configs.dedup();
    match configs.iter().find(|config| **config == "default" || configs.len() == 1) {
        Some(config) => Ok((*config).to_owned()),
        None => {
            let example = format!("{}/**/*.parquet", configs[0]);
            Err(ChoiceError::Configs { names: shortened(configs.into_iter().map(str::to_owned).collect()), example })
        }
    }
}

/// Whether a file can be data: not hidden, and not about the data set.
fn is_data(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let stem = name.split('.').next().unwrap_or_default();
    let is_hidden = path.split('/').any(|part| part.starts_with('.') || part.starts_with("__"));
    let is_about = ABOUT.contains(&stem) && name.ends_with(".txt");
    !is_hidden && !is_about && !METADATA.contains(&name.as_str())
}

/// Whether a file is named `data/SPLIT-00000-of-00001….`
fn is_sharded(path: &str) -> bool {
    let shard = path.strip_prefix("data/").and_then(|name| name.split_once("-of-"));
    let Some((front, count)) = shard.filter(|(_, count)| !count.contains('/')) else { return false };
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = front.rsplit_once('-').is_some_and(|(_, number)| is_number(number));
    number && count.get(..5).is_some_and(is_number)
}

fn folder_names_split(path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(folders, _)| folders.split('/').any(has_split_word))
}

fn file_names_split(path: &str) -> bool {
    has_split_word(path.rsplit('/').next().unwrap_or(path))
}

fn has_split_word(name: &str) -> bool {
    let is_separator = |c: char| c.is_ascii_digit() || "-._ ".contains(c);
    name.split(is_separator).any(|word| SPLITS.contains(&word))
}

/// Refuses files of several formats. Those of one differ in compression at most.
fn refuse_mixed(files: &[String]) -> Result<(), ChoiceError> {
    let mut formats: Vec<(Format, &String)> = Vec::new();
    for file in files {
        if let Ok((format, _)) = format_of(file, None)
            && formats.iter().all(|(known, _)| *known != format)
        {
            formats.push((format, file));
        }
    }
    match formats.as_slice() {
        [] | [_] => Ok(()),
        [(format, file), ..] => {
            let is_usual = file.contains(&format!(".{format}"));
            let example = if is_usual { format!("**/*.{format}*") } else { (*file).clone() };
            let names = formats.iter().map(|(format, file)| format!("{format}: `{file}`")).collect();
            Err(ChoiceError::Formats { names, example })
        }
    }
}

/// Returns the patterns of the card's only or default configuration; `None` where the card has none.
fn default_config(configs: &Value) -> Result<Option<Vec<Pattern>>, ChoiceError> {
    let of = |config: &Value| {
        let folder = config["data_dir"].as_str().map(|folder| folder.trim_matches('/'));
        let mut globs = Vec::new();
        collect_globs(&config["data_files"], &mut globs);
        if globs.is_empty() && folder.is_some() {
            globs.push("**".to_owned());
        }
        let rooted = globs.into_iter().map(|glob| match folder {
            Some(folder) if !folder.is_empty() && folder != "." => format!("{folder}/{glob}"),
            Some(_) | None => glob,
        });
        // What is no glob (a URL of another place) matches no file of this one.
        rooted.filter_map(|glob| Pattern::new(glob.trim_start_matches("./")).ok()).collect::<Vec<Pattern>>()
    };
    let usable: Vec<(&Value, Vec<Pattern>)> = configs.as_array().into_iter().flatten().map(|c| (c, of(c))).collect();
    let usable: Vec<_> = usable.into_iter().filter(|(_, globs)| !globs.is_empty()).collect();
    let is_default =
        |config: &Value| config["default"].as_bool() == Some(true) || config["config_name"].as_str() == Some("default");
    if let Some((_, globs)) = usable.iter().find(|(config, _)| is_default(config)) {
        return Ok(Some(globs.clone()));
    }
    match usable.as_slice() {
        [] => Ok(None),
        [(_, globs)] => Ok(Some(globs.clone())),
        [(_, globs), ..] => {
            let names = usable.iter().map(|(config, _)| config["config_name"].as_str().unwrap_or("?").to_owned());
            let example = globs.first().map_or("", |glob| glob.as_str()).to_owned();
            Err(ChoiceError::Configs { names: shortened(names.collect()), example })
        }
    }
}

/// Collects the patterns of `data_files`: a text, a list, or a list of splits with a `path`.
fn collect_globs(value: &Value, globs: &mut Vec<String>) {
    match value {
        Value::String(glob) => globs.push(glob.clone()),
        Value::Array(values) => values.iter().for_each(|value| collect_globs(value, globs)),
        Value::Object(_) => collect_globs(&value["path"], globs),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Leaves out all but the first of many names.
fn shortened(mut names: Vec<String>) -> Vec<String> {
    const NAMES_MAX: usize = 20;
    if names.len() > NAMES_MAX {
        let more = names.len() - NAMES_MAX;
        names.truncate(NAMES_MAX);
        names.push(format!("{more} more"));
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn chosen(files: &[&str], configs: &Value) -> Vec<String> {
        choose(&list(files), configs, None).unwrap().files
    }

    #[test]
    fn files_about_a_data_set_are_no_data() {
        let files = [
            ".gitattributes",
            ".hidden/a.csv",
            "LICENSE.txt",
            "README.md",
            "__pycache__/a.csv",
            "data/a.csv",
            "data/b.csv.gz",
            "dataset_infos.json",
            "requirements.txt",
            "script.py",
        ];
        assert_eq!(chosen(&files, &Value::Null), ["data/a.csv", "data/b.csv.gz"]);
        assert_eq!(choose(&list(&["README.md", "script.py"]), &Value::Null, None), Err(ChoiceError::Nothing));
    }

    #[test]
    fn where_files_name_splits_the_others_are_left_out() {
        let files = list(&["labels.csv", "test.csv", "train-00000-of-00001.csv", "trains.csv"]);
        let found = choose(&files, &Value::Null, None).unwrap();
        assert_eq!(found.files, ["test.csv", "train-00000-of-00001.csv"]);
        assert_eq!(found.left_out, ["labels.csv", "trains.csv"]);
        assert_eq!(chosen(&["dev/a.csv", "x.csv"], &Value::Null), ["dev/a.csv"]);
        assert_eq!(chosen(&["a.csv", "x.csv"], &Value::Null), ["a.csv", "x.csv"]);
    }

    /// What `datasets` 5.2.0 takes of the same files.
    #[test]
    fn splits_are_found_by_shards_then_folders_then_names() {
        let cases: [(&[&str], &[&str]); 8] = [
            (&["data/train.csv", "eval_results.csv"], &["data/train.csv", "eval_results.csv"]),
            (&["b.csv", "mytrain.csv"], &["b.csv", "mytrain.csv"]),
            (&["Train.csv", "b.csv"], &["Train.csv", "b.csv"]),
            (&["test/y.csv", "x/train.csv"], &["test/y.csv"]),
            (
                &["data/train-00000-of-00002.csv", "data/train-00001-of-00002.csv", "test.csv"],
                &["data/train-00000-of-00002.csv", "data/train-00001-of-00002.csv"],
            ),
            (&["data/a-00000-of-00001-x.csv", "data/train.csv"], &["data/a-00000-of-00001-x.csv"]),
            (&["b.csv", "train2/a.csv"], &["train2/a.csv"]),
            (&["a/test_results.csv", "c.csv"], &["a/test_results.csv"]),
        ];
        for (files, expected) in cases {
            assert_eq!(chosen(files, &Value::Null), expected, "{files:?}");
        }
    }

    #[test]
    fn the_card_names_the_files_of_its_default_configuration() {
        let files = ["de/train.csv", "en/test.csv", "en/train.csv"];
        let configs = json!([
            { "config_name": "de", "data_files": "de/*.csv" },
            { "config_name": "en", "data_files": [{ "split": "train", "path": ["en/train*"] }], "default": true },
        ]);
        assert_eq!(chosen(&files, &configs), ["en/train.csv"]);
        assert_eq!(chosen(&files, &json!([{ "config_name": "x", "data_dir": "en" }])), ["en/test.csv", "en/train.csv"]);
        let configs = json!([
            { "config_name": "de", "data_files": "de/*" },
            { "config_name": "en", "data_files": "en/*" },
        ]);
        let error = choose(&list(&files), &configs, None).unwrap_err().explain("hf://datasets/o/n");
        assert!(error.contains("(de, en)") && error.contains("'hf://datasets/o/n/de/*'"), "{error}");
    }

    #[test]
    fn files_of_several_formats_are_refused_by_name() {
        let files = list(&["a.csv", "b.parquet"]);
        let error = choose(&files, &Value::Null, None).unwrap_err().explain("hf://datasets/o/n");
        assert!(error.contains("csv: `a.csv`, parquet: `b.parquet`") && error.contains("--format"), "{error}");
        assert_eq!(choose(&files, &Value::Null, Some(Format::Csv)).unwrap().files, ["a.csv"]);
        assert!(all_below(&files, None).is_err());
    }

    #[test]
    fn one_configuration_of_the_converted_files_is_taken() {
        let files = list(&["default/train/0000.parquet", "other/train/0000.parquet"]);
        let found = choose(&files, &Value::Null, None).unwrap();
        assert_eq!(found.files, ["default/train/0000.parquet"]);
        assert_eq!(found.left_out, ["other/train/0000.parquet"]);
        let files = list(&["a/train/0000.parquet", "b/train/0000.parquet"]);
        let error = choose(&files, &Value::Null, None).unwrap_err().explain("hf://datasets/o/n@refs/convert/parquet");
        assert!(error.contains("(a, b)") && error.contains("@refs/convert/parquet/a/**/*.parquet'"), "{error}");
        assert_eq!(chosen(&["a/train/0.parquet"], &Value::Null).len(), 1);
    }
}
