//! Whole-crate tests on tiny models in the layouts of real repositories, made with goldens by
//! `scripts/make_tiny_models.py`, and on the real MiniLM.

#![allow(clippy::unwrap_used, reason = "in a test, an error is a failure")]

mod checkpoint;
mod common;

mod goldens;
mod layouts;
mod masks;
mod modules;
mod parity;
mod settings;
mod tokens;
mod weights;
