//! Compares every operation of a [`Backend`](crate::backend::Backend) with the reference, at awkward sizes: around tile bounds, a single token,
//! rows that are no multiple of anything.

use std::slice::from_ref;

use kernels::{Activation, Heads};

use super::probe::Probe;
use super::reference::{self, TestRng};
use super::{Effort, Finding};
use crate::forward::kept_tokens::KeptTokens;
use crate::{Batch, ComputeDtype};

/// The allowed error, relative to the largest number of the reference.
pub(crate) fn bound(dtype: ComputeDtype) -> f64 {
    match dtype {
        ComputeDtype::F32 => 2e-5,
        ComputeDtype::F16 => 4e-3,
        ComputeDtype::Bf16 => 3e-2,
        ComputeDtype::Int8 => 8e-2,
    }
}

pub(crate) struct Checks<'a, B: Probe> {
    pub(crate) backend: &'a B,
    pub(crate) dtype: ComputeDtype,
    pub(crate) effort: Effort,
    pub(crate) report: &'a mut dyn FnMut(Finding),
}

/// The largest error of several comparisons.
#[derive(Default)]
pub(super) struct MaxError {
    error: f64,
    compared: usize,
    at: String,
}

impl MaxError {
    pub(super) fn compare(&mut self, found: &[f32], expected: &[f64], at: impl FnOnce() -> String) {
        assert_eq!(found.len(), expected.len(), "a result has the size of its reference");
        let largest = expected.iter().fold(f64::MIN_POSITIVE, |most, x| most.max(x.abs()));
        let error = found.iter().zip(expected).map(|(found, expected)| {
            let error = (f64::from(*found) - expected).abs() / largest;
            if error.is_nan() { f64::INFINITY } else { error }
        });
        let error = error.fold(0.0, f64::max);
        self.compared += found.len();
        if error >= self.error {
            (self.error, self.at) = (error, at());
        }
    }
}

fn widened(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|x| f64::from(*x)).collect()
}

pub(super) fn batch_of(lengths: &[usize]) -> Batch {
    lengths.iter().map(|&length| vec![0; length]).collect()
}

/// A batch for operations that do not depend on it.
pub(super) fn dummy_batch() -> Batch {
    batch_of(&[1])
}

pub(super) const DUMMY_HEADS: Heads = Heads { count: 1, size: 32 };

