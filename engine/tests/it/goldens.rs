//! Combinations of settings, each with the reference's ids and vectors, or words of the expected refusal. Written by
//! `scripts/parity/goldens.py` (`make parity-goldens`), which describes the folders.

use std::fs;
use std::path::{Path, PathBuf};

use engine::{Engine, EngineOptions, ModelDir, Pooling, TextEncoder};
use serde::Deserialize;

use crate::common::{copy_tree, cosine, embed, testdata};

const COSINE_MIN: f64 = 0.99999;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    /// The test data folder that `files` override.
    base: Option<String>,
    /// Files of the base that this model lacks.
    without: Vec<String>,
    options: Options,
    /// The program that produced ids and vectors.
    by: String,
    /// The refusal must contain one of these.
    refused: Option<Vec<String>>,
    texts: Vec<String>,
    ids: Option<Vec<Option<Vec<u32>>>>,
    /// Of the first texts.
    vectors: Option<Vec<Vec<f32>>>,
}

/// Command options that the reference used too.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Options {
    max_length: Option<usize>,
    prefix: String,
    pooling: Option<String>,
    no_normalize: bool,
    dimensions: Option<usize>,
}

#[test]
fn combinations_of_settings_match_the_reference() {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(testdata("parity")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(!folders.is_empty());
    let problems: Vec<String> = folders.iter().filter_map(|folder| check(folder).err()).collect();
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), folders.len(), problems.join("\n"));
}

/// Compares one golden; the error describes the difference.
fn check(folder: &Path) -> Result<(), String> {
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let golden: Golden = serde_json::from_slice(&fs::read(folder.join("case.json")).unwrap()).unwrap();
    let model = tempfile::tempdir().unwrap();
    if let Some(base) = &golden.base {
        copy_tree(&testdata(base), model.path(), &golden.without);
    }
    if folder.join("files").is_dir() {
        copy_tree(&folder.join("files"), model.path(), &[]);
    }
    let loaded = load(model.path(), &golden.options);
    match (&golden.refused, loaded) {
        (Some(words), Err(message)) => match words.iter().any(|word| message.contains(word.as_str())) {
            true => Ok(()),
            false => Err(format!("{name}: the refusal names none of {words:?}: {message}")),
        },
        (Some(_), Ok(_)) => Err(format!("{name}: was refused, and is not any more: write the goldens again")),
        (None, Err(message)) => Err(format!("{name}: refused, but {} does it: {message}", golden.by)),
        (None, Ok((encoder, engine))) => compare(&golden, &encoder, &engine).map_err(|what| format!("{name}: {what}")),
    }
}

fn load(model: &Path, options: &Options) -> Result<(TextEncoder, Engine), String> {
    let pooling: Option<Pooling> = options.pooling.as_ref().map(|name| name.parse().unwrap());
    let engine_options = EngineOptions {
        pooling,
        normalize: !options.no_normalize,
        dimensions: options.dimensions,
        ..EngineOptions::default()
    };
    let model = ModelDir::open(model).map_err(|error| error.to_string())?;
    let encoder = TextEncoder::load(&model, options.max_length, &options.prefix).map_err(|error| error.to_string())?;
    let engine = Engine::load(&model, &engine_options).map_err(|error| error.to_string())?;
    let engine = engine.with_excluded_prefix(encoder.excluded_prefix_tokens());
    Ok((encoder, engine))
}

fn compare(golden: &Golden, encoder: &TextEncoder, engine: &Engine) -> Result<(), String> {
    let (expected_ids, vectors) = (golden.ids.as_ref().unwrap(), golden.vectors.as_ref().unwrap());
    let mut rows = Vec::new();
    for (text, expected) in golden.texts.iter().zip(expected_ids) {
        let found = encoder.encode(text).map_err(|error| format!("{text:?}: {error}"))?.ids;
        // Without ids the reference fails on this text.
        if expected.as_ref().is_some_and(|expected| *expected != found) {
            return Err(format!("ids of {text:?} are {found:?}, {} gives {expected:?}", golden.by));
        }
        rows.push(found);
    }
    rows.truncate(vectors.len());
    for ((text, found), expected) in golden.texts.iter().zip(embed(engine, &rows)).zip(vectors) {
        let cosine = cosine(&found, expected);
        if found.len() != expected.len() || cosine < COSINE_MIN {
            return Err(format!("vector of {text:?}: cosine {cosine}, {} components", found.len()));
        }
    }
    Ok(())
}
