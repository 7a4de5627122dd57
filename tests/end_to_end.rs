//! From a corpus to vectors: every format, every way out, and the vectors are those of the engine called directly.

use std::collections::BTreeMap;
use std::path::Path;

use engine::{Batch, Engine, EngineOptions, ModelDir, TextEncoder};

use crate::harness::corpora::{self, sentences};
use crate::harness::output::{self, Row, assert_close, assert_same, rows};
use crate::harness::{TestEnv, files_below, model, run_words};

/// Embeds texts one by one with the engine alone.
pub(crate) fn engine_vectors(texts: &[String], options: &EngineOptions, max_length: Option<usize>) -> Vec<Vec<f32>> {
    let dir = ModelDir::open(&model()).unwrap();
    let encoder = TextEncoder::load(&dir, max_length, "").unwrap();
    let engine = Engine::load(&dir, options).unwrap();
    let embed = |text: &String| {
        let mut batch = Batch::new();
        batch.push(&encoder.encode(text).unwrap().ids);
        engine.embed(&batch).unwrap()
    };
    texts.iter().map(embed).collect()
}

fn assert_vectors(rows: &[Row], expected: &[Vec<f32>]) {
    assert_eq!(rows.len(), expected.len());
    for (index, (row, expected)) in rows.iter().zip(expected).enumerate() {
        assert_eq!(row.row, i64::try_from(index).unwrap());
        assert_close(row.embedding.as_ref().unwrap_or_else(|| panic!("row {index} has no vector")), expected);
    }
}

/// Writes the texts in every format and returns the file names.
fn write_all_formats(env: &TestEnv, texts: &[String]) -> Vec<&'static str> {
    env.write("a.csv", corpora::csv(texts));
    env.write("a.tsv", corpora::tsv(texts));
    env.write("a.jsonl", corpora::jsonl(texts));
    env.write("a.txt", corpora::txt(texts));
    corpora::write_parquet(&env.path("a.parquet"), texts);
    corpora::write_arrow(&env.path("a.arrow"), texts);
    env.write("b.csv.gz", corpora::gzip(corpora::csv(texts).as_bytes()));
    env.write("b.ndjson.zst", corpora::zstandard(corpora::jsonl(texts).as_bytes()));
    env.write("b.txt.gz", corpora::gzip(corpora::txt(texts).as_bytes()));
    vec!["a.csv", "a.tsv", "a.jsonl", "a.txt", "a.parquet", "a.arrow", "b.csv.gz", "b.ndjson.zst", "b.txt.gz"]
}

#[test]
fn every_format_gives_the_vectors_of_the_engine() {
    let env = TestEnv::new();
    let texts = sentences(230);
    let plain = engine_vectors(&texts, &EngineOptions::default(), None);
    let from_csv = engine_vectors(&corpora::csv_texts(&texts), &EngineOptions::default(), None);
    for name in write_all_formats(&env, &texts) {
        let out = format!("out-{name}");
        let ran = env.run_ok(name, &out, &["--shard-rows", "60", "--json"]);
        let expected = if name.contains("csv") { &from_csv } else { &plain };
        assert_vectors(&rows(&env.path(&out)), expected);
        assert_eq!(ran.json()["embedded"], 230, "{name}");
        env.encaje(["verify", &out, "--corpus", name]).expect_code(0);
    }
}

#[test]
fn sources_follow_each_other_in_the_order_given() {
    let env = TestEnv::new();
    let texts = sentences(90);
    env.write("z.csv", corpora::csv(&texts[..30]));
    env.write("parts/1.jsonl", corpora::jsonl(&texts[30..50]));
    env.write("parts/2.jsonl", corpora::jsonl(&texts[50..90]));
    let corpus = ["z.csv", "parts/*.jsonl"];
    let model = model();
    let words =
        ["run", corpus[0], corpus[1], "--model", model.to_str().unwrap(), "--out", "out", "--keep", "text,label"];
    env.encaje(words).expect_code(0);
    let rows = rows(&env.path("out"));
    let found: Vec<&str> = rows.iter().map(|row| row.kept["text"].as_deref().unwrap()).collect();
    let expected: Vec<String> = corpora::csv_texts(&texts[..30]).into_iter().chain(texts[30..].to_vec()).collect();
    assert_eq!(found, expected);
    assert_eq!(rows[1].kept["label"].as_deref(), Some("⚽"));
    assert_eq!(rows[40].kept["label"], None, "the second source has no labels");
    assert!(rows.iter().enumerate().all(|(index, row)| row.row == i64::try_from(index).unwrap()));
    env.encaje(["verify", "out", "--corpus", corpus[0], corpus[1]]).expect_code(0);
    let swapped = env.encaje(["verify", "out", "--corpus", corpus[1], corpus[0]]);
    swapped.expect_code(1);
}

