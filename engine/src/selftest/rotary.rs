//! Compares the operations of rotary models with the reference.

use std::slice::from_ref;

use kernels::{Activation, Heads, Reach};

use super::Effort;
use super::checks::{Checks, DUMMY_HEADS, MaxError, batch_of, dummy_batch};
use super::probe::Probe;
use super::reference::{self, TestRng};
use crate::backend::rotary::{Attention, Dense, NormWeights, RotaryBackend, SumNorms};
use crate::families::Rope;
use crate::forward::kept_tokens::KeptTokens;
use crate::forward::positions::LayerPositions;
use crate::forward::rotation::frequencies;

const EPSILON: f64 = 1e-6;

/// A case of attention.
#[derive(Clone, Copy)]
struct Case {
    /// Of keys.
    heads: Heads,
    group: usize,
    reach: Reach,
    head_norms: bool,
}

/// Numbers of a norm, for the backend and for the reference.
struct TestNorm {
    weight: Vec<f32>,
    /// `None` for a norm by the root mean square.
    shift: Option<Vec<f32>>,
}

impl TestNorm {
    fn new(rng: &mut TestRng, width: usize, centered: bool) -> TestNorm {
        TestNorm { weight: rng.numbers(width, 1.0), shift: centered.then(|| rng.numbers(width, 0.3)) }
    }

    fn on<B: RotaryBackend>(&self, backend: &B) -> Result<B::SumNorm, B::Error> {
        let weight = self.weight.clone();
        let norm = match &self.shift {
            Some(shift) => NormWeights::Layer { weight, shift: shift.clone() },
            None => NormWeights::RootMeanSquare { weight },
        };
        backend.sum_norm(norm, EPSILON)
    }

    fn apply(&self, rows: &[f64]) -> Vec<f64> {
        match &self.shift {
            Some(shift) => reference::norm(rows, &self.weight, shift, EPSILON),
            None => reference::rms_norm(rows, &self.weight, EPSILON),
        }
    }
}

