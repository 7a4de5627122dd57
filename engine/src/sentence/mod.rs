//! The sentence-transformers files beside a model: modules and their settings, prompts, maximum length.
//!
//! Read only if there is a `modules.json`, as in Python. Every setting is applied, or refused when the model is
//! opened.

mod modules;
mod pooling;
mod prompts;
mod settings;
mod steps;
mod transformer;

use std::path::{Path, PathBuf};

pub use prompts::Prompts;
pub(crate) use steps::{Dense, DenseActivation, LayerNorm, Step};

use modules::First;

use crate::LoadError;
use crate::config::read_json_object;
use crate::pooling::ModelPooling;

/// The sentence-transformers settings of a model directory; for a plain encoder, only the directory.
#[derive(Debug, Clone)]
pub(crate) struct SentenceModules {
    /// The directory of weights and tokenizer: the model's, or that of its first module, such as `0_Transformer`.
    pub(crate) first_dir: PathBuf,
    /// Whether that is a StaticEmbedding module and not a transformer.
    pub(crate) is_static: bool,
    /// The model's own pooling, if stated.
    pub(crate) pooling: Option<ModelPooling>,
    /// Whether the tokens of the prompt are pooled too; true by default.
    pub(crate) include_prompt: bool,
    /// The modules after pooling.
    pub(crate) steps: Vec<Step>,
    /// Maximum input in tokens.
    pub(crate) max_seq_length: Option<usize>,
    /// Whether texts are lowercased before tokenization.
    pub(crate) do_lower_case: bool,
    /// Texts that the model wants prepended.
    pub(crate) prompts: Prompts,
    /// Dimensions that the model keeps of each vector.
    pub(crate) truncate_dim: Option<usize>,
    /// The similarity that the model is trained for.
    pub(crate) similarity: Option<String>,
    /// The files read, for the digest.
    pub(crate) files: Vec<PathBuf>,
    /// The files that release 0.1 read, if it gave the same vectors; else empty.
    pub(crate) files_of_0_1: Vec<PathBuf>,
}

impl SentenceModules {
    /// Reads `modules.json` and the settings of each module, and refuses whatever would give other vectors than
    /// Python.
    pub(crate) fn read(dir: &Path) -> Result<SentenceModules, LoadError> {
        let mut read = SentenceModules {
            first_dir: dir.to_path_buf(),
            is_static: false,
            pooling: None,
            include_prompt: true,
            steps: Vec::new(),
            max_seq_length: None,
            do_lower_case: false,
            prompts: Prompts::default(),
            truncate_dim: None,
            similarity: None,
            files: Vec::new(),
            files_of_0_1: Vec::new(),
        };
        let list = dir.join("modules.json");
        if !list.is_file() {
            check_plain(dir)?;
            check_adapter(dir)?;
            return Ok(read);
        }
        let model_file = dir.join(prompts::FILE);
        if model_file.is_file() {
            let model = prompts::read(&model_file)?;
            (read.prompts, read.truncate_dim, read.similarity) = (model.prompts, model.truncate_dim, model.similarity);
            read.files.push(model_file);
        }
        let modules = modules::read(dir, &list)?;
        read.files.extend(modules.files);
        read.steps = modules.steps;
        match modules.first {
            First::Static(dir) => (read.first_dir, read.is_static) = (dir, true),
            First::Pooled { transformer, pooling } => read.add_transformer(&list, transformer, pooling)?,
        }
        Ok(read)
    }

