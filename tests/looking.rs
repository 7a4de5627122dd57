//! The commands that look at what a model makes of texts, and at vectors: fill-mask, similarity, merge into parts.

use serde_json::Value;

use crate::harness::{TestEnv, model, testdata};

#[test]
fn fill_mask_answers_as_the_pipeline_does() {
    let env = TestEnv::new();
    let bertin = testdata("bertin");
    let words = ["fill-mask", "--model", bertin.to_str().unwrap(), "--top", "3", "--json"];
    let ran = env.encaje(words.iter().copied().chain(["unos [MASK] de canasta", "El <mask> toda la [MASK]."]));
    ran.expect_code(0);
    let answers: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 2);
    let one = answers[0].as_array().unwrap();
    assert_eq!(one.len(), 3);
    let keys: Vec<&String> = one[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["score", "token", "token_str", "sequence"]);
    assert!(one[0]["score"].as_f64() > one[1]["score"].as_f64());
    assert_eq!(answers[1].as_array().unwrap().len(), 2, "a list per mask");
    let shown = env.encaje(["fill-mask", "--model", bertin.to_str().unwrap(), "unos <mask> de canasta"]);
    assert_eq!(shown.stdout.lines().count(), 6, "{}", shown.stdout);
    let refused = env.encaje(["fill-mask", "--model", bertin.to_str().unwrap(), "sin nada"]);
    refused.expect_code(2);
    refused.expect_said(&["the text has no mask", "<mask>"]);
    let headless = testdata("xlm_roberta");
    let refused = env.encaje(["fill-mask", "--model", headless.to_str().unwrap(), "una <mask>"]);
    refused.expect_code(1);
    refused.expect_said(&["lm_head.dense.weight"]);
}

#[test]
fn similarity_prints_and_draws_the_matrix() {
    let env = TestEnv::new();
    let model = model();
    let model = ["--model", model.to_str().unwrap()];
    let texts = ["similarity", "hola", "la playa", "<script>alert(1)</script>"];
    let words = texts.iter().chain(&model).copied();
    let found = env.encaje(words.clone().chain(["--json", "--out", "s.png"])).json();
    let rows = found["cosine"].as_array().unwrap();
    assert_eq!((rows.len(), rows[1].as_array().unwrap().len()), (3, 3));
    assert!((rows[1][1].as_f64().unwrap() - 1.0).abs() < 1e-6 && rows[0][1] == rows[1][0]);
    assert!(std::fs::read(env.path("s.png")).unwrap().starts_with(b"\x89PNG"));
    let again = env.encaje(words.clone().chain(["--out", "s.png"]));
    again.expect_code(2);
    again.expect_said(&["already exists", "--force"]);
    env.encaje(words.clone().chain(["--out", "s.html"])).expect_code(0);
    let page = std::fs::read_to_string(env.path("s.html")).unwrap();
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "texts are shown, not run");
    let table = env.encaje(words.clone());
    assert_eq!(table.stdout.lines().count(), 4);
    assert!(
        table.stdout.lines().all(|line| line.chars().count() == table.stdout.lines().next().unwrap().chars().count())
    );
    env.write("a.csv", "label,text\nx,hola\ny,\nz,la playa\nw,más\n");
    let from =
        env.encaje(["similarity", "--from", "a.csv", "--rows", "3", "--json"].iter().chain(&model).copied()).json();
    assert_eq!(from["texts"], serde_json::json!(["hola", "la playa"]));
    env.encaje(words.chain(["--out", "s.gif"])).expect_code(2);
}

