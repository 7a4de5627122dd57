//! Texts in, vectors out, on all cores.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::cuda::STREAMS;
use crate::{Batch, pack};
use crate::{
    DeviceSpec, EmbedError, EmbedTextsError, Encoded, Engine, EngineOptions, LoadError, ModelDir, TextEncoder,
};

/// A tokenizer and an engine of the same model.
#[derive(Debug)]
pub struct Embedder {
    encoder: TextEncoder,
    engine: Engine,
}

/// The vectors of several texts.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TextVectors {
    /// `texts * dimensions` numbers, row-major, in the order of the texts.
    pub vectors: Vec<f32>,
    /// Indices of the texts that had more tokens than the model takes, ascending.
    pub truncated: Vec<usize>,
}

impl Embedder {
    /// Loads tokenizer and weights. `max_length` and `prefix` are those of [`TextEncoder::load`].
    ///
    /// # Errors
    /// As [`TextEncoder::load`] and [`Engine::load`].
    pub fn load(
        model: &ModelDir,
        options: &EngineOptions,
        max_length: Option<usize>,
        prefix: &str,
    ) -> Result<Embedder, LoadError> {
        let encoder = TextEncoder::load(model, max_length, prefix)?;
        let engine = Engine::load(model, options)?.with_excluded_prefix(encoder.excluded_prefix_tokens());
        Ok(Embedder { encoder, engine })
    }

    /// Returns the tokenizer.
    pub fn encoder(&self) -> &TextEncoder {
        &self.encoder
    }

    /// Returns the engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the vectors of `texts`. Tokenizes on all cores and computes on all of them, or on one GPU.
    ///
    /// # Errors
    /// The first text that the tokenizer refuses, or the device fails.
    pub fn embed_texts<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<TextVectors, EmbedTextsError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let encode = |index: usize| {
            let encoded = self.encoder.encode_for_model(texts[index].as_ref());
            encoded.map_err(|source| EmbedTextsError::Encode { index, source })
        };
        let rows: Vec<Encoded> = on_threads(cores, texts.len(), encode)?;
        let lengths: Vec<usize> = rows.iter().map(|row| row.ids.len()).collect();
        let groups = pack(&lengths, self.engine.default_batch_tokens());
        let embed = |group: usize| -> Result<Vec<f32>, EmbedError> {
            let batch: Batch = groups[group].iter().map(|row| &rows[*row].ids).collect();
            self.engine.embed(&batch)
        };
        let threads = match self.engine.device() {
            DeviceSpec::Cpu => cores,
            DeviceSpec::Cuda(_) => STREAMS,
        };
        let embedded = on_threads(threads, groups.len(), embed)?;
        let width = self.engine.dimensions();
        let mut vectors = vec![0.0; rows.len() * width];
        for (group, found) in groups.iter().zip(&embedded) {
            for (row, vector) in group.iter().zip(found.chunks_exact(width)) {
                vectors[row * width..][..width].copy_from_slice(vector);
            }
        }
        let truncated = rows.iter().enumerate().filter(|(_, row)| row.truncated).map(|(index, _)| index).collect();
        Ok(TextVectors { vectors, truncated })
    }
}

/// Calls `work` with every number below `count` on so many threads. Returns the results in order, or the error of the
/// lowest number that has one.
fn on_threads<T: Send, E: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    if threads.min(count) <= 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let some = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return done;
            }
            let result = work(number);
            let failed = result.is_err();
            done.push((number, result));
            if failed {
                // Numbers are taken in order, so that no higher one is needed.
                next.store(count, Ordering::Relaxed);
            }
        }
    };
    let done: BTreeMap<usize, Result<T, E>> = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.min(count)).map(|_| scope.spawn(some)).collect();
        let joined =
            handles.into_iter().map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    });
    done.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_wins() {
        for threads in [1, 3, 40] {
            assert_eq!(on_threads(threads, 20, Ok::<_, ()>), Ok((0..20).collect()));
            let odd = |number: usize| if number % 7 == 5 { Err(number) } else { Ok(number) };
            assert_eq!(on_threads(threads, 20, odd), Err(5));
            assert_eq!(on_threads(threads, 0, odd), Ok(vec![]));
        }
    }
}