    /// Adds the settings of Transformer and Pooling to those of the list and of the modules after pooling.
    fn add_transformer(&mut self, list: &Path, dir: PathBuf, pooling_file: PathBuf) -> Result<(), LoadError> {
        let (pooling, include_prompt) = pooling::read(&pooling_file)?;
        let transformer = transformer::read(&dir)?;
        check_adapter(&dir)?;
        check_processor(&dir)?;
        let of_0_1 = pooling.common().is_some() && self.steps.iter().all(|step| matches!(step, Step::Normalize));
        if transformer.as_0_1 && of_0_1 {
            self.files_of_0_1 = vec![list.into(), pooling_file.clone()];
            self.files_of_0_1.extend(transformer::first_file(&dir));
        }
        self.files.push(pooling_file);
        self.files.extend(transformer.file);
        self.first_dir = dir;
        (self.pooling, self.include_prompt) = (Some(pooling), include_prompt);
        (self.max_seq_length, self.do_lower_case) = (transformer.max_seq_length, transformer.do_lower_case);
        Ok(())
    }

    /// Returns the components of a vector after all modules, given those of a pooled one.
    pub(crate) fn dimensions(&self, pooled: usize) -> Result<usize, LoadError> {
        self.steps.iter().try_fold(pooled, |width, step| step.output_width(width))
    }

    /// Describes each module; none for a plain encoder.
    pub(crate) fn describe(&self) -> Vec<String> {
        let first = match (&self.pooling, self.is_static) {
            (_, true) => vec!["StaticEmbedding".to_owned()],
            (Some(pooling), false) => vec!["Transformer".to_owned(), format!("Pooling ({pooling})")],
            (None, false) => return Vec::new(),
        };
        first.into_iter().chain(self.steps.iter().map(Step::to_string)).collect()
    }
}

/// Refuses parts of a sentence-transformers model without `modules.json`, whose pooling would be ignored.
fn check_plain(dir: &Path) -> Result<(), LoadError> {
    if !dir.join("1_Pooling").join("config.json").is_file() {
        return Ok(());
    }
    let missing = "it has `1_Pooling/config.json` but no `modules.json`, without which sentence-transformers does not \
                   read it: copy `modules.json` too, or remove `1_Pooling`";
    Err(LoadError::Missing { dir: dir.into(), missing: missing.into() })
}

/// Refuses adapter weights.
fn check_adapter(dir: &Path) -> Result<(), LoadError> {
    let path = dir.join("adapter_config.json");
    if !path.is_file() {
        return Ok(());
    }
    let what = format!(
        "`{}` is there, so the model is an adapter (PEFT), which is not applied here: merge it into its base model and \
         save that",
        path.display()
    );
    Err(LoadError::Unsupported { what })
}

