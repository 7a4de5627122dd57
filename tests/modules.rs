//! Models with modules of sentence-transformers through the whole program: Dense, and StaticEmbedding.

use engine::{Engine, EngineOptions, ModelDir, TextEncoder};

use crate::harness::corpora::{self, sentences};
use crate::harness::output::{assert_close, rows};
use crate::harness::{TestEnv, testdata};

#[test]
fn models_with_dense_or_static_embeddings_run_as_in_the_engine() {
    let env = TestEnv::new();
    let texts = sentences(40);
    env.write("a.txt", corpora::txt(&texts));
    for (name, dimensions, max_length) in [("distiluse", 24, 48), ("static_embedding", 16, i32::MAX as u32)] {
        let dir = testdata(name);
        env.encaje(["run", "a.txt", "--model", dir.to_str().unwrap(), "--out", name, "--keep", "none"]).expect_code(0);
        let model = ModelDir::open(&dir).unwrap();
        let encoder = TextEncoder::load(&model, None, "").unwrap();
        let engine = Engine::load(&model, &EngineOptions::default()).unwrap();
        for (row, text) in rows(&env.path(name)).iter().zip(&texts) {
            let encoded = encoder.encode(text).unwrap();
            let expected = engine.embed(&[&encoded.ids].into_iter().collect()).unwrap();
            assert_close(row.embedding.as_ref().unwrap(), &expected);
            assert_eq!((row.n_tokens as usize, row.truncated), (encoded.ids.len(), encoded.truncated));
        }
        let set = dataset::VectorSet::open(&env.path(name)).unwrap();
        let info = set.info();
        assert_eq!((info.dimensions, info.pooling.as_str(), info.max_length), (dimensions, "mean", max_length));
        env.encaje(["verify", name]).expect_code(0);
    }
}

#[test]
fn what_the_modules_do_not_allow_is_refused_before_any_work() {
    let env = TestEnv::new();
    env.write("a.txt", corpora::txt(&sentences(3)));
    let refused = |name: &str, more: &[&str], words: &[&str]| {
        let dir = testdata(name).display().to_string();
        let ran = env.encaje([&["run", "a.txt", "--model", dir.as_str(), "--out", "out"], more].concat());
        ran.expect_code(2);
        ran.expect_said(words);
        assert!(!env.path("out").join("part-00000.parquet").exists());
    };
    refused("static_embedding", &["--pooling", "cls"], &["--pooling cls", "StaticEmbedding", "leave --pooling out"]);
    refused("static_embedding", &["--dtype", "bf16"], &["--dtype", "f32 only"]);
    refused("distiluse", &["--dimensions", "25"], &["--dimensions 25 is more than the 24"]);
}

#[test]
fn model_show_lists_the_modules() {
    let env = TestEnv::new();
    let show = |name: &str| env.encaje(["model", "show", testdata(name).to_str().unwrap()]).stdout;
    let dense = show("distiluse");
    assert!(dense.contains("modules         Transformer, Pooling (mean), Dense (32 to 24, Tanh)\n"), "{dense}");
    assert!(
        dense.contains("dimensions      24\n") && dense.contains("forward pass    native, on every device"),
        "{dense}"
    );
    let table = show("static_embedding");
    assert!(
        table.contains("family          static-embedding\n") && table.contains("max length      none\n"),
        "{table}"
    );
    assert!(table.contains("modules         StaticEmbedding\n") && table.contains("f32 only"), "{table}");
    assert!(show("beto").contains("modules         none: a plain encoder\n"));
    let json = env.encaje(["model", "show", testdata("static_embedding").to_str().unwrap(), "--json"]).json();
    assert_eq!((&json["max_length"], &json["modules"][0]), (&serde_json::Value::Null, &"StaticEmbedding".into()));
}
