//! `MPNet`: RoBERTa's positions, and a bias of attention by the distance between tokens.

use super::bert;
use super::description::{BertConfig, BertNames, Dimensions, DistanceBuckets, Family, Forward, Positions, Sizes};
use super::fields::Fields;
use super::roberta;
use crate::LoadError;
use crate::tokenizer::class::Class;

pub(super) const FAMILY: Family = Family {
    model_type: "mpnet",
    class_prefix: "MPNet",
    body_prefix: "mpnet.",
    sizes: Sizes { vocab: 30527, padding: PADDING, ..bert::SIZES },
    // transformers reads neither `position_embedding_type` nor, for positions, `pad_token_id`.
    settings: &[],
    positions: Positions::After(PADDING),
    tokenizer: Class::MpNet,
    fill_mask: Some(roberta::HEAD),
    forward,
    ..bert::FAMILY
};

const PADDING: u32 = 1;

const NAMES: BertNames = BertNames {
    layers: "encoder.layer",
    qkv: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
    attention_out: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "output.LayerNorm",
};

/// Buckets that transformers uses, whatever the table has.
const BUCKETS: usize = 32;

fn forward(fields: &Fields<'_>, _: Dimensions) -> Result<Forward, LoadError> {
    let name = "relative_attention_num_buckets";
    let rows = fields.count(&[name], BUCKETS)?;
    if rows < BUCKETS {
        return Err(fields.invalid(format!("`{name}` is {rows}, but transformers reads {BUCKETS} of them")));
    }
    let table = "encoder.relative_attention_bias.weight";
    let distances = DistanceBuckets { table, rows, count: BUCKETS, farthest: 128 };
    Ok(Forward::Bert(BertConfig { names: &NAMES, token_types: 0, distances: Some(distances), ..bert::DEFAULTS }))
}
