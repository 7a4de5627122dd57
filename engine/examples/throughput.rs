//! Measures texts and tokens per second on a file with one text per line.
//!
//! ```text
//! cargo run --release -p engine --example throughput -- MODEL_DIR TEXTS.txt [cls|mean|max|last|auto] [f32|bf16|int8]
//! ```
//!
//! Tokenizes and computes on all cores that the process may use. Loading is excluded.
#![allow(clippy::print_stdout, reason = "an example reports on stdout")]

use std::path::Path;
use std::time::Instant;

use engine::{ComputeDtype, Embedder, EngineOptions, ModelDir};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, texts, rest @ ..] = arguments.as_slice() else {
        return Err("usage: throughput MODEL_DIR TEXTS.txt [POOLING] [DTYPE]".into());
    };
    let pooling = rest.first().filter(|pooling| *pooling != "auto").map(|pooling| pooling.parse()).transpose()?;
    let dtype = rest.get(1).map_or(Ok(ComputeDtype::F32), |dtype| dtype.parse())?;
    let model = ModelDir::open(Path::new(model))?;
    let embedder = Embedder::load(&model, &EngineOptions { pooling, dtype, ..EngineOptions::default() }, None, "")?;
    let texts = std::fs::read_to_string(texts)?;
    let texts: Vec<&str> = texts.lines().filter(|line| !line.is_empty()).collect();
    let start = Instant::now();
    embedder.embed_texts(&texts)?;
    let seconds = start.elapsed().as_secs_f64();
    let mut tokens = 0;
    for text in &texts {
        tokens += embedder.encoder().encode(text)?.ids.len();
    }
    println!(
        "{:.1} texts/s, {:.0} tokens/s: {} texts, {tokens} tokens, {} pooling",
        texts.len() as f64 / seconds,
        tokens as f64 / seconds,
        texts.len(),
        embedder.engine().pooling(),
    );
    Ok(())
}
