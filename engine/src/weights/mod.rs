//! The weights of a model: their files, and their tensors as f32, whatever the stored type.
//!
//! Tensors are read one at a time, so memory holds the model once; an unexpected shape is an error before anything is
//! allocated. Numbers that were read are in the order of the shape, whatever the file's layout.

mod pickle;
mod safetensors;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use self::pickle::PickleFile;
use self::safetensors::SafetensorsFile;
use crate::LoadError;
use crate::config::read_json_object;
use crate::families::Family;

/// The weight files of a model. safetensors are preferred over equivalent pickles.
#[derive(Debug, Clone)]
pub(crate) struct WeightFiles {
    /// The index file of sharded weights.
    index: Option<PathBuf>,
    parts: Vec<PathBuf>,
    format: CheckpointFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckpointFormat {
    Safetensors,
    Pickle,
}

impl WeightFiles {
    /// Finds the weights in a directory.
    pub(crate) fn find(dir: &Path) -> Result<WeightFiles, LoadError> {
        let candidates =
            [("model.safetensors", CheckpointFormat::Safetensors), ("pytorch_model.bin", CheckpointFormat::Pickle)];
        for (name, format) in candidates {
            let whole = dir.join(name);
            if whole.is_file() {
                return Ok(WeightFiles { index: None, parts: vec![whole], format });
            }
            let index = dir.join(format!("{name}.index.json"));
            if index.is_file() {
                let parts = parts_of_index(dir, &index)?;
                return Ok(WeightFiles { index: Some(index), parts, format });
            }
        }
        let foreign = ["tf_model.h5", "flax_model.msgpack", "model.ckpt.index", "onnx/model.onnx", "model.onnx"];
        let foreign: Vec<&str> = foreign.into_iter().filter(|name| dir.join(name).is_file()).collect();
        let mut missing = "it has neither `model.safetensors` nor `pytorch_model.bin`".to_string();
        if !foreign.is_empty() {
            missing += &format!("; `{}` cannot be read, convert it with transformers", foreign.join("`, `"));
        }
        Err(LoadError::Missing { dir: dir.into(), missing })
    }

    /// Returns the file to name in messages.
    pub(crate) fn main(&self) -> &Path {
        self.index.as_ref().unwrap_or(&self.parts[0])
    }

    /// Returns every file, for the digest.
    pub(crate) fn all(&self) -> impl Iterator<Item = PathBuf> {
        self.index.iter().chain(&self.parts).cloned()
    }
}

/// Reads the shard names of a `*.index.json`, sorted and deduplicated.
fn parts_of_index(dir: &Path, index: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let invalid = |problem: String| LoadError::Invalid { path: index.into(), problem };
    let map = read_json_object(index)?;
    let Some(Value::Object(weight_map)) = map.get("weight_map") else {
        return Err(invalid("`weight_map` is missing".into()));
    };
    let mut names: Vec<&str> = weight_map.values().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Err(invalid("`weight_map` is empty".into()));
    }
    let mut parts = Vec::new();
    for name in names {
        // A path outside of the directory could make the digest cover unrelated files.
        let path = dir.join(name);
        if Path::new(name).components().count() != 1 || !path.is_file() {
            return Err(invalid(format!("names `{name}`, which is not in the directory")));
        }
        parts.push(path);
    }
    Ok(parts)
}

/// The opened weights of a model, by `transformers`' tensor names.
pub(crate) struct Weights {
    main: PathBuf,
    files: Vec<TensorFile>,
    /// The file of each tensor, by full name.
    names: HashMap<String, usize>,
    /// The prefix of names in these files: empty, `bert.`, `roberta.` …
    prefix: &'static str,
    anchor: Anchor,
}

/// A tensor of every model of a family.
#[derive(Clone, Copy)]
struct Anchor {
    name: &'static str,
    /// Its name where there is none of the first.
    other: Option<&'static str>,
}

enum TensorFile {
    Safetensors(SafetensorsFile),
    Pickle(PickleFile),
}