#[test]
fn a_finished_directory_is_tidy_and_a_second_run_does_nothing() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(100)));
    env.run_ok("a.csv", "out", &["--shard-rows", "40"]);
    let parts = files_below(&env.path("out"), &|path| path.extension().is_some_and(|name| name == "parquet"));
    let names: Vec<_> = parts.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]);

    let times = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
    let before: Vec<_> = parts.iter().map(|path| times(path)).collect();
    let again = env.run_ok("a.csv", "out", &["--shard-rows", "40", "--json"]);
    again.expect_said(&["done already"]);
    assert_eq!((&again.json()["was_done"], &again.json()["rows"]), (&true.into(), &100.into()));
    assert_eq!(parts.iter().map(|path| times(path)).collect::<Vec<_>>(), before);
}

#[test]
fn a_model_is_called_what_was_asked_for_and_its_other_names_are_the_same_job() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(12)));
    std::os::unix::fs::symlink(model(), env.path("alias")).unwrap();
    let resolved = model().display().to_string();
    let alias = env.path("alias").display().to_string();
    for out in ["new", "new.parquet"] {
        env.encaje(["run", "a.csv", "--model", "alias/", "--out", out]).expect_code(0);
        let status = env.encaje(["status", out, "--json"]).json();
        assert!(status["model"].as_str().unwrap().ends_with("/alias"), "{status}");
    }
    // Earlier releases followed the link: what they made is the same job.
    for out in ["old", "old.parquet"] {
        env.encaje(["run", "a.csv", "--model", &resolved, "--out", out]).expect_code(0);
        let again = env.encaje(["run", "a.csv", "--model", &alias, "--out", out]);
        again.expect_code(0);
        again.expect_said(&["is done already: nothing to do"]);
    }
    std::fs::remove_file(env.path("old/manifest.json")).unwrap();
    env.encaje(["run", "a.csv", "--model", &alias, "--out", "old"]).expect_said(&["its `manifest.json` is gone"]);
}

#[test]
fn another_job_in_the_same_directory_is_refused_and_says_what_differs() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(20)));
    env.run_ok("a.csv", "out", &[]);
    let other = env.encaje(crate::harness::run_words("a.csv", "out", &["--pooling", "max", "--prefix", "query: "]));
    other.expect_code(2);
    other.expect_said(&[
        "--pooling: was `auto`, is `max`",
        "--prefix: was ``, is `query: `",
        "another --out",
        "rm -r out",
    ]);

    env.write("a.csv", corpora::csv(&sentences(21)));
    let changed = env.encaje(crate::harness::run_words("a.csv", "out", &[]));
    changed.expect_code(2);
    changed.expect_said(&["a.csv", "has changed"]);
    assert_eq!(rows(&env.path("out")).len(), 20, "nothing was touched");
}

#[test]
fn a_directory_with_foreign_vector_files_is_refused() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(3)));
    env.write("out/part-00000.parquet", "not ours");
    let ran = env.encaje(crate::harness::run_words("a.csv", "out", &[]));
    ran.expect_code(2);
    ran.expect_said(&["part-00000.parquet", "another --out"]);
    assert_eq!(std::fs::read(env.path("out/part-00000.parquet")).unwrap(), b"not ours");
    assert!(!env.path("out/.encaje").exists());
}

