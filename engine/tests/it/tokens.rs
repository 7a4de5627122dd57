//! Token ids equal those of `transformers`, whichever files the tokenizer is built from.

use engine::{ModelDir, TextEncoder, TokenizerKind};

use proptest::prelude::*;

use serde_json::json;

use crate::common::{Goldens, change, copy_without, edit_json, encoder, minilm, testdata, texts, tiny_models};

fn assert_ids(name: &str, dir: &std::path::Path) {
    let goldens = Goldens::read(name);
    let encoder = encoder(dir, Some(goldens.max_length));
    for ((row, text), expected) in texts().iter().enumerate().zip(&goldens.ids) {
        assert_eq!(&encoder.encode(text).unwrap().ids, expected, "{name}, text {row}: {text:.60}");
    }
}

#[test]
fn tokenizer_json_gives_the_ids_of_transformers() {
    for name in &tiny_models() {
        assert_ids(name, &testdata(name));
    }
    assert_ids("minilm", &minilm());
}

#[test]
fn older_files_give_the_same_ids() {
    let cases = [
        ("beto", TokenizerKind::WordPiece),
        ("mbert", TokenizerKind::WordPiece),
        ("mex_large", TokenizerKind::WordPiece),
        ("bertin", TokenizerKind::ByteLevelBpe),
    ];
    for (name, kind) in cases {
        let copy = copy_without(name, &["tokenizer.json"]);
        assert_eq!(ModelDir::open(copy.path()).unwrap().summary().tokenizer, kind);
        assert_ids(name, copy.path());
    }
}

/// Tokenizes the whole text before truncation.
fn whole(tokenizer: &tokenizers::Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, true).unwrap().get_ids().to_vec()
}

fn plain_tokenizer(dir: &std::path::Path, max_length: usize) -> tokenizers::Tokenizer {
    cut_tokenizer(dir, max_length, tokenizers::TruncationDirection::Right)
}

fn cut_tokenizer(
    dir: &std::path::Path,
    max_length: usize,
    direction: tokenizers::TruncationDirection,
) -> tokenizers::Tokenizer {
    let mut tokenizer = tokenizers::Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
    tokenizer.with_padding(None);
    let truncation = tokenizers::TruncationParams { max_length, direction, ..Default::default() };
    tokenizer.with_truncation(Some(truncation)).unwrap();
    tokenizer
}

