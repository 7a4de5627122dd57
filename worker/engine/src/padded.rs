//! The encoders that candle-transformers brings: correct, padded to the longest text of a batch, and slower.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{debertav2, modernbert, nomic_bert};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::config::{Architecture, Config};
use crate::weights::Weights;
use crate::{Batch, LoadError};

/// The tensor by which the prefix of a ModernBERT file's names is found.
pub(crate) const MODERN_BERT_ANCHOR: &str = "embeddings.tok_embeddings.weight";

thread_local! {
    /// Candle spreads its loops over the rayon pool that it finds itself in. One forward per core is faster, and
    /// callers that share a pool would wait for each other, so each calling thread brings a pool of one.
    static LONE_THREAD: rayon::ThreadPool =
        rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a process can start one more thread");
}

/// A model of candle-transformers.
pub(crate) enum PaddedModel {
    ModernBert(Box<modernbert::ModernBert>),
    NomicBert(Box<nomic_bert::NomicBertModel>),
    DebertaV2(Box<debertav2::DebertaV2Model>),
}

impl PaddedModel {
    /// Reads the weights of an architecture that is not native.
    pub(crate) fn load(config: &Config, weights: Weights) -> std::result::Result<PaddedModel, LoadError> {
        let placed =
            |source: candle_core::Error| LoadError::Device { path: config.path.clone(), source: Box::new(source) };
        let builder = VarBuilder::from_backend(Box::new(weights), DType::F32, Device::Cpu);
        match config.architecture {
            Architecture::ModernBert => {
                // The reader asks for the names that the body has under a language model's head; the prefix that the
                // file really uses has been found already.
                let builder = builder.rename_f(|name| name.strip_prefix("model.").unwrap_or(name).to_string());
                let read = modernbert::ModernBert::load(builder, &own_config(config)?);
                read.map(Box::new).map(PaddedModel::ModernBert).map_err(placed)
            }
            Architecture::NomicBert => {
                let read = nomic_bert::NomicBertModel::load(builder, &nomic_config(config)?);
                read.map(Box::new).map(PaddedModel::NomicBert).map_err(placed)
            }
            Architecture::DebertaV2 => {
                let read = debertav2::DebertaV2Model::load(builder, &own_config(config)?);
                read.map(Box::new).map(PaddedModel::DebertaV2).map_err(placed)
            }
            Architecture::Bert
            | Architecture::Roberta
            | Architecture::XlmRoberta
            | Architecture::Camembert
            | Architecture::DistilBert => unreachable!("native architectures have their own forward pass"),
        }
    }

    /// Returns the token vectors of the last layer, packed as the batch is.
    pub(crate) fn forward(&self, batch: &Batch) -> Result<Vec<f32>> {
        LONE_THREAD.with(|pool| pool.install(|| self.forward_here(batch)))
    }

    fn forward_here(&self, batch: &Batch) -> Result<Vec<f32>> {
        let longest = (0..batch.rows()).map(|row| batch.row(row).len()).max().unwrap_or(0);
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for row in 0..batch.rows() {
            let row = batch.row(row);
            ids.extend(row.iter().copied().chain(std::iter::repeat_n(0, longest - row.len())));
            mask.extend((0..longest).map(|index| u32::from(index < row.len())));
        }
        let shape = (batch.rows(), longest);
        let ids = Tensor::from_vec(ids, shape, &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
        let hidden = match self {
            PaddedModel::ModernBert(model) => model.forward(&ids, &mask)?,
            PaddedModel::NomicBert(model) => model.forward(&ids, None, Some(&mask))?,
            PaddedModel::DebertaV2(model) => model.forward(&ids, None, Some(mask))?,
        };
        let width = hidden.dim(2)?;
        let padded: Vec<f32> = hidden.contiguous()?.flatten_all()?.to_vec1()?;
        let mut packed = Vec::with_capacity(batch.tokens() * width);
        for (row, vectors) in padded.chunks_exact(longest * width).enumerate() {
            packed.extend_from_slice(&vectors[..batch.row(row).len() * width]);
        }
        Ok(packed)
    }
}

/// Reads the config once more, into the type that candle-transformers has for it.
fn own_config<C: DeserializeOwned>(config: &Config) -> std::result::Result<C, LoadError> {
    read_as(config, config.raw.clone())
}

/// NomicBERT's fields have two sets of names: those of the model's authors, which candle-transformers reads, and those
/// of transformers.
fn nomic_config(config: &Config) -> std::result::Result<nomic_bert::Config, LoadError> {
    let mut fields = config.raw.clone();
    fields.insert("n_embd".into(), config.hidden_size.into());
    fields.insert("n_layer".into(), config.layers.into());
    fields.insert("n_head".into(), config.heads.into());
    fields.insert("n_inner".into(), config.intermediate.into());
    fields.insert("n_positions".into(), config.max_positions.into());
    fields.insert("layer_norm_epsilon".into(), config.layer_norm_eps.into());
    if let Some(theta) = config.raw.get("rope_parameters").and_then(|rope| rope.get("rope_theta")) {
        fields.insert("rotary_emb_base".into(), theta.clone());
    }
    read_as(config, fields)
}

fn read_as<C: DeserializeOwned>(config: &Config, fields: Map<String, Value>) -> std::result::Result<C, LoadError> {
    serde_json::from_value(Value::Object(fields)).map_err(|error| LoadError::Invalid {
        path: config.path.clone(),
        problem: format!("not a config of `{}`: {error}", config.architecture.model_type()),
    })
}
