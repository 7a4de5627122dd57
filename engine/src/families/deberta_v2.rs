//! DeBERTa-v2 and v3.

use kernels::Activation;
use serde_json::Value;

use super::bert;
use super::description::{Dimensions, Family, Forward, Sizes};
use super::fields::Fields;
use super::forward_config::{Convolution, ConvolutionActivation, DebertaConfig, Relative};
use super::settings::shortened;
use crate::LoadError;
use crate::tokenizer::class::Class;

pub(super) const FAMILY: Family = Family {
    model_type: "deberta-v2",
    class_prefix: "DebertaV2",
    body_prefix: "deberta.",
    sizes: Sizes {
        vocab: 128_100,
        hidden: (&["hidden_size"], 1536),
        layers: (&["num_hidden_layers"], 24),
        heads: (&["num_attention_heads"], 24),
        intermediate: (&["intermediate_size"], 6144),
        epsilon: (&["layer_norm_eps"], 1e-7),
        ..bert::SIZES
    },
    tokenizer: Class::DebertaV2,
    fill_mask: None,
    forward,
    ..bert::FAMILY
};

fn forward(fields: &Fields<'_>, dimensions: Dimensions) -> Result<Forward, LoadError> {
    let Dimensions { hidden_size, heads, max_positions, .. } = dimensions;
    let head_size = fields.integer(&["attention_head_size"], hidden_size / heads)?;
    if head_size * heads != hidden_size {
        return Err(fields.unsupported(&format!(
            "`attention_head_size` is {head_size}, but only `hidden_size` / `num_attention_heads` is supported"
        )));
    }
    let kinds = attention_kinds(fields)?;
    let relative = Relative {
        buckets: fields.count_or_none("position_buckets")?,
        farthest: fields.count_or_none("max_relative_positions")?.unwrap_or(max_positions),
    };
    check_buckets(fields, relative, max_positions)?;
    Ok(Forward::Deberta(DebertaConfig {
        embedding_size: fields.count(&["embedding_size"], hidden_size)?,
        token_types: fields.integer(&["type_vocab_size"], 0)?,
        absolute_positions: fields.flag("position_biased_input", true)?,
        relative: fields.flag("relative_attention", false)?.then_some(relative),
        content_to_position: kinds.contains(&"c2p".to_owned()),
        position_to_content: kinds.contains(&"p2c".to_owned()),
        share_keys: fields.flag("share_att_key", false)?,
        norm_distances: norm_of_distances(fields)?,
        convolution: convolution(fields, hidden_size)?,
    }))
}

/// Refuses buckets for which the reference divides by zero.
fn check_buckets(fields: &Fields<'_>, relative: Relative, max_positions: usize) -> Result<(), LoadError> {
    let Some(buckets) = relative.buckets else { return Ok(()) };
    let middle = buckets / 2;
    if middle == 0 || (relative.farthest <= middle + 1 && max_positions > middle + 1) {
        let farthest = relative.farthest;
        return Err(fields.invalid(format!("`position_buckets` {buckets} do not fit distances of up to {farthest}")));
    }
    Ok(())
}

/// Reads `pos_att_type`: a list of names, or one string of them.
fn attention_kinds(fields: &Fields<'_>) -> Result<Vec<String>, LoadError> {
    let Some(value) = fields.get("pos_att_type") else { return Ok(Vec::new()) };
    let wrong = || {
        fields.unsupported(&format!("`pos_att_type` is {}, but only `c2p` and `p2c` are supported", shortened(value)))
    };
    let kinds: Vec<String> = match value {
        Value::String(text) => text.to_lowercase().split('|').map(|kind| kind.trim().to_owned()).collect(),
        Value::Array(names) => names
            .iter()
            .map(|name| name.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect::<Result<_, LoadError>>()?,
        _ => return Err(wrong()),
    };
    let known = |kind: &String| matches!(kind.as_str(), "c2p" | "p2c" | "");
    if kinds.iter().all(known) { Ok(kinds) } else { Err(wrong()) }
}

fn norm_of_distances(fields: &Fields<'_>) -> Result<bool, LoadError> {
    let Some(value) = fields.get("norm_rel_ebd") else { return Ok(false) };
    let text = value.as_str().unwrap_or_default().to_lowercase();
    match text.split('|').map(str::trim).collect::<Vec<_>>().as_slice() {
        ["layer_norm"] => Ok(true),
        ["none"] => Ok(false),
        _ => Err(fields.unsupported(&format!(
            "`norm_rel_ebd` is {}, but only `layer_norm` and `none` are supported",
            shortened(value)
        ))),
    }
}

fn convolution(fields: &Fields<'_>, hidden_size: usize) -> Result<Option<Convolution>, LoadError> {
    let Some(width) = fields.count_or_none("conv_kernel_size")? else { return Ok(None) };
    if width.is_multiple_of(2) {
        let problem =
            format!("`conv_kernel_size` is {width}, but a convolution of even width changes the number of tokens");
        return Err(fields.invalid(problem));
    }
    let groups = fields.count(&["conv_groups"], 1)?;
    if !hidden_size.is_multiple_of(groups) {
        return Err(fields.invalid(format!("`conv_groups` {groups} does not divide `hidden_size` {hidden_size}")));
    }
    let activation = match fields.get("conv_act").and_then(Value::as_str) {
        None | Some("tanh") => ConvolutionActivation::Tanh,
        Some(_) => ConvolutionActivation::Other(fields.activation("conv_act", Activation::GeluErf)?),
    };
    Ok(Some(Convolution { width, groups, activation }))
}