fn any_text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "palabra",
        "camión",
        "cami\u{301}on",
        "ñ",
        "x",
        "[SEP]",
        "<mask>",
        "[MASK]",
        "</s>",
        "😀",
        "👩‍👩‍👧‍👦",
        "日本語",
        "1234",
        "¡hola!",
        "\u{301}",
        "\u{ad}",
        "…",
        "supercalifragilisticoespialidoso",
        "@user",
        "https://a.b/c?d=e",
    ]);
    let spaces = prop::sample::select(vec![" ", "  ", "\n", "\r\n", "\t", "\u{a0}", "\u{3000}", "", "", " "]);
    // Few distinct pieces, repeated to a long text whose cut falls anywhere among them.
    (prop::collection::vec((pieces, spaces), 1..40), 1usize..400).prop_map(|(pieces, times)| {
        pieces.iter().map(|(piece, space)| format!("{piece}{space}")).collect::<String>().repeat(times)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pretruncation_changes_no_token(text in any_text(), max_length in 4usize..64) {
        for name in &tiny_models() {
            let expected = whole(&plain_tokenizer(&testdata(name), max_length), &text);
            let untruncated = whole(&plain_tokenizer(&testdata(name), usize::MAX), &text);
            let found = encoder(&testdata(name), Some(max_length)).encode(&text).unwrap();
            prop_assert_eq!(&found.ids, &expected, "{}", name);
            prop_assert_eq!(found.truncated, untruncated.len() > max_length, "{}", name);
            let shown = encoder(&testdata(name), Some(max_length)).explain(&text).unwrap();
            let shown: Vec<u32> = shown.iter().map(|token| token.id).collect();
            prop_assert_eq!(shown, found.ids, "what is shown is what is embedded: {}", name);
        }
    }

    #[test]
    fn left_truncation_keeps_the_end_of_a_long_text(text in any_text(), max_length in 4usize..64) {
        for name in &tiny_models() {
            let copy = copy_without(name, &[]);
            change(copy.path(), "tokenizer_config.json", |config| config["truncation_side"] = json!("left"));
            let plain = cut_tokenizer(&testdata(name), max_length, tokenizers::TruncationDirection::Left);
            let untruncated = whole(&plain_tokenizer(&testdata(name), usize::MAX), &text);
            let encoder = encoder(copy.path(), Some(max_length));
            let found = encoder.encode(&text).unwrap();
            prop_assert_eq!(&found.ids, &whole(&plain, &text), "{}", name);
            prop_assert_eq!(found.truncated, untruncated.len() > max_length, "{}", name);
            let shown: Vec<u32> = encoder.explain(&text).unwrap().iter().map(|token| token.id).collect();
            prop_assert_eq!(shown, found.ids, "{}", name);
        }
    }
}

#[test]
fn a_text_of_ten_megabytes_is_tokenized_in_milliseconds() {
    let text = texts()[0].repeat(10_000_000 / texts()[0].len());
    let spaced = format!("{} ", texts()[0]).repeat(10_000_000 / texts()[0].len());
    for name in &tiny_models() {
        let encoder = encoder(&testdata(name), None);
        for text in [&text, &spaced] {
            let start = std::time::Instant::now();
            let encoded = encoder.encode(text).unwrap();
            let taken = start.elapsed();
            assert!(encoded.truncated && encoded.ids.len() == encoder.max_length(), "{name}");
            // Tokenizing all of it takes seconds; a cut one or two milliseconds, plus slack for a busy machine.
            assert!(taken.as_millis() < 1500, "{name}: {taken:?}");
        }
    }
}

#[test]
fn a_very_long_word_is_one_unknown_token_in_milliseconds() {
    for name in ["beto", "mbert", "mex_large", "distilbert"] {
        let (encoder, plain) = (encoder(&testdata(name), Some(16)), plain_tokenizer(&testdata(name), 16));
        for (before, after) in
            [("", ""), ("hola ", " adios"), ("¡", "!"), ("ñ", "\u{301} á"), ("[SEP]", "[SEP]"), ("_", "_")]
        {
            let of_length = |length: usize| format!("{before}{}{after}", "aB3".repeat(length));
            let expected = whole(&plain, &of_length(2000));
            assert_eq!(encoder.encode(&of_length(2000)).unwrap().ids, expected, "{name}: {before}…{after}");
            let start = std::time::Instant::now();
            assert_eq!(encoder.encode(&of_length(3_000_000)).unwrap().ids, expected, "{name}: {before}…{after}");
            assert!(start.elapsed().as_millis() < 1500, "{name}: {:?}", start.elapsed());
        }
    }
}

#[test]
fn presets_in_tokenizer_json_are_ignored() {
    let copy = copy_without("beto", &[]);
    change(copy.path(), "tokenizer.json", |json| {
        json["truncation"] = json!({"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0});
        json["padding"] = json!({"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]"});
    });
    assert_ids("beto", copy.path());
}

#[test]
fn case_and_accents_follow_the_files() {
    let ids = |name: &str, text: &str| encoder(&testdata(name), None).encode(text).unwrap().ids;
    assert_eq!(ids("mbert", "MAÑANA está"), ids("mbert", "manana esta"), "uncased: accents go with the case");
    assert_ne!(ids("beto", "está"), ids("beto", "esta"), "cased: accents stay");
    // `strip_accents: null` follows the case, and so does its absence.
    let copy = copy_without("mbert", &["tokenizer.json"]);
    for config in [r#"{"do_lower_case": true, "strip_accents": null}"#, "{}"] {
        std::fs::write(copy.path().join("tokenizer_config.json"), config).unwrap();
        assert_ids("mbert", copy.path());
    }
    std::fs::write(copy.path().join("tokenizer_config.json"), r#"{"strip_accents": false}"#).unwrap();
    let kept = encoder(copy.path(), None).encode("está").unwrap().ids;
    assert_ne!(kept, ids("mbert", "está"));
}

#[test]
fn a_config_flag_overrides_tokenizer_json() {
    let copy = copy_without("mbert", &[]);
    std::fs::write(copy.path().join("tokenizer_config.json"), r#"{"do_lower_case": false}"#).unwrap();
    let tokens = encoder(copy.path(), None).explain("HOLA").unwrap();
    assert!(tokens.iter().all(|token| !token.text.contains('h')), "as transformers has it: {tokens:?}");
}

#[test]
fn an_added_token_with_another_id_than_promised_is_refused() {
    let copy = copy_without("mbert", &["tokenizer.json"]);
    std::fs::write(copy.path().join("added_tokens.json"), r#"{"<extra>": 5000}"#).unwrap();
    let error = ModelDir::open(copy.path()).unwrap_err();
    assert!(error.to_string().contains("token `<extra>` should have id 5000"), "{error}");
}

#[test]
fn an_unknown_token_outside_of_the_vocabulary_is_refused() {
    for (model, class) in
        [("electra", "BertTokenizer"), ("gemma3_text", "GemmaTokenizer"), ("gemma3_text", "HerbertTokenizer")]
    {
        let copy = copy_without(model, &["special_tokens_map.json"]);
        edit_json(&copy.path().join("tokenizer_config.json"), |config| {
            config["tokenizer_class"] = class.into();
            config["unk_token"] = "<nothing>".into();
            config["cls_token"] = "[CLS]".into();
            config["sep_token"] = "[SEP]".into();
        });
        let error = ModelDir::open(copy.path()).unwrap_err().to_string();
        assert!(error.contains("`unk_token`: `<nothing>` is not in the vocabulary"), "{class}: {error}");
    }
}

#[test]
fn a_prefix_is_prepended_to_every_text() {
    let model = ModelDir::open(&testdata("mex_large")).unwrap();
    let with_prefix = TextEncoder::load(&model, None, "Mexico_City _GEO ").unwrap();
    let plain = TextEncoder::load(&model, None, "").unwrap();
    assert_eq!(with_prefix.encode("que día").unwrap(), plain.encode("Mexico_City _GEO que día").unwrap());
    let tokens = with_prefix.explain("que día").unwrap();
    let last = &tokens[tokens.len() - 2];
    assert_eq!(last.end, "que día".len(), "places are those in the text: {tokens:?}");
}

#[test]
fn tokens_are_explained_and_decoded() {
    let encoder = encoder(&testdata("beto"), None);
    let text = "Hoy vamos a comer unos tacos de canasta.";
    let tokens = encoder.explain(text).unwrap();
    assert!(tokens[0].special && tokens[0].text == "[CLS]" && tokens.last().unwrap().text == "[SEP]");
    let said: String =
        tokens.iter().filter(|token| !token.special).map(|token| &text[token.start..token.end]).collect();
    assert_eq!(said, text.replace(' ', ""));
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    assert_eq!(ids, encoder.encode(text).unwrap().ids);
    assert_eq!(encoder.decode(&ids).unwrap(), "Hoy vamos a comer unos tacos de canasta.");
}

#[test]
fn a_length_with_only_special_tokens_is_refused() {
    let model = ModelDir::open(&testdata("beto")).unwrap();
    let Err(error) = TextEncoder::load(&model, Some(2), "") else { panic!("two tokens are the special ones") };
    assert!(error.to_string().contains("of which 2 are special"), "{error}");
    assert_eq!(encoder(&testdata("beto"), Some(3)).encode("hola").unwrap().ids.len(), 3);
}

#[test]
#[ignore = "needs BETO's tokenizer files and config.json, in the directory that ENCAJE_TEST_BETO names"]
fn betos_ids_match_the_notebook() {
    let dir = std::env::var_os("ENCAJE_TEST_BETO").expect("ENCAJE_TEST_BETO names a directory");
    let expected = include_str!("../../testdata/beto_ids.txt");
    let encoder = encoder(std::path::Path::new(&dir), Some(512));
    for line in expected.lines() {
        let (text, ids) = line.split_once('\t').unwrap();
        let ids: Vec<u32> = ids.split(' ').map(|id| id.parse().unwrap()).collect();
        assert_eq!(encoder.encode(text).unwrap().ids, ids, "{text}");
    }
}