#[test]
fn merge_cuts_into_parts_of_equal_size_and_halves_numbers() {
    let env = TestEnv::new();
    let texts: String = (0..50).map(|row| format!("{row},frase número {row}\n")).collect();
    env.write("a.csv", format!("id,text\n{texts}"));
    let model = model();
    env.encaje(["run", "a.csv", "--model", model.to_str().unwrap(), "--out", "o", "-q"]).expect_code(0);
    let merged =
        env.encaje(["merge", "o", "--out", "cut", "--partition-rows", "20", "--output-dtype", "f16", "--json"]);
    merged.expect_code(0);
    let sizes: Vec<u64> =
        merged.json()["files"].as_array().unwrap().iter().map(|file| file["rows"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [20, 20, 10]);
    env.encaje(["verify", "cut"]).expect_code(0);
    let again = env.encaje(["merge", "o", "--out", "cut", "--partition-rows", "20"]);
    again.expect_code(1);
    env.write("file.parquet", "x");
    let refused = env.encaje(["merge", "o", "--out", "file.parquet", "--partition-rows", "20"]);
    refused.expect_code(2);
    let part = env.path("o/part-00000.parquet");
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let refused = env.encaje(["merge", "o", "--out", "all.parquet"]);
    refused.expect_code(1);
    refused.expect_said(&["part-00000.parquet"]);
    assert!(!env.path("all.parquet").exists());
    std::fs::remove_file(env.path("o/manifest.json")).unwrap();
    let refused = env.encaje(["merge", "o", "--out", "all.parquet"]);
    refused.expect_code(1);
    refused.expect_said(&["manifest"]);
}

/// Checks that the parts of a comparison of two models by two labels agree with each other.
fn assert_findings(found: &serde_json::Value, page: &str) {
    let value = |value: &serde_json::Value| value.as_f64().unwrap();
    let labels = found["by_label"].as_array().unwrap();
    for (index, model) in found["models"].as_array().unwrap().iter().enumerate() {
        let weighted = labels.iter().map(|label| value(&label["rows"]) * value(&label["accuracy"][index]["value"]));
        assert!((weighted.sum::<f64>() / 60.0 - value(&model["label_accuracy"]["value"])).abs() < 1e-6, "{found}");
        for label in labels {
            let wrong = found["confusions"].as_array().unwrap().iter().filter(|one| one["label"] == label["label"]);
            let wrong: f64 = wrong.map(|one| value(&one["share"][index])).sum();
            assert!((wrong + value(&label["accuracy"][index]["value"]) - 1.0).abs() < 1e-6, "{found}");
        }
    }
    let lead = &found["lead"];
    let (best, next) = (lead["best"].as_u64().unwrap() as usize, lead["next"].as_u64().unwrap() as usize);
    let behind = &found["models"][next]["label_accuracy_difference"];
    assert!((value(&lead["difference"]["value"]) + value(&behind["value"])).abs() < 1e-9);
    assert_eq!(found["models"][best]["label_accuracy_difference"]["value"], 0.0);
    let shared = value(&found["overlaps"][0]["shared"]);
    assert!(shared > 0.0 && shared < 1.0, "{shared}");
    for separated in lead["separated"].as_array().unwrap() {
        for example in separated["examples"].as_array().unwrap() {
            assert!(page.contains(example["text"].as_str().unwrap()), "{example}");
            assert_ne!(example["label"], example["taken_for"]);
        }
    }
}

#[test]
fn compare_draws_a_panel_per_model_and_refuses_other_rows() {
    let env = TestEnv::new();
    let texts: String = (0..60).map(|row| format!("{row},frase número {row},{}\n", ["🐶", "🍲"][row % 2])).collect();
    env.write("a.csv", format!("id,text,label\n{texts}"));
    env.write("b.csv", format!("id,text,label\n{}", texts.replace("número 7,", "<b>siete</b>,")));
    let run = |corpus: &str, name: &str, out: &str| {
        let model = testdata(name);
        env.encaje(["run", corpus, "--model", model.to_str().unwrap(), "--out", out, "-q"]).expect_code(0);
    };
    run("a.csv", "beto", "one");
    run("a.csv", "bertin", "two");
    run("b.csv", "beto", "other");
    // A row without a text has no vector in any set; in `less`, another one lacks its own too.
    env.write("c.csv", format!("id,text,label\n{}", texts.replace("frase número 9,", ",")));
    run("c.csv", "beto", "less");
    let words = ["compare", "one", "two", "--label", "label", "--epochs", "20"];
    let found = env.encaje(words.iter().copied().chain(["--out", "c.html", "--json"])).json();
    assert_eq!((&found["rows"], &found["labels"]), (&60.into(), &2.into()));
    let models = found["models"].as_array().unwrap();
    assert_eq!([&models[0]["model"], &models[1]["model"]], ["beto", "bertin"]);
    for model in models {
        let accuracy = &model["label_accuracy"];
        assert!((0.0..=1.0).contains(&model["label_accuracy_macro"].as_f64().unwrap()));
        let at = |key: &str| accuracy[key].as_f64().unwrap();
        assert!(at("low") <= at("value") && at("value") <= at("high") && at("low") < at("high"), "{accuracy}");
        assert!(model["trustworthiness"].as_f64().unwrap() > 0.5 && model["silhouette"]["value"].is_number());
        assert_eq!(model["truncated"], 0.0);
        assert!(model["tokens_per_second"].as_f64().unwrap() > 0.0, "the run wrote down how fast it was");
    }
    let best = models.iter().filter(|model| model["label_accuracy_difference"]["value"] == 0.0).count();
    assert!(best >= 1, "{models:?}");
    let page = std::fs::read_to_string(env.path("c.html")).unwrap();
    assert!(page.contains("2 models by label") && page.contains("<th>kNN accuracy"));
    assert!(page.contains("<h2>What the numbers say</h2>") && page.contains("<h2>Accuracy by label"));
    assert_findings(&found, &page);
    let drawn = env.encaje(words.iter().copied().chain(["--out", "c.png", "--lang", "es"]));
    drawn.expect_code(0);
    for said in
        ["modelo", "es el que mejor separa los valores de «label»", "no dice nada de otras tareas", "label  filas"]
    {
        assert!(drawn.stdout.contains(said), "{said}: {}", drawn.stdout);
    }
    assert!(std::fs::read(env.path("c.png")).unwrap().starts_with(b"\x89PNG"));
    let twice = env.encaje(["compare", "one", "one", "--label", "label", "--epochs", "5", "--json"]).json();
    assert_eq!([&twice["models"][0]["model"], &twice["models"][1]["model"]], ["beto (one)", "beto (one, 2)"]);
    assert_eq!(twice["overlaps"][0]["shared"], 1.0);
    assert!(twice["sentences"][0].as_str().unwrap().starts_with("No model separates"), "{twice}");
    let refused = env.encaje(["compare", "one", "other", "--label", "label"]);
    refused.expect_code(2);
    refused.expect_said(&["`one` and `other` cannot be compared", "column `text` differs in row 7"]);
    let refused = env.encaje(["compare", "one", "two", "--label", "mood"]);
    refused.expect_code(2);
    refused.expect_said(&["no kept column `mood`", "label"]);
}