#[test]
fn a_directory_with_files_of_the_user_is_said_to_have_them() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(4)));
    env.write("mine/notes.txt", "mine");
    env.run_ok("a.csv", "mine", &[]).expect_said(&["warning: `mine` holds files", "`mine/notes.txt`", "left alone"]);
    assert_eq!(std::fs::read(env.path("mine/notes.txt")).unwrap(), b"mine");
    let again = env.run_ok("a.csv", "mine", &[]);
    assert!(!again.stderr.contains("warning"), "only before a job is begun: {}", again.stderr);
    env.write("empty/.gitignore", "*");
    let quiet = env.run_ok("a.csv", "empty", &[]);
    assert!(!quiet.stderr.contains("warning"), "{}", quiet.stderr);
}

#[test]
fn an_output_of_another_job_in_the_folder_is_no_result_and_is_not_repaired_away() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(90)));
    env.write("b.csv", corpora::csv(&sentences(30)));
    env.run_ok("a.csv", "out", &["--shard-rows", "30"]);
    env.run_ok("b.csv", "other", &[]);
    env.encaje(["merge", "other", "--out", "out", "--partition-rows", "10", "--force"]).expect_code(0);
    let before = rows(&env.path("out"));
    let again = env.encaje(run_words("a.csv", "out", &["--shard-rows", "30"]));
    again.expect_code(2);
    again.expect_said(&["`out` has the output of another job by now"]);
    let repaired = env.encaje(["repair", "out"]);
    repaired.expect_code(1);
    repaired.expect_said(&["output of another job", "nothing was changed"]);
    assert_same(&rows(&env.path("out")), &before);
    env.encaje(["verify", "out", "--corpus", "b.csv"]).expect_code(0);
}

#[test]
fn a_pattern_over_the_folder_of_the_output_is_refused() {
    let env = TestEnv::new();
    std::fs::create_dir(env.path("in")).unwrap();
    env.write("in/a.csv", corpora::csv(&sentences(10)));
    for pattern in ["in/*", "in/*.csv"] {
        let refused = env.encaje(run_words(pattern, "in", &[]));
        refused.expect_code(2);
        refused.expect_said(&["is in the folder of the output"]);
    }
    env.run_ok("in/*.csv", "out", &[]);
}

#[test]
fn one_file_is_the_directory_merged() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(150)));
    env.run_ok("a.csv", "dir", &["--shard-rows", "40"]);
    env.run_ok("a.csv", "one.parquet", &["--shard-rows", "40"]);
    assert!(!env.path("one.parquet.encaje").exists(), "the work directory is gone");
    env.encaje(["merge", "dir", "--out", "merged.parquet"]).expect_code(0);
    let parts = rows(&env.path("dir"));
    output::assert_same(&rows(&env.path("one.parquet")), &parts);
    output::assert_same(&rows(&env.path("merged.parquet")), &parts);
    for target in ["dir", "one.parquet", "merged.parquet"] {
        env.encaje(["verify", target, "--corpus", "a.csv"]).expect_code(0);
    }

    let again = env.run_ok("a.csv", "one.parquet", &["--shard-rows", "40", "--json"]);
    assert_eq!(again.json()["was_done"], true);
    let other = env.encaje(crate::harness::run_words("a.csv", "one.parquet", &["--no-normalize"]));
    other.expect_code(2);
    other.expect_said(&["one.parquet", "other parameters"]);
    let taken = env.encaje(["merge", "dir", "--out", "merged.parquet"]);
    assert_ne!(taken.code, Some(0));
    taken.expect_said(&["merged.parquet"]);
}

#[test]
fn options_change_the_vectors_and_the_footer_says_so() {
    let env = TestEnv::new();
    let texts = sentences(40);
    env.write("a.jsonl", corpora::jsonl(&texts));
    let more = ["--pooling", "mean", "--no-normalize", "--max-length", "8", "--keep", "none"];
    env.run_ok("a.jsonl", "out", &more);
    let options = EngineOptions { pooling: Some(engine::Pooling::Mean), normalize: false, ..EngineOptions::default() };
    let found = rows(&env.path("out"));
    assert_vectors(&found, &engine_vectors(&texts, &options, Some(8)));
    assert!(found.iter().all(|row| row.kept == BTreeMap::new() && row.n_tokens <= 8));
    assert!(found.iter().any(|row| row.truncated) && found.iter().all(|row| row.truncated == (row.n_tokens == 8)));
    let set = dataset::VectorSet::open(&env.path("out")).unwrap();
    let info = set.info();
    assert_eq!((info.pooling.as_str(), info.normalized, info.max_length), ("mean", false, 8));
    env.encaje(["verify", "out"]).expect_code(0);
}