impl<B: Probe + RotaryBackend> Checks<'_, B> {
    pub(super) fn run_rotary(&mut self) -> Result<(), B::Error> {
        self.attempt("sums and their norms", Self::sums)?;
        for activation in [Activation::GeluErf, Activation::GeluTanh, Activation::Relu, Activation::Silu] {
            for has_gate in [true, false] {
                let gate = if has_gate { "with" } else { "without" };
                let name = format!("feed-forward {gate} a gate by {activation:?}");
                self.attempt(&name, |checks| checks.feed_forward_half(&name, activation, has_gate))?;
            }
        }
        let causal = Reach { after: 0, ..Reach::ALL };
        let near = |before, after| Reach { before, after };
        let cases = [
            (1, 2, 64, causal, true),
            (2, 1, 32, near(16, 16), false),
            (2, 1, 12, Reach::ALL, false),
            (1, 3, 128, near(64, 64), false),
            (2, 2, 16, near(20, 0), true),
            (2, 2, 48, Reach::ALL, false),
            (1, 1, 96, causal, false),
            (1, 2, 80, near(0, 5), false),
            (1, 2, 256, near(30, 30), true),
        ];
        for (count, group, size, reach, head_norms) in cases {
            let case = Case { heads: Heads { count, size }, group, reach, head_norms };
            let name = format!("rotated context with {count} times {group} heads of {size}");
            self.attempt(&name, |checks| checks.rotary_contexts(&name, case))?;
        }
        Ok(())
    }

    /// A sum that begins with words and grows by an output, under both kinds of norms.
    fn sums(&mut self) -> Result<(), B::Error> {
        let (mut worst, mut rng) = (MaxError::default(), TestRng::new(21));
        for (rows, width) in [(1, 32), (5, 100), (9, 384), (4, 1024), (3, 1096)] {
            let centered = rows % 2 == 1;
            let words = self.backend.rounded(&rng.numbers(7 * width, 1.0));
            let norms = [(); 4].map(|()| TestNorm::new(&mut rng, width, centered));
            let weight = self.backend.rounded(&rng.numbers(width * width, (width as f32).powf(-0.5)));
            let bias = self.backend.rounded(&rng.numbers(width, 0.5));
            let ids: Vec<u32> = (0..rows).map(|_| rng.below(7) as u32).collect();
            let backend = self.backend.for_batch(&dummy_batch(), DUMMY_HEADS)?;
            let [first, second, third, fourth] = norms.each_ref().map(|norm| norm.on(&backend));
            let [first, second, third, fourth] = [first?, second?, third?, fourth?];
            let table = backend.table(words.clone(), width)?;
            let linear = backend.linear(from_ref(&weight), from_ref(&bias))?;
            let embedded: Vec<f64> =
                ids.iter().flat_map(|id| &words[*id as usize * width..][..width]).map(|x| f64::from(*x)).collect();
            let at = || format!("{rows} rows of {width}");

            let plain = SumNorms { added: None, sum: Some(&first) };
            let (sum, read) = backend.begin_sum((&table, width), &ids, plain)?;
            worst.compare(&backend.read(&sum)?, &embedded, at);
            worst.compare(&backend.read(&read)?, &norms[0].apply(&embedded), at);
            let (mut sum, read) =
                backend.begin_sum((&table, width), &ids, SumNorms { added: Some(&second), sum: None })?;
            let expected = norms[1].apply(&embedded);
            worst.compare(&backend.read(&sum)?, &expected, at);
            worst.compare(&backend.read(&read)?, &expected, at);

            let (x, numbers) = backend.place(&rng.numbers(rows * width, 1.0), rows)?;
            let read =
                backend.add_linear(&mut sum, &linear, x, SumNorms { added: Some(&third), sum: Some(&fourth) })?;
            let output = norms[2].apply(&reference::linear(&numbers, &weight, &bias));
            let expected: Vec<f64> = expected.iter().zip(&output).map(|(a, b)| a + b).collect();
            worst.compare(&backend.read(&sum)?, &expected, at);
            worst.compare(&backend.read(&read)?, &norms[3].apply(&expected), at);
        }
        self.report("sums and their norms".to_owned(), worst);
        Ok(())
    }

    fn feed_forward_half(&mut self, name: &str, activation: Activation, has_gate: bool) -> Result<(), B::Error> {
        let (mut worst, mut rng) = (MaxError::default(), TestRng::new(22));
        for (rows, width, inner) in [(1, 32, 64), (5, 64, 100), (3, 384, 1152)] {
            let wide = if has_gate { 2 * inner } else { inner };
            let up = self.backend.rounded(&rng.numbers(wide * width, 2.0 * (width as f32).powf(-0.5)));
            let down = self.backend.rounded(&rng.numbers(inner * width, (inner as f32).powf(-0.5)));
            let biases = self.backend.rounded(&rng.numbers(wide + width, 0.5));
            let (up_bias, down_bias) = biases.split_at(wide);
            let (weight, shift) = (rng.numbers(width, 1.0), rng.numbers(width, 0.3));
            let backend = self.backend.for_batch(&dummy_batch(), DUMMY_HEADS)?;
            let (x, numbers) = backend.place(&rng.numbers(rows * width, 1.0), rows)?;
            let up_layer = backend.linear(from_ref(&up), &[up_bias.to_vec()])?;
            let down_layer = backend.linear(from_ref(&down), &[down_bias.to_vec()])?;
            let half = backend.feed_forward_half(up_layer, has_gate, activation, down_layer);
            let norm = backend.norm(weight.clone(), shift.clone(), EPSILON)?;
            let found = backend.feed_forward_norm(&half, &norm, &x)?;

            let between = reference::linear(&numbers, &up, up_bias);
            let activated = |x: &f64| reference::activation(*x, activation);
            let between: Vec<f64> = match has_gate {
                true => between
                    .chunks_exact(wide)
                    .flat_map(|row| row[..inner].iter().zip(&row[inner..]).map(|(gate, other)| activated(gate) * other))
                    .collect(),
                false => between.iter().map(activated).collect(),
            };
            let outputs = reference::linear(&between, &down, down_bias);
            let sums: Vec<f64> = outputs.iter().zip(&numbers).map(|(a, b)| a + b).collect();
            let at = || format!("[{rows}, {width}] through {inner}");
            worst.compare(&backend.read(&found)?, &reference::norm(&sums, &weight, &shift, EPSILON), at);

            let words = backend.table(vec![0.0; width], width)?;
            let none = SumNorms { added: None, sum: None };
            let (mut sum, _) = backend.begin_sum((&words, width), &vec![0; rows], none)?;
            let read = backend.add_feed_forward(&mut sum, &half, x, SumNorms { added: None, sum: None })?;
            worst.compare(&backend.read(&sum)?, &outputs, at);
            worst.compare(&backend.read(&read)?, &outputs, at);
        }
        self.report(name.to_owned(), worst);
        Ok(())
    }

    /// The contexts of every token, and of the first and last alone.
    fn rotary_contexts(&mut self, name: &str, case: Case) -> Result<(), B::Error> {
        let Case { heads, group, reach, head_norms } = case;
        let batch = batch_of(match self.effort {
            Effort::Whole => &[1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200, 257, 511],
            Effort::Short => &[1, 17, 65, 130],
        });
        let (tokens, inputs, key_width) = (batch.tokens(), 48, heads.count * heads.size);
        let query_width = group * key_width;
        let mut rng = TestRng::new(23);
        let layers = [query_width, key_width, key_width].map(|outputs| Dense {
            weight: self.backend.rounded(&rng.numbers(outputs * inputs, (inputs as f32).powf(-0.5))),
            bias: self.backend.rounded(&rng.numbers(outputs, 0.3)),
        });
        let norms = [(); 2].map(|()| TestNorm::new(&mut rng, heads.size, false));
        let angles_per_position = frequencies(Rope::unscaled(10_000.0), heads.size);
        let backend = self.backend.for_batch(&batch, heads)?;
        let projections = match group == 1 && !head_norms {
            true => backend.joined_projections(Dense {
                weight: layers.iter().flat_map(|layer| &layer.weight).copied().collect(),
                bias: layers.iter().flat_map(|layer| &layer.bias).copied().collect(),
            })?,
            false => backend.projections(layers.clone(), false)?,
        };
        let placed_norms = [norms[0].on(&backend)?, norms[1].on(&backend)?];
        let angles = backend.angles(&backend.rotation(angles_per_position.clone())?, &batch)?;
        let (x, numbers) = backend.place(&rng.numbers(tokens * inputs, 1.0), tokens)?;
        let positions = LayerPositions::Rotary { angles: &angles, reach };
        let attention = Attention { heads, group, positions, head_norms: head_norms.then_some(&placed_norms) };
        let mut worst = MaxError::default();
        let [queries, keys, values] =
            layers.each_ref().map(|layer| reference::linear(&numbers, &layer.weight, &layer.bias));
        let normalized = |rows: Vec<f64>, norm: &TestNorm| if head_norms { norm.apply(&rows) } else { rows };
        let (queries, keys) = (normalized(queries, &norms[0]), normalized(keys, &norms[1]));
        for kept in [KeptTokens::Every, KeptTokens::First, KeptTokens::Last] {
            let found = backend.read(&backend.rotary_context(&projections, &x, &attention, &batch, kept)?)?;
            let mut done = 0;
            for span in batch.offsets.windows(2) {
                let (start, length) = (span[0] as usize, (span[1] - span[0]) as usize);
                let (first, count) = kept.in_text(length);
                let rotated = |rows: &[f64], width: usize, from: usize, count: usize| {
                    let rows = &rows[(start + from) * width..][..count * width];
                    reference::rotated(rows, width, from, &angles_per_position)
                };
                let asking = rotated(&queries, query_width, first, count);
                let keys = rotated(&keys, key_width, 0, length);
                let values = &values[start * key_width..][..length * key_width];
                let sees = |_: usize, query: usize, key: usize| {
                    let (query, Reach { before, after }) = (first + query, reach);
                    let is_near = key.saturating_add(before) >= query && key <= query.saturating_add(after);
                    is_near.then_some(0.0)
                };
                let query_heads = Heads { count: group * heads.count, ..heads };
                let of_keys = (keys.as_slice(), values, key_width);
                let expected = reference::attention(&asking, of_keys, length, (query_heads, heads.count), sees);
                let at = || format!("{kept:?} of a text of {length} tokens");
                worst.compare(&found[done * query_width..][..count * query_width], &expected, at);
                done += count;
            }
        }
        self.report(name.to_owned(), worst);
        Ok(())
    }
}
