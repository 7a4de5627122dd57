//! Masks are filled as the `fill-mask` pipeline of `transformers` fills them.

use std::path::Path;

use engine::{Filled, MaskFiller, ModelDir};
use serde_json::Value;

use crate::checkpoint;
use crate::common::{copy_without, edit_json, testdata};

const SCORE_DIFFERENCE_MAX: f64 = 1e-4;

fn filler(dir: &Path) -> MaskFiller {
    MaskFiller::load(&ModelDir::open(dir).unwrap()).unwrap()
}

fn goldens() -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(testdata("fill_mask.json")).unwrap()).unwrap()
}

/// Compares with the pipeline's answer: a list per mask, or one list for one mask.
fn assert_equal(case: &str, found: &[Vec<Filled>], answer: &Value) {
    let lists: Vec<&Value> = match found.len() {
        1 => vec![answer],
        _ => answer.as_array().unwrap().iter().collect(),
    };
    assert_eq!(found.len(), lists.len(), "{case}");
    for (found, expected) in found.iter().zip(lists) {
        let expected = expected.as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{case}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(Some(u64::from(found.token)), expected["token"].as_u64(), "{case}");
            assert_eq!(Some(found.token_str.as_str()), expected["token_str"].as_str(), "{case}");
            assert_eq!(Some(found.sequence.as_str()), expected["sequence"].as_str(), "{case}");
            let difference = (found.score - expected["score"].as_f64().unwrap()).abs();
            assert!(difference <= SCORE_DIFFERENCE_MAX, "{case}: {difference}");
        }
    }
}

/// Copies a model with a case's changes to its weights and config.
fn changed(case: &Value) -> tempfile::TempDir {
    let list = |key: &str| case[key].as_array().cloned().unwrap_or_default();
    let (without, scaled, untied) = (list("without"), list("scaled"), case["untied"].as_bool() == Some(true));
    let model = case["model"].as_str().unwrap();
    if without.is_empty() && scaled.is_empty() {
        return copy_without(model, &[]);
    }
    let copy = copy_without(model, &["pytorch_model.bin"]);
    checkpoint::edit(&copy.path().join("model.safetensors"), |tensors| {
        for change in scaled {
            let factor = change[2].as_f64().unwrap() as f32;
            let scaled = tensors[change[0].as_str().unwrap()].map(|number| number * factor);
            tensors.insert(change[1].as_str().unwrap().into(), scaled);
        }
        tensors.retain(|name, _| !without.iter().any(|without| without == name));
    });
    if untied {
        edit_json(&copy.path().join("config.json"), |config| config["tie_word_embeddings"] = false.into());
    }
    copy
}

#[test]
fn masks_are_filled_as_by_the_pipeline() {
    for case in goldens() {
        let (model, copy) = (case["model"].as_str().unwrap(), changed(&case));
        let filler = filler(copy.path());
        for answer in case["answers"].as_array().unwrap() {
            let text = answer["text"].as_str().unwrap();
            for mask in ["[MASK]", "<mask>"] {
                let found = filler.fill(&text.replace("{}", mask), 5).unwrap();
                let changes = [&case["without"], &case["scaled"], &case["untied"]];
                assert_equal(&format!("{model}, {changes:?}: {text} with {mask}"), &found, &answer["answer"]);
            }
        }
    }
}

#[test]
fn an_untied_head_without_a_decoder_is_refused_by_name() {
    let copy = copy_without("mbert", &[]);
    edit_json(&copy.path().join("config.json"), |config| config["tie_word_embeddings"] = false.into());
    checkpoint::edit(&copy.path().join("model.safetensors"), |tensors| {
        tensors.remove("cls.predictions.decoder.weight");
    });
    let error = MaskFiller::load(&ModelDir::open(copy.path()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("`tie_word_embeddings` is false") && error.contains("decoder.weight"), "{error}");
}

#[test]
fn a_text_without_a_mask_is_an_error_naming_it() {
    let error = filler(&testdata("bertin")).fill("Hoy vamos a comer.", 5).unwrap_err();
    assert_eq!(error.to_string(), "the text has no mask: write `<mask>` for the token to predict");
}

#[test]
fn a_mask_beyond_the_maximum_length_is_refused() {
    let error = filler(&testdata("beto")).fill(&format!("{} [MASK]", "palabra ".repeat(200)), 5).unwrap_err();
    assert!(error.to_string().contains("beyond the 64 tokens"), "{error}");
}

#[test]
fn weights_without_a_head_are_refused_by_name() {
    let error = MaskFiller::load(&ModelDir::open(&testdata("xlm_roberta")).unwrap()).unwrap_err().to_string();
    assert!(error.contains("lm_head.dense.weight") && error.contains("xlm_roberta"), "{error}");
    let error = MaskFiller::load(&ModelDir::open(&testdata("modernbert")).unwrap()).unwrap_err().to_string();
    assert!(error.contains("modernbert"), "{error}");
}
