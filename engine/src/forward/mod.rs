//! The forward passes, each shared by the families that compute the same.

pub(crate) mod bert;
pub(crate) mod deberta;
pub(crate) mod decoder;
mod distances;
mod layers;
mod positions;
pub(crate) mod rotary;
mod rotation;