impl<B: Probe> Checks<'_, B> {
    /// Runs and reports all checks. Only a lost device ends them early; other errors are findings.
    pub(crate) fn run(&mut self) -> Result<(), B::Error> {
        self.attempt("embeddings and their normalisation", Self::embed)?;
        self.attempt("linear layers with bias", Self::project)?;
        self.attempt("linear layer, residual and normalisation", Self::add_norm)?;
        for activation in [Activation::GeluErf, Activation::GeluTanh, Activation::Relu, Activation::Silu] {
            self.attempt(&format!("feed-forward with {activation:?}"), |checks| checks.feed_forward(activation))?;
        }
        let sizes: &[(usize, usize)] = match self.effort {
            Effort::Whole => &[(3, 8), (2, 12), (2, 16), (12, 32), (12, 64), (2, 80), (2, 96), (16, 128), (1, 256)],
            Effort::Short => &[(2, 12), (3, 32), (2, 64), (1, 96), (1, 128)],
        };
        for &(count, size) in sizes {
            let name = format!("attention with {count} heads of {size}");
            self.attempt(&name, |checks| checks.attention(Heads { count, size }))?;
        }
        for (count, size) in [(3, 8), (2, 12), (2, 32), (1, 64), (1, 96), (1, 128)] {
            let name = format!("contexts with {count} heads of {size}");
            self.attempt(&name, |checks| checks.contexts(Heads { count, size }, false))?;
        }
        for (count, size) in [(2, 12), (2, 32), (3, 64)] {
            let name = format!("contexts by distance with {count} heads of {size}");
            self.attempt(&name, |checks| checks.contexts(Heads { count, size }, true))?;
        }
        Ok(())
    }

    pub(super) fn attempt(
        &mut self,
        name: &str,
        check: impl FnOnce(&mut Self) -> Result<(), B::Error>,
    ) -> Result<(), B::Error> {
        match check(self) {
            Err(error) if !B::is_lost(&error) => {
                let (name, detail) = (format!("{name}, {}", self.dtype), error.to_string());
                (self.report)(Finding::Check { name, detail, error: f64::INFINITY, bound: bound(self.dtype) });
                Ok(())
            }
            checked => checked,
        }
    }

    pub(super) fn report(&mut self, name: String, worst: MaxError) {
        let MaxError { error, compared, at } = worst;
        let (bound, dtype) = (bound(self.dtype), self.dtype);
        let detail = format!("{compared} numbers, worst at {at}");
        (self.report)(Finding::Check { name: format!("{name}, {dtype}"), detail, error, bound });
    }

    fn embed(&mut self) -> Result<(), B::Error> {
        let (mut worst, mut rng) = (MaxError::default(), TestRng::new(1));
        for (width, tokens) in [(32, 1), (64, 5), (100, 7), (384, 9), (768, 4), (1024, 3), (1096, 2), (2048, 5)] {
            let (entries, places) = (11, 6);
            let words = self.backend.rounded(&rng.numbers(entries * width, 1.0));
            let positions = self.backend.rounded(&rng.numbers(places * width, 0.5));
            let (weight, shift) = (rng.numbers(width, 1.0), rng.numbers(width, 0.3));
            let ids: Vec<(u32, u32)> =
                (0..tokens).map(|_| (rng.below(entries) as u32, rng.below(places) as u32)).collect();
            let backend = self.backend.for_batch(&batch_of(&[tokens]), DUMMY_HEADS)?;
            let rows = backend.embed(
                &backend.table(words.clone(), width)?,
                &backend.table(positions.clone(), width)?,
                &backend.norm(weight.clone(), shift.clone(), 1e-12)?,
                &ids,
            )?;
            let sums: Vec<f64> = ids
                .iter()
                .flat_map(|&(id, place)| {
                    let (word, position) = (&words[id as usize * width..], &positions[place as usize * width..]);
                    word[..width].iter().zip(position).map(|(a, b)| f64::from(*a) + f64::from(*b)).collect::<Vec<_>>()
                })
                .collect();
            let expected = reference::norm(&sums, &weight, &shift, 1e-12);
            worst.compare(&backend.read(&rows)?, &expected, || format!("{tokens} tokens of {width}"));
        }
        self.report("embeddings and their normalisation".to_owned(), worst);
        Ok(())
    }

    fn project(&mut self) -> Result<(), B::Error> {
        let (mut worst, mut rng) = (MaxError::default(), TestRng::new(2));
        for (rows, inputs, outputs) in [(1, 32, 16), (5, 48, 48), (17, 100, 36), (130, 384, 384), (33, 768, 768)] {
            let weights: Vec<Vec<f32>> = (0..3)
                .map(|_| self.backend.rounded(&rng.numbers(outputs * inputs, (inputs as f32).powf(-0.5))))
                .collect();
            let biases: Vec<Vec<f32>> = (0..3).map(|_| self.backend.rounded(&rng.numbers(outputs, 0.5))).collect();
            let backend = self.backend.for_batch(&dummy_batch(), DUMMY_HEADS)?;
            let linear = backend.linear(&weights, &biases)?;
            let (x, numbers) = backend.place(&rng.numbers(rows * inputs, 1.0), rows)?;
            for parts in [0..3, 0..1, 1..3] {
                let found = backend.project(&linear, parts.start * outputs..parts.end * outputs, &x)?;
                let expected =
                    reference::linear(&numbers, &weights[parts.clone()].concat(), &biases[parts.clone()].concat());
                worst.compare(&backend.read(&found)?, &expected, || {
                    format!("[{rows}, {inputs}] times {outputs} outputs of {parts:?}")
                });
            }
        }
        self.report("linear layers with bias".to_owned(), worst);
        Ok(())
    }

    fn add_norm(&mut self) -> Result<(), B::Error> {
        let (mut worst, mut rng) = (MaxError::default(), TestRng::new(3));
        for (rows, inputs, width) in [(1, 32, 32), (6, 64, 100), (4, 100, 64), (7, 384, 384), (3, 768, 1096)] {
            let weights = self.backend.rounded(&rng.numbers(width * inputs, (inputs as f32).powf(-0.5)));
            let bias = self.backend.rounded(&rng.numbers(width, 0.5));
            let (weight, shift) = (rng.numbers(width, 1.0), rng.numbers(width, 0.3));
            let backend = self.backend.for_batch(&dummy_batch(), DUMMY_HEADS)?;
            let linear = backend.linear(from_ref(&weights), from_ref(&bias))?;
            let norm = backend.norm(weight.clone(), shift.clone(), 1e-5)?;
            let (x, numbers) = backend.place(&rng.numbers(rows * inputs, 1.0), rows)?;
            let (residual, residuals) = backend.place(&rng.numbers(rows * width, 1.0), rows)?;
            let found = backend.add_norm(&linear, &norm, &x, &residual)?;
            let sums = reference::linear(&numbers, &weights, &bias);
            let sums: Vec<f64> = sums.iter().zip(&residuals).map(|(a, b)| a + b).collect();
            let expected = reference::norm(&sums, &weight, &shift, 1e-5);
            worst.compare(&backend.read(&found)?, &expected, || format!("[{rows}, {inputs}] to {width}"));
        }
        self.report("linear layer, residual and normalisation".to_owned(), worst);
        Ok(())
    }

    fn feed_forward(&mut self, activation: Activation) -> Result<(), B::Error> {
        let (mut worst, mut rng) = (MaxError::default(), TestRng::new(4));
        for (rows, width, inner) in [(1, 32, 64), (5, 64, 100), (3, 384, 1536)] {
            let up = self.backend.rounded(&rng.numbers(inner * width, 2.0 * (width as f32).powf(-0.5)));
            let down = self.backend.rounded(&rng.numbers(inner * width, (inner as f32).powf(-0.5)));
            let biases = self.backend.rounded(&rng.numbers(inner + width, 0.5));
            let (up_bias, down_bias) = biases.split_at(inner);
            let (weight, shift) = (rng.numbers(width, 1.0), rng.numbers(width, 0.3));
            let backend = self.backend.for_batch(&dummy_batch(), DUMMY_HEADS)?;
            let (x, numbers) = backend.place(&rng.numbers(rows * width, 1.0), rows)?;
            let found = backend.feed_forward(
                &x,
                &backend.linear(from_ref(&up), &[up_bias.to_vec()])?,
                activation,
                &backend.linear(from_ref(&down), &[down_bias.to_vec()])?,
                &backend.norm(weight.clone(), shift.clone(), 1e-12)?,
            )?;
            let between = reference::linear(&numbers, &up, up_bias);
            let between: Vec<f64> = between.iter().map(|x| reference::activation(*x, activation)).collect();
            let sums = reference::linear(&between, &down, down_bias);
            let sums: Vec<f64> = sums.iter().zip(&numbers).map(|(a, b)| a + b).collect();
            let expected = reference::norm(&sums, &weight, &shift, 1e-12);
            worst.compare(&backend.read(&found)?, &expected, || format!("[{rows}, {width}] through {inner}"));
        }
        self.report(format!("feed-forward with {activation:?}"), worst);
        Ok(())
    }

    /// Texts of lengths around tile bounds.
    fn texts(&self) -> Batch {
        batch_of(match self.effort {
            Effort::Whole => &[1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200, 257, 511, 512],
            Effort::Short => &[1, 17, 64, 65, 130],
        })
    }

    fn attention(&mut self, heads: Heads) -> Result<(), B::Error> {
        let batch = self.texts();
        let (tokens, texts, width) = (batch.tokens(), batch.rows(), heads.count * heads.size);
        let backend = self.backend.for_batch(&batch, heads)?;
        let mut rng = TestRng::new(5);
        // Scores as large as in trained models, to detect an overflow of the softmax.
        let (qkv, numbers) = backend.place(&rng.numbers(tokens * 3 * width, 1.7), tokens)?;
        let (queries, keys_values) = (B::columns(&qkv, 0..width)?, B::columns(&qkv, width..3 * width)?);
        let found = backend.read(&backend.attention(&queries, &keys_values, &batch, heads)?)?;
        let mut worst = MaxError::default();
        for text in 0..texts {
            let (start, end) = (batch.offsets[text] as usize, batch.offsets[text + 1] as usize);
            let rows = &numbers[start * 3 * width..end * 3 * width];
            let asking: Vec<f64> = rows.chunks_exact(3 * width).flat_map(|row| &row[..width]).copied().collect();
            let keys_values = (&rows[width..], &rows[2 * width..], 3 * width);
            let shared = (heads, heads.count);
            let expected = reference::attention(&asking, keys_values, end - start, shared, |_, _, _| Some(0.0));
            let at = || format!("a text of {} tokens", end - start);
            worst.compare(&found[start * width..end * width], &expected, at);
        }
        self.report(format!("attention with {} heads of {}", heads.count, heads.size), worst);
        Ok(())
    }

    /// Checks the context operations: of every token, and of the first only; with a bias by distance or without.
    fn contexts(&mut self, heads: Heads, by_distance: bool) -> Result<(), B::Error> {
        let batch = self.texts();
        let (tokens, width) = (batch.tokens(), heads.count * heads.size);
        let mut rng = TestRng::new(6);
        let mut synthetic_weight = |count, scale| self.backend.rounded(&rng.numbers(count, scale));
        let weights = [(); 3].map(|()| synthetic_weight(width * width, (width as f32).powf(-0.5)));
        let biases = [(); 3].map(|()| synthetic_weight(width, 0.3));
        let backend = self.backend.for_batch(&batch, heads)?;
        let qkv = backend.linear(&weights, &biases)?;
        let ([_, keys, values], [_, _, bias]) = (&weights, &biases);
        let keys_values = backend.keys_values(keys.clone(), values.clone(), bias.clone())?;
        let (x, numbers) = backend.place(&rng.numbers(tokens * width, 1.0), tokens)?;
        // A table for just the longest text, as of a model that takes no longer ones.
        let longest = batch.offsets.windows(2).map(|span| (span[1] - span[0]) as usize).max().unwrap_or(1);
        let table = rng.numbers(heads.count * (2 * longest - 1), 2.0);
        let score_bias = by_distance.then(|| backend.score_bias(table.clone(), longest)).transpose()?;
        let scoring = (heads, score_bias.as_ref());
        let bias = |head: usize, query: usize, key: usize| match by_distance {
            true => Some(f64::from(table[head * (2 * longest - 1) + longest - 1 + key - query])),
            false => Some(0.0),
        };
        let all = backend.read(&backend.context(&qkv, &x, &batch, scoring)?)?;
        let queries = backend.project(&qkv, 0..width, &backend.select(&x, &batch, KeptTokens::First)?)?;
        let queries_f64 = widened(&backend.read(&queries)?);
        let firsts = backend.read(&backend.first_context(&queries, &x, (&qkv, &keys_values), &batch, scoring)?)?;
        let (mut worst, mut worst_first) = (MaxError::default(), MaxError::default());
        for (text, span) in batch.offsets.windows(2).enumerate() {
            let (start, length) = (span[0] as usize, (span[1] - span[0]) as usize);
            let rows = start * width..(start + length) * width;
            let [asking, keys, values] =
                [0, 1, 2].map(|kind: usize| reference::linear(&numbers[rows.clone()], &weights[kind], &biases[kind]));
            let attention = |queries: &[f64]| {
                reference::attention(queries, (&keys, &values, width), length, (heads, heads.count), bias)
            };
            let (row, at) = (text * width..(text + 1) * width, || format!("a text of {length} tokens"));
            worst.compare(&all[rows.clone()], &attention(&asking), at);
            worst_first.compare(&firsts[row.clone()], &attention(&queries_f64[row]), at);
        }
        let shape =
            format!("{} heads of {}{}", heads.count, heads.size, if by_distance { ", by distance" } else { "" });
        self.report(format!("context of every token with {shape}"), worst);
        self.report(format!("context of the first tokens with {shape}"), worst_first);
        Ok(())
    }
}

/// Returns deterministic weights for the name of a tensor.
pub(crate) fn synthetic_weight(name: &str, shape: &[usize]) -> Vec<f32> {
    let seed = name.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let count = shape.iter().product();
    let mut rng = TestRng::new(seed);
    match (name.ends_with("LayerNorm.weight"), shape) {
        (true, _) => rng.numbers(count, 0.2).iter().map(|x| 1.0 + x).collect(),
        (false, [_, inputs]) if !name.contains("embeddings") => rng.numbers(count, (*inputs as f32).powf(-0.5)),
        (false, [_, _]) => rng.numbers(count, 1.0),
        (false, _) => rng.numbers(count, 0.1),
    }
}

/// Returns the smallest cosine between rows of `width` numbers, and the largest difference.
pub(crate) fn compare_rows(found: &[f32], expected: &[f32], width: usize) -> (f64, f64) {
    let (found, expected) = (widened(found), widened(expected));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosines = found.chunks_exact(width).zip(expected.chunks_exact(width)).map(|(a, b)| {
        let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        if cosine.is_nan() { f64::NEG_INFINITY } else { cosine }
    });
    let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    (cosines.fold(1.0, f64::min), differences.fold(0.0, f64::max))
}
