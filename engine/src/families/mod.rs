//! The families of models.

pub(crate) mod deberta_v2;
pub(crate) mod fields;
pub(crate) mod rotary;
pub(crate) mod settings;
