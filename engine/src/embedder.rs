//! Texts in, vectors out, on all cores.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::cuda::STREAMS;
use crate::{Batch, pack};
use crate::{
    DeviceSpec, EmbedTextsError, EncodeError, Encoded, Engine, EngineOptions, LoadError, ModelDir, TextEncoder,
};

/// A tokenizer and an engine of the same model.
#[derive(Debug)]
pub struct Embedder {
    encoder: TextEncoder,
    engine: Engine,
    /// Threads of a call; `None` is one per core.
    threads: Option<usize>,
}

/// The vectors of several texts.
#[derive(Debug)]
#[non_exhaustive]
pub struct TextVectors {
    /// `texts * dimensions` numbers, row-major, in the order of the texts. Those of a refused text are NaN.
    pub vectors: Vec<f32>,
    /// Indices of the texts that had more tokens than the model takes, ascending.
    pub truncated: Vec<usize>,
    /// Indices of the texts that have no token, ascending: their vectors say nothing.
    pub empty: Vec<usize>,
    /// The texts that the tokenizer refused, by ascending index.
    pub refused: Vec<(usize, EncodeError)>,
}

/// Follows a call of [`Embedder::embed_texts_watched`] from another thread, and stops it.
#[derive(Debug, Default)]
pub struct Watch {
    stopped: AtomicBool,
    texts: AtomicUsize,
}

impl Watch {
    /// Lets the call end with [`EmbedTextsError::Stopped`] after the batches under way.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Returns how many texts have a vector.
    pub fn texts(&self) -> usize {
        self.texts.load(Ordering::Relaxed)
    }

    fn check(&self) -> Result<(), EmbedTextsError> {
        if self.stopped.load(Ordering::Relaxed) { Err(EmbedTextsError::Stopped) } else { Ok(()) }
    }
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
        Ok(Embedder::new(encoder, Engine::load(model, options)?))
    }

    /// Joins the tokenizer and the engine of a model.
    pub fn new(encoder: TextEncoder, engine: Engine) -> Embedder {
        let engine = engine.with_excluded_prefix(encoder.excluded_prefix_tokens());
        Embedder { encoder, engine, threads: None }
    }

    /// Uses so many threads, at least one, instead of one per core.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Embedder {
        self.threads = Some(threads.max(1));
        self
    }

    /// Returns the tokenizer.
    pub fn encoder(&self) -> &TextEncoder {
        &self.encoder
    }

    /// Returns the engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the vectors of `texts`. Tokenizes and computes on all cores, or as many threads as it has; or computes on one GPU.
    ///
    /// # Errors
    /// The first text that the tokenizer refuses, or the device fails.
    pub fn embed_texts<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<TextVectors, EmbedTextsError> {
        let mut found = self.embed_texts_watched(texts, &Watch::default())?;
        match found.refused.is_empty() {
            true => Ok(found),
            false => {
                let (index, source) = found.refused.swap_remove(0);
                Err(EmbedTextsError::Encode { index, source })
            }
        }
    }

    /// As [`embed_texts`](Embedder::embed_texts), with a `watch` on it; texts that the tokenizer refuses are listed.
    ///
    /// # Errors
    /// It is stopped, or the device fails.
    pub fn embed_texts_watched<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        watch: &Watch,
    ) -> Result<TextVectors, EmbedTextsError> {
        let cores = self.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        let encode = |index: usize| {
            watch.check()?;
            Ok::<_, EmbedTextsError>(self.encoder.encode_for_model(texts[index].as_ref()))
        };
        let rows: Vec<Result<Encoded, EncodeError>> = on_threads(cores, texts.len(), encode)?;
        let valid: Vec<(usize, &Encoded)> =
            rows.iter().enumerate().filter_map(|(index, row)| Some((index, row.as_ref().ok()?))).collect();
        let lengths: Vec<usize> = valid.iter().map(|(_, row)| row.ids.len()).collect();
        let groups = pack(&lengths, self.engine.default_batch_tokens());
        let embed = |group: usize| -> Result<Vec<f32>, EmbedTextsError> {
            watch.check()?;
            let batch: Batch = groups[group].iter().map(|place| &valid[*place].1.ids).collect();
            let vectors = self.engine.embed(&batch)?;
            watch.texts.fetch_add(groups[group].len(), Ordering::Relaxed);
            Ok(vectors)
        };
        let threads = match self.engine.device() {
            DeviceSpec::Cpu => cores,
            DeviceSpec::Cuda(_) => STREAMS,
        };
        let embedded = on_threads(threads, groups.len(), embed)?;
        let width = self.engine.dimensions();
        let mut vectors = vec![f32::NAN; rows.len() * width];
        for (group, found) in groups.iter().zip(&embedded) {
            for (place, vector) in group.iter().zip(found.chunks_exact(width)) {
                vectors[valid[*place].0 * width..][..width].copy_from_slice(vector);
            }
        }
        let truncated = valid.iter().filter(|(_, row)| row.truncated).map(|(index, _)| *index).collect();
        let empty = valid.iter().filter(|(_, row)| row.ids.is_empty()).map(|(index, _)| *index).collect();
        let refused = rows.into_iter().enumerate().filter_map(|(index, row)| Some((index, row.err()?))).collect();
        Ok(TextVectors { vectors, truncated, empty, refused })
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
    use crate::model_dir::tiny_models;

    #[test]
    fn a_watch_counts_texts_and_stops() {
        let model = tiny_models().remove(0);
        let embedder = Embedder::load(&model, &EngineOptions::default(), None, "").unwrap();
        let watch = Watch::default();
        embedder.embed_texts_watched(&["uno", "dos", "tres"], &watch).unwrap();
        assert_eq!(watch.texts(), 3);
        watch.stop();
        let stopped = embedder.embed_texts_watched(&["uno"], &watch).unwrap_err();
        assert!(matches!(stopped, EmbedTextsError::Stopped), "{stopped}");
    }

    #[test]
    fn engines_share_weights_and_differ_in_their_output() {
        let model = tiny_models().remove(0);
        let embed = |embedder: &Embedder| embedder.embed_texts(&["Hoy vamos a comer."]).unwrap().vectors;
        let whole = Embedder::load(&model, &EngineOptions::default(), None, "").unwrap();
        let output = whole.engine().with_output(false, Some(5)).unwrap();
        let found = embed(&Embedder::new(whole.encoder().clone(), output));
        let options = EngineOptions { normalize: false, dimensions: Some(5), ..EngineOptions::default() };
        assert_eq!(found, embed(&Embedder::load(&model, &options, None, "").unwrap()));
        assert!(whole.engine().with_output(true, Some(0)).is_err());
    }

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