impl TensorFile {
    fn shape(&self, name: &str) -> Result<Vec<usize>, String> {
        match self {
            TensorFile::Safetensors(file) => file.shape(name),
            TensorFile::Pickle(file) => file.shape(name),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, String> {
        match self {
            TensorFile::Safetensors(file) => file.read(name),
            TensorFile::Pickle(file) => file.read(name),
        }
    }
}

impl Weights {
    /// Opens the files of a model and reads their tensor lists.
    pub(crate) fn of_family(files: &WeightFiles, family: &Family) -> Result<Weights, LoadError> {
        let words = Anchor { name: family.words, other: family.other_words };
        Weights::open(files, words, &family.prefixes())
    }

    /// Opens the files of a module of sentence-transformers, which has a tensor `anchor`.
    pub(crate) fn of_module(files: &WeightFiles, anchor: &'static str) -> Result<Weights, LoadError> {
        Weights::open(files, Anchor { name: anchor, other: None }, &[""])
    }

    /// As [`of_family`](Weights::of_family). `anchor` is under one of `prefixes`.
    fn open(files: &WeightFiles, anchor: Anchor, prefixes: &[&'static str]) -> Result<Weights, LoadError> {
        let (main, parts, names) = (files.main().into(), Vec::new(), HashMap::new());
        let mut weights = Weights { main, files: parts, names, prefix: "", anchor };
        for path in &files.parts {
            let (file, names) = match files.format {
                CheckpointFormat::Safetensors => {
                    let file = SafetensorsFile::open(path)?;
                    let names: Vec<String> = file.names().collect();
                    (TensorFile::Safetensors(file), names)
                }
                CheckpointFormat::Pickle => {
                    let file = PickleFile::open(path)?;
                    let names: Vec<String> = file.names().collect();
                    (TensorFile::Pickle(file), names)
                }
            };
            weights.names.extend(names.into_iter().map(|name| (name, weights.files.len())));
            weights.files.push(file);
        }
        match prefixes.iter().find(|prefix| weights.locate_below(prefix, anchor.name).is_some()) {
            Some(prefix) => weights.prefix = prefix,
            None => {
                let mut some: Vec<&str> = weights.names.keys().map(String::as_str).collect();
                some.sort_unstable();
                some.truncate(3);
                let tried = prefixes.iter().map(|prefix| format!("`{prefix}`")).collect::<Vec<_>>().join(", ");
                let missing = match prefixes {
                    [""] => "missing".to_owned(),
                    _ => format!("missing under every known prefix ({tried})"),
                };
                let problem = format!("{missing}; the file starts with {}", some.join(", "));
                return Err(weights.problem(anchor.name, problem));
            }
        }
        Ok(weights)
    }

    /// Returns whether a tensor exists outside of the prefix, where heads are.
    pub(crate) fn contains_at_root(&self, name: &str) -> bool {
        self.locate_below("", name).is_some()
    }

    /// Reads a tensor as f32 and checks its shape.
    pub(crate) fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        self.read_located(name, self.locate(name), shape)
    }

    /// As [`read`](Weights::read), for a tensor outside of the prefix.
    pub(crate) fn read_at_root(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        self.read_located(name, self.locate_below("", name), shape)
    }

    /// Checks that a tensor exists in this shape and a supported type, without reading it.
    pub(crate) fn check(&self, name: &str, shape: &[usize]) -> Result<(), LoadError> {
        self.check_located(name, self.locate(name), shape).map(|_| ())
    }

    /// Returns the shape of a tensor of a supported type.
    pub(crate) fn shape(&self, name: &str) -> Result<Vec<usize>, LoadError> {
        let Some((full_name, file)) = self.locate(name) else { return Err(self.problem(name, "missing".into())) };
        file.shape(&full_name).map_err(|problem| self.problem(name, problem))
    }

    /// Reads a list of integers.
    pub(crate) fn integers(&self, name: &str) -> Result<Vec<i64>, LoadError> {
        let found = match self.locate(name) {
            Some((full_name, TensorFile::Safetensors(file))) => file.integers(&full_name),
            Some((_, TensorFile::Pickle(_))) => Err("integers are only read from safetensors".into()),
            None => Err("missing".into()),
        };
        found.map_err(|problem| self.problem(name, problem))
    }

    fn check_located<'a>(
        &self,
        name: &str,
        located: Option<(String, &'a TensorFile)>,
        shape: &[usize],
    ) -> Result<(String, &'a TensorFile), LoadError> {
        let Some((full_name, file)) = located else {
            return Err(self.problem(name, "missing, but required by `config.json`".into()));
        };
        let found = file.shape(&full_name).map_err(|problem| self.problem(name, problem))?;
        if found != shape {
            return Err(self.problem(name, format!("`config.json` requires shape {shape:?}, the file has {found:?}")));
        }
        Ok((full_name, file))
    }

    fn read_located(
        &self,
        name: &str,
        located: Option<(String, &TensorFile)>,
        shape: &[usize],
    ) -> Result<Vec<f32>, LoadError> {
        let (full_name, file) = self.check_located(name, located, shape)?;
        let numbers = file.read(&full_name).map_err(|problem| self.problem(name, problem))?;
        if numbers.is_empty() || numbers.iter().any(|number| number.is_finite()) {
            return Ok(numbers);
        }
        Err(self.problem(name, "all of its numbers are NaN or infinite: the file is broken".into()))
    }

    fn locate(&self, name: &str) -> Option<(String, &TensorFile)> {
        self.locate_below(self.prefix, name)
    }

    /// As [`locate`](Weights::locate), with this prefix. Files converted from TensorFlow name a norm's tensors `gamma`
    /// and `beta`.
    fn locate_below(&self, prefix: &str, name: &str) -> Option<(String, &TensorFile)> {
        let older = name
            .strip_suffix("LayerNorm.weight")
            .map(|stem| format!("{stem}LayerNorm.gamma"))
            .or_else(|| name.strip_suffix("LayerNorm.bias").map(|stem| format!("{stem}LayerNorm.beta")));
        let other = self.anchor.other.filter(|_| name == self.anchor.name).map(str::to_owned);
        [Some(name.to_string()), older, other].into_iter().flatten().find_map(|name| {
            let full_name = format!("{prefix}{name}");
            self.names.get(&full_name).map(|&file| (full_name, &self.files[file]))
        })
    }

    pub(crate) fn problem(&self, name: &str, problem: String) -> LoadError {
        LoadError::Weight { path: self.main.clone(), tensor: name.into(), problem }
    }
}

/// Guesses from its first bytes what a file is that should hold weights.
fn sniff(head: &[u8]) -> &'static str {
    if head.is_empty() {
        "the file is empty"
    } else if head.starts_with(b"version https://git-lfs") {
        "this is a Git LFS pointer, not the weights: fetch them with `git lfs pull`"
    } else if head.starts_with(b"<") {
        "this is an HTML page, not weights: the download went wrong"
    } else {
        "the file is damaged, or no weights file at all"
    }
}
