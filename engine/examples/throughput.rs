//! Measures texts and tokens per second on a file with one text per line.
//!
//! ```text
//! cargo run --release -p engine --example throughput -- MODEL_DIR TEXTS.txt [THREADS] [cls|mean|max|last] [f32|bf16|int8]
//! ```
//!
//! Includes tokenizing, excludes loading. Prints `texts/s`, `tokens/s`, and the share of tokenizing.
#![allow(clippy::print_stdout, reason = "an example reports on stdout")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use engine::{Batch, ComputeDtype, Engine, EngineOptions, ModelDir, TextEncoder, pack};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, texts, rest @ ..] = arguments.as_slice() else {
        return Err("usage: throughput MODEL_DIR TEXTS.txt [THREADS] [POOLING] [DTYPE]".into());
    };
    let threads: usize = rest.first().map_or(Ok(2), |threads| threads.parse())?;
    let pooling = rest.get(1).map(|pooling| pooling.parse()).transpose()?;
    let dtype = rest.get(2).map_or(Ok(ComputeDtype::F32), |dtype| dtype.parse())?;
    let model = ModelDir::open(Path::new(model))?;
    let engine = Engine::load(&model, &EngineOptions { pooling, dtype, ..EngineOptions::default() })?;
    let encoder = TextEncoder::load(&model, None, "")?;
    let texts = std::fs::read_to_string(texts)?;
    let texts: Vec<&str> = texts.lines().filter(|line| !line.is_empty()).collect();
    let budget = match std::env::var("BATCH_TOKENS") {
        Ok(tokens) => tokens.parse()?,
        Err(_) => engine.default_batch_tokens(),
    };

    let start = Instant::now();
    let rows: Vec<Vec<u32>> =
        texts.iter().map(|text| encoder.encode(text).map(|encoded| encoded.ids)).collect::<Result<_, _>>()?;
    let tokenized = start.elapsed();
    let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
    let batches: Vec<Batch> =
        pack(&lengths, budget).iter().map(|indices| indices.iter().map(|&index| &rows[index]).collect()).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    engine.embed(batch).expect("the encoder and the engine are of the same model");
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let tokens: usize = lengths.iter().sum();
    println!(
        "{:.1} texts/s, {:.0} tokens/s: {} texts, {tokens} tokens, {threads} threads, {} pooling, {:.1}% tokenizing",
        rows.len() as f64 / seconds,
        tokens as f64 / seconds,
        rows.len(),
        engine.pooling(),
        100.0 * tokenized.as_secs_f64() / seconds,
    );
    Ok(())
}
