//! Qwen3: causal, with normalised queries and keys.

use kernels::Reach;

use super::description::{Dimensions, Family, Forward, Sizes};
use super::eurobert;
use super::fields::Fields;
use super::forward_config::{DecoderConfig, DecoderPositions, Rope, RotaryAttention};
use super::layer_types::sliding_layers;
use super::llama;
use super::settings::Allowed::Flag;
use crate::LoadError;
use crate::tokenizer::class::Class;

pub(super) const FAMILY: Family = Family {
    model_type: "qwen3",
    class_prefix: "Qwen3",
    sizes: Sizes {
        vocab: 151_936,
        hidden: (&["hidden_size"], 4096),
        layers: (&["num_hidden_layers"], 32),
        heads: (&["num_attention_heads"], 32),
        intermediate: (&["intermediate_size"], 22_016),
        positions: (&["max_position_embeddings"], 32_768),
        padding: 0,
        epsilon: (&["rms_norm_eps"], 1e-6),
        ..eurobert::FAMILY.sizes
    },
    heads_divide_hidden: false,
    // Which tokens are seen then depends on the implementation of attention that transformers chooses.
    settings: &[("is_causal", &[Flag(true)])],
    tokenizer: Class::Qwen2,
    forward,
    ..eurobert::FAMILY
};

fn forward(fields: &Fields<'_>, dimensions: Dimensions) -> Result<Forward, LoadError> {
    let heads = llama::heads(fields, dimensions, (32, 128))?;
    let rope = Rope::unscaled(llama::only_theta(fields)?);
    let window = match fields.flag("use_sliding_window", false)? {
        true => Some(fields.count(&["sliding_window"], 4096)?),
        false => None,
    };
    let first_sliding = fields.integer(&["max_window_layers"], 28)?;
    let sliding = sliding_layers(fields, dimensions.layers, |layer| window.is_some() && layer >= first_sliding)?;
    let attention = |sliding: &bool| {
        let before = match (sliding, window) {
            (false, _) => usize::MAX,
            (true, Some(window)) => window - 1,
            (true, None) => {
                let what = "`layer_types` has `sliding_attention`, but `use_sliding_window` is false";
                return Err(fields.invalid(what.into()));
            }
        };
        Ok(RotaryAttention { reach: Reach { before, after: 0 }, rope })
    };
    let positions = DecoderPositions::Rotary(sliding.iter().map(attention).collect::<Result<_, _>>()?);
    Ok(Forward::Decoder(DecoderConfig {
        attention_bias: fields.flag("attention_bias", false)?,
        ..llama::config(&llama::NAMES_WITH_HEAD_NORMS, heads, positions)
    }))
}