/// Refuses multimodal processors, which sentence-transformers would load instead of the tokenizer.
fn check_processor(dir: &Path) -> Result<(), LoadError> {
    for name in ["processor_config.json", "preprocessor_config.json", "tokenizer_config.json"] {
        let path = dir.join(name);
        if !path.is_file() {
            continue;
        }
        if let Some(class) = read_json_object(&path)?.get("processor_class").filter(|class| !class.is_null()) {
            return Err(settings::refused(&path, "processor_class", class, "and only tokenizers are read"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pooling;

    const PLAIN_MODULES: &str = r#"[
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]"#;
    const MEAN: &str = r#"{"word_embedding_dimension": 8, "pooling_mode_mean_tokens": true}"#;

    fn read(files: &[(&str, &str)]) -> Result<SentenceModules, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        SentenceModules::read(dir.path()).map_err(|error| error.to_string())
    }

    /// Reads a plain model with one more file.
    fn with(file: &str, content: &str) -> Result<SentenceModules, String> {
        read(&[("modules.json", PLAIN_MODULES), ("1_Pooling/config.json", MEAN), (file, content)])
    }

    fn with_modules(modules: &str) -> Result<SentenceModules, String> {
        read(&[("modules.json", modules), ("1_Pooling/config.json", MEAN)])
    }

    fn pooling_of(config: &str) -> Result<String, String> {
        let config = config.replacen('{', r#"{"embedding_dimension": 8, "#, 1).replace(", }", "}");
        with("1_Pooling/config.json", &config).map(|modules| modules.pooling.unwrap().to_string())
    }

    #[test]
    fn a_plain_encoder_has_no_settings() {
        let modules = read(&[("sentence_bert_config.json", r#"{"max_seq_length": 8, "new": 1}"#)]).unwrap();
        assert_eq!((modules.pooling, modules.max_seq_length, modules.include_prompt), (None, None, true));
        assert_eq!((modules.steps.len(), modules.is_static), (0, false));
        assert!(modules.files.is_empty());
    }

    #[test]
    fn pooling_is_read_from_old_and_new_keys() {
        let flags = r#"{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#;
        assert_eq!(pooling_of(flags), Ok("mean".to_owned()));
        assert_eq!(pooling_of(r#"{"pooling_mode_cls_token": true}"#), Ok("cls".to_owned()));
        assert_eq!(pooling_of(r#"{"pooling_mode_max_tokens": true}"#), Ok("max".to_owned()));
        assert_eq!(pooling_of(r#"{"pooling_mode": "lasttoken"}"#), Ok("last".to_owned()));
        assert_eq!(pooling_of(r#"{"pooling_mode": ["cls"]}"#), Ok("cls".to_owned()));
        assert_eq!(pooling_of(r#"{"pooling_mode": "cls", "pooling_mode_mean_tokens": true}"#), Ok("cls".to_owned()));
        assert_eq!(pooling_of("{}"), Ok("mean".to_owned()));
    }

    #[test]
    fn several_poolings_are_joined_in_pythons_order() {
        assert_eq!(pooling_of(r#"{"pooling_mode": "weightedmean"}"#), Ok("weightedmean".to_owned()));
        let flags = r#"{"pooling_mode_mean_sqrt_len_tokens": true, "pooling_mode_max_tokens": true,
            "pooling_mode_cls_token": true}"#;
        assert_eq!(pooling_of(flags), Ok("cls+max+mean_sqrt_len_tokens".to_owned()));
        let listed = r#"{"pooling_mode": ["mean", "cls"], "pooling_mode_max_tokens": true}"#;
        assert_eq!(pooling_of(listed), Ok("mean+cls".to_owned()));
    }

    #[test]
    fn unsupported_poolings_are_refused_by_name() {
        for unknown in [r#"{"pooling_mode": "median"}"#, r#"{"pooling_mode": ["mean", "median"]}"#] {
            let error = pooling_of(unknown).unwrap_err();
            assert!(error.contains("sets `pooling_mode` to") && error.contains("cls, max, mean, mean_sqrt"), "{error}");
        }
        assert!(pooling_of(r#"{"pooling_mode": []}"#).unwrap_err().contains("`pooling_mode` is `[]`"));
        assert!(pooling_of(r#"{"include_prompt": null}"#).unwrap_err().contains("`include_prompt` is `null`"));
        assert!(
            pooling_of(r#"{"pooling_mode_median": true}"#).unwrap_err().contains("`pooling_mode_median` to `true`")
        );
    }

    #[test]
    fn a_pooling_module_without_its_config_is_refused() {
        let error = read(&[("modules.json", PLAIN_MODULES)]).unwrap_err();
        assert!(error.contains("1_Pooling/config.json`: it is missing"), "{error}");
        let error = with("1_Pooling/config.json", r#"{"pooling_mode": "mean"}"#).unwrap_err();
        assert!(error.contains("`word_embedding_dimension` is there"), "{error}");
        let error = read(&[("1_Pooling/config.json", MEAN)]).unwrap_err();
        assert!(error.contains("no `modules.json`"), "{error}");
    }

    #[test]
    fn modules_are_found_by_the_names_of_every_release() {
        let newest = PLAIN_MODULES
            .replace("models.Transformer", "base.modules.transformer.Transformer")
            .replace("models.Pooling", "sentence_transformer.modules.pooling.Pooling")
            .replace("models.Normalize", "base.modules.normalize.Normalize");
        let read = with_modules(&newest).unwrap();
        assert_eq!(read.describe(), ["Transformer", "Pooling (mean)", "Normalize"]);
        let dropout = with_modules(&PLAIN_MODULES.replace("models.Normalize", "models.Dropout")).unwrap();
        assert_eq!(dropout.describe(), ["Transformer", "Pooling (mean)"]);
    }

    #[test]
    fn unsupported_modules_are_refused_by_name() {
        let replaced = |from: &str, to: &str| with_modules(&PLAIN_MODULES.replace(from, to)).unwrap_err();
        assert!(replaced("models.Normalize", "models.LSTM").contains("`LSTM` module"));
        assert!(replaced("models.Normalize", "models.StaticEmbedding").contains("before any Dense"));
        assert!(replaced("models.Normalize", "models.Pooling").contains("before any Dense"));
        let error = replaced("sentence_transformers.models.Transformer", "custom_st.Transformer");
        assert!(error.contains("`custom_st.Transformer`, which is code of the model's own"), "{error}");
        assert!(replaced("sentence_transformers.models.Pooling", "custom.Pooling").contains("code of the model's own"));
    }

    #[test]
    fn module_lists_without_a_vector_per_text_are_refused() {
        let first = PLAIN_MODULES.lines().nth(1).unwrap().trim_end_matches(',');
        assert!(with_modules(&format!("[{first}]")).unwrap_err().contains("it names no Pooling module"));
        assert!(with_modules("[]").unwrap_err().contains("it names no modules"));
        assert!(with_modules("{}").unwrap_err().contains("not a list of modules"));
        let swapped = PLAIN_MODULES.replace("models.Pooling", "models.P").replace("models.Normalize", "models.Pooling");
        assert!(
            with_modules(&swapped.replace("models.P\"", "models.Normalize\"")).unwrap_err().contains("one Transformer")
        );
        let error = with_modules(&PLAIN_MODULES.replace("\"name\": \"1\"", "\"name\": \"0\"")).unwrap_err();
        assert!(error.contains("two modules have the name `0`"), "{error}");
        let error = with_modules(&PLAIN_MODULES.replace("1_Pooling", "../1_Pooling")).unwrap_err();
        assert!(error.contains("leads out of the model's directory"), "{error}");
        let error = with_modules(&PLAIN_MODULES.replace(r#""path": "", "#, "")).unwrap_err();
        assert!(error.contains("module 0 has no `path`"), "{error}");
    }

    #[test]
    fn a_dense_module_without_its_files_is_refused() {
        let dense = |files: &[(&str, &str)]| {
            let modules = PLAIN_MODULES.replace("models.Normalize", "models.Dense").replace("2_Normalize", "2_Dense");
            let list = ("modules.json", modules.as_str());
            read(&[&[list, ("1_Pooling/config.json", MEAN)], files].concat()).unwrap_err()
        };
        let config = "2_Dense/config.json";
        assert!(dense(&[]).contains("2_Dense/config.json`: it is missing"));
        assert!(dense(&[(config, r#"{"in_features": 8}"#)]).contains("`out_features` is missing"));
        let whole = r#"{"in_features": 8, "out_features": 4, "#;
        let with = |more: &str| dense(&[(config, &format!("{whole}{more}}}"))]);
        assert!(with(r#""bias": true"#).contains("neither `model.safetensors` nor `pytorch_model.bin`"));
        for (setting, named) in [
            (r#""activation_function": "torch.nn.modules.activation.Mish""#, "`torch.nn.modules.activation.Mish`"),
            (r#""activation_function": "custom.Tanh""#, "`activation_function` to `custom.Tanh`"),
            (r#""activation_function": null"#, "`activation_function` is `null`"),
            (r#""use_residual": true"#, "`use_residual` to `true`"),
            (r#""module_input_name": "token_embeddings""#, "`module_input_name` to `token_embeddings`"),
            (r#""module_output_name": "other""#, "`module_output_name` to `other`"),
            (r#""new": 1"#, "`new` to `1`"),
        ] {
            let error = with(setting);
            assert!(error.contains(named) && error.contains(config), "{setting}: {error}");
        }
    }

    #[test]
    fn normalize_of_token_vectors_is_refused() {
        let error = with("2_Normalize/config.json", r#"{"module_input_name": "token_embeddings"}"#).unwrap_err();
        assert!(error.contains("2_Normalize/config.json` sets `module_input_name` to `token_embeddings`"), "{error}");
        let written = r#"{"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}"#;
        assert_eq!(with("2_Normalize/config.json", written).unwrap().files.len(), 3);
    }

    #[test]
    fn the_prompt_flag_and_the_length_are_read() {
        let modules = read(&[
            ("modules.json", PLAIN_MODULES),
            ("1_Pooling/config.json", r#"{"embedding_dimension": 8, "pooling_mode": "mean", "include_prompt": false}"#),
            ("sentence_bert_config.json", r#"{"max_seq_length": 256, "do_lower_case": true}"#),
        ]);
        let modules = modules.unwrap();
        assert!(!modules.include_prompt && modules.do_lower_case);
        assert_eq!((modules.max_seq_length, modules.files.len()), (Some(256), 3));
        assert_eq!(modules.files_of_0_1.len(), 3);
    }

    #[test]
    fn the_maximum_length_is_the_one_python_uses() {
        let length = |config: &str| with("sentence_bert_config.json", config).map(|modules| modules.max_seq_length);
        assert_eq!(length(r#"{"max_seq_length": null}"#), Ok(None));
        let loaded = r#"{"max_seq_length": 256, "processor_kwargs": {"model_max_length": 32}}"#;
        assert_eq!(length(loaded), Ok(Some(32)));
        let called = r#"{"max_seq_length": 256, "processing_kwargs": {"text": {"max_length": 16}}}"#;
        assert_eq!(length(called), Ok(Some(16)));
        assert!(with("sentence_bert_config.json", called).unwrap().files_of_0_1.is_empty());
        assert!(length(r#"{"max_seq_length": "64"}"#).unwrap_err().contains("`max_seq_length` is `64`"));
        let older = with("sentence_roberta_config.json", r#"{"max_seq_length": 64}"#).unwrap();
        assert_eq!(older.max_seq_length, Some(64));
        let empty = read(&[
            ("modules.json", PLAIN_MODULES),
            ("1_Pooling/config.json", MEAN),
            ("sentence_bert_config.json", "{}"),
            ("sentence_xlnet_config.json", r#"{"max_seq_length": 32}"#),
        ]);
        assert_eq!(empty.unwrap().max_seq_length, Some(32));
    }

    #[test]
    fn files_of_sentence_transformers_6_are_read() {
        let written = r#"{"transformer_task": "feature-extraction", "module_output_name": "token_embeddings",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}}"#;
        assert_eq!(with("sentence_bert_config.json", written).unwrap().pooling.unwrap(), Pooling::Mean);
    }

    #[test]
    fn unsupported_transformer_settings_are_refused_with_key_and_value() {
        for (config, named) in [
            (r#"{"config_args": {"num_hidden_layers": 2}}"#, "`config_args.num_hidden_layers` to `2`"),
            (r#"{"config_kwargs": {"hidden_act": "relu"}}"#, "`config_kwargs.hidden_act` to `relu`"),
            (r#"{"tokenizer_args": {"do_lower_case": true}}"#, "`tokenizer_args.do_lower_case` to `true`"),
            (r#"{"tokenizer_kwargs": {}}"#, "`tokenizer_kwargs` to `{}`, a setting that is not known here"),
            (r#"{"model_kwargs": {"dtype": "bfloat16"}}"#, "`model_kwargs.dtype` to `bfloat16`"),
            (
                r#"{"processing_kwargs": {"text": {"add_special_tokens": false}}}"#,
                "`processing_kwargs.text.add_special_",
            ),
            (r#"{"transformer_task": "fill-mask"}"#, "`transformer_task` to `fill-mask`"),
            (r#"{"modality_config": {"image": {}}}"#, "which takes no texts"),
            (r#"{"query_expansion": {"length": 32}}"#, "`query_expansion`"),
            (r#"{"config_args": null}"#, "`config_args` is `null` and not an object"),
        ] {
            let error = with("sentence_bert_config.json", config).unwrap_err();
            assert!(error.contains(named) && error.contains("sentence_bert_config.json"), "{config}: {error}");
        }
        let pooler = r#"{"modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}},
            "module_output_name": "token_embeddings"}"#;
        let error = with("sentence_bert_config.json", pooler).unwrap_err();
        assert!(error.contains("`modality_config.text.method_output_name` to `pooler_output`"), "{error}");
    }

    #[test]
    fn prompts_are_read_and_an_empty_default_is_none() {
        let config = |json: &str| with("config_sentence_transformers.json", json);
        let read = config(
            r#"{"prompts": {"query": "q: ", "doc": null}, "default_prompt_name": "query",
            "similarity_fn_name": "dot", "truncate_dim": 4, "__version__": {"pytorch": "2"}, "new": null}"#,
        )
        .unwrap();
        assert_eq!(read.prompts.by_default(), Some(("query", "q: ")));
        assert_eq!(read.prompts.by_name["doc"], "");
        assert_eq!((read.truncate_dim, read.similarity.as_deref()), (Some(4), Some("dot")));
        assert_eq!((read.files.len(), read.files_of_0_1.len()), (3, 2));
        let empty = config(r#"{"default_prompt_name": "document", "similarity_fn_name": null}"#).unwrap();
        assert_eq!((empty.prompts.by_default(), empty.similarity), (None, None));
    }

    #[test]
    fn invalid_model_settings_are_refused() {
        for (config, named) in [
            (r#"{"prompts": {"a": "x"}, "default_prompt_name": "b"}"#, "`b` and not one of the prompts (a)"),
            (r#"{"prompts": null}"#, "`prompts` is `null`"),
            (r#"{"prompts": {"a": 1}}"#, "`prompts.a` is `1` and not a text"),
            (r#"{"truncate_dim": 0}"#, "`truncate_dim` is `0`"),
            (r#"{"model_type": "SparseEncoder"}"#, "`model_type` to `SparseEncoder`"),
            (r#"{"new": 1}"#, "`new` to `1`, a setting that is not known here"),
        ] {
            let error = with("config_sentence_transformers.json", config).unwrap_err();
            assert!(error.contains(named) && error.contains("config_sentence_transformers.json"), "{config}: {error}");
        }
    }

    #[test]
    fn an_adapter_is_refused() {
        assert!(with("adapter_config.json", "{}").unwrap_err().contains("adapter_config.json` is there"));
        assert!(read(&[("adapter_config.json", "{}")]).unwrap_err().contains("adapter (PEFT)"));
    }

    #[test]
    fn a_multimodal_processor_is_refused() {
        let class = r#"{"processor_class": "CLIPProcessor"}"#;
        for file in ["processor_config.json", "preprocessor_config.json", "tokenizer_config.json"] {
            let error = with(file, class).unwrap_err();
            assert!(error.contains(file) && error.contains("`processor_class` to `CLIPProcessor`"), "{error}");
        }
        assert!(with("tokenizer_config.json", r#"{"processor_class": null}"#).is_ok());
    }

    #[test]
    fn older_models_have_their_transformer_in_a_folder() {
        let modules = PLAIN_MODULES.replace(r#""path": "", "#, r#""path": "0_Transformer", "#);
        let read = with_modules(&modules).unwrap();
        assert!(read.first_dir.ends_with("0_Transformer"));
    }
}
