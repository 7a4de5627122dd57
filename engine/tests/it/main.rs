//! Whole-crate tests on tiny models in the layouts of real repositories, and on the real MiniLM.
//!
//! `scripts/make_tiny_models.py` makes the models and, with `transformers`, the goldens.

#![allow(clippy::unwrap_used, reason = "in a test, an error is a failure")]

mod common;

mod goldens;
mod layouts;
mod masks;
mod parity;
mod settings;
mod tokens;
mod weights;
