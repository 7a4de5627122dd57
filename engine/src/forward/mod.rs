//! The forward passes, each shared by the families that compute the same.

pub(crate) mod bert;
pub(crate) mod deberta;
pub(crate) mod decoder;
mod distances;
pub(crate) mod kept_tokens;
mod layers;
pub(crate) mod positions;
pub(crate) mod pre_norm;
pub(crate) mod rotary;
pub(crate) mod rotation;