#[test]
fn a_prefix_stands_before_every_text() {
    let env = TestEnv::new();
    let texts = sentences(10);
    env.write("bare.txt", corpora::txt(&texts));
    let prefixed: Vec<String> = texts.iter().map(|text| format!("la playa {text}")).collect();
    env.write("prefixed.txt", corpora::txt(&prefixed));
    env.run_ok("bare.txt", "a", &["--prefix", "la playa ", "--keep", "none"]);
    env.run_ok("prefixed.txt", "b", &["--keep", "none"]);
    output::assert_same(&rows(&env.path("a")), &rows(&env.path("b")));
}

/// Copies the test model, with the files of sentence-transformers around it.
fn prompted_model(env: &TestEnv, model_settings: &str) -> String {
    let target = env.path("prompted");
    std::fs::create_dir_all(target.join("1_Pooling")).unwrap();
    for file in std::fs::read_dir(model()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        std::fs::copy(file.path(), target.join(file.file_name())).unwrap();
    }
    let module = |index: usize, path: &str, class: &str| {
        let class = format!("sentence_transformers.models.{class}");
        serde_json::json!({"idx": index, "name": index.to_string(), "path": path, "type": class})
    };
    let modules = serde_json::json!([module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")]);
    std::fs::write(target.join("modules.json"), modules.to_string()).unwrap();
    let pooling = r#"{"word_embedding_dimension": 32, "pooling_mode_cls_token": true}"#;
    std::fs::write(target.join("1_Pooling/config.json"), pooling).unwrap();
    std::fs::write(target.join("config_sentence_transformers.json"), model_settings).unwrap();
    target.display().to_string()
}

const PROMPTS: &str = r#"{"prompts": {"lugar": "la playa ", "otro": "el mar "}, "default_prompt_name": "lugar",
    "similarity_fn_name": "dot"}"#;

#[test]
fn the_models_default_prompt_stands_before_every_text_unless_another_is_asked_for() {
    let env = TestEnv::new();
    let texts = sentences(10);
    env.write("a.txt", corpora::txt(&texts));
    let dir = prompted_model(&env, PROMPTS);
    let run = |out: &str, more: &[&str]| {
        let words = [&["run", "a.txt", "--model", dir.as_str(), "--out", out, "--keep", "none"], more].concat();
        let ran = env.encaje(words);
        ran.expect_code(0);
        ran
    };
    run("default", &[]).expect_said(&["prompt: `lugar`, the model's default, puts \"la playa \" before every text"]);
    run("named", &["--prompt", "otro"]).expect_said(&["prompt: `otro` puts \"el mar \" before every text"]);
    run("none", &["--prompt", ""]).expect_said(&["prompt: none, though the model's default is `lugar`"]);
    run("prefix", &["--prefix", "la playa ", "--prompt", "otro"]);
    output::assert_same(&rows(&env.path("default")), &rows(&env.path("prefix")));
    for (out, prefix) in [("default", "la playa "), ("named", "el mar "), ("none", "")] {
        env.run_ok("a.txt", &format!("plain-{out}"), &["--prefix", prefix, "--keep", "none"]);
        output::assert_same(&rows(&env.path(out)), &rows(&env.path(&format!("plain-{out}"))));
        env.encaje(["verify", out]).expect_code(0);
    }
    let footer = |out: &str| {
        let info = dataset::VectorSet::open(&env.path(out)).unwrap().info().clone();
        (info.prompt, info.prefix, info.similarity)
    };
    let dot = Some("dot".to_owned());
    assert_eq!(footer("default"), (Some("lugar".to_owned()), "la playa ".to_owned(), dot.clone()));
    assert_eq!(footer("prefix"), (None, "la playa ".to_owned(), dot.clone()));
    assert_eq!(footer("none"), (None, String::new(), dot));

    let unknown = env.encaje(["run", "a.txt", "--model", &dir, "--out", "x", "--prompt", "query"]);
    unknown.expect_code(2);
    unknown.expect_said(&["--prompt query", "`lugar`, `otro`"]);
    let other = env.encaje(["run", "a.txt", "--model", &dir, "--out", "default", "--keep", "none", "--prompt", "otro"]);
    other.expect_code(2);
    other.expect_said(&["--prompt: was `lugar`, is `otro`"]);
    let shown = env.encaje(["model", "show", &dir]);
    shown.expect_code(0);
    assert!(shown.stdout.contains("lugar \"la playa \", otro \"el mar \""), "{}", shown.stdout);
    let tokens = |words: &[&str]| env.encaje([&["tokenize", "--json", "--model", dir.as_str()], words].concat()).json();
    let (own, by_hand) = (tokens(&["sol"]), tokens(&["--prompt", "", "la playa sol"]));
    assert_eq!((&own["decoded"], &own["n_tokens"]), (&by_hand["decoded"], &by_hand["n_tokens"]));
}

#[test]
fn the_dimensions_that_a_model_keeps_are_kept_unless_others_are_asked_for() {
    let env = TestEnv::new();
    env.write("a.txt", corpora::txt(&sentences(10)));
    let dir = prompted_model(&env, r#"{"truncate_dim": 12}"#);
    let run = |out: &str, more: &[&str]| {
        let words = [&["run", "a.txt", "--model", dir.as_str(), "--out", out, "--keep", "none"], more].concat();
        env.encaje(words).expect_code(0);
        rows(&env.path(out))
    };
    env.run_ok("a.txt", "plain", &["--dimensions", "12", "--keep", "none"]);
    output::assert_same(&run("own", &[]), &rows(&env.path("plain")));
    assert_eq!(run("more", &["--dimensions", "20"])[0].embedding.as_ref().unwrap().len(), 20);
    let shown = env.encaje(["model", "show", &dir, "--json"]).json();
    assert_eq!((&shown["truncate_dim"], &shown["dimensions"]), (&12.into(), &32.into()));
}

#[test]
fn exports_are_the_vectors_as_a_matrix() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(30)));
    env.run_ok("a.csv", "out", &["--shard-rows", "11"]);
    let vectors: Vec<f32> = rows(&env.path("out")).into_iter().flat_map(|row| row.embedding.unwrap()).collect();
    let bytes: Vec<u8> = vectors.iter().flat_map(|value| value.to_le_bytes()).collect();

    for format in ["npy", "safetensors", "pt"] {
        let name = format!("v.{format}");
        let ran = env.encaje(["export", "out", "--format", format, "--out", &name, "--json"]);
        ran.expect_code(0);
        assert_eq!(ran.json()["rows"], 30);
        let again = env.encaje(["export", "out", "--format", format, "--out", &name]);
        again.expect_code(2);
        again.expect_said(&["--force"]);
        std::fs::write(env.path(&name), "something else").unwrap();
        env.encaje(["export", "out", "--format", format, "--out", &name, "--force"]).expect_code(0);
    }
    let npy = std::fs::read(env.path("v.npy")).unwrap();
    assert!(npy.starts_with(b"\x93NUMPY") && npy.ends_with(&bytes));
    let file = std::fs::read(env.path("v.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.tensor("embeddings").unwrap().data(), bytes);
    assert!(std::fs::read(env.path("v.pt")).unwrap().starts_with(b"PK"));
}

#[test]
fn a_damaged_part_is_found_by_verify_and_by_the_next_run() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(50)));
    env.run_ok("a.csv", "out", &["--shard-rows", "20"]);
    let part = env.path("out/part-00001.parquet");
    let mut bytes = std::fs::read(&part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&part, &bytes).unwrap();
    let ran = env.encaje(["verify", "out"]);
    ran.expect_code(1);
    assert!(ran.stdout.contains("part-00001.parquet"), "{}", ran.stdout);

    std::fs::remove_file(&part).unwrap();
    let ran = env.encaje(crate::harness::run_words("a.csv", "out", &["--shard-rows", "20"]));
    ran.expect_code(1);
    ran.expect_said(&["part-00001.parquet", "not whole any more"]);
}
