//! A model in memory: texts in, NumPy arrays out.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use engine::{
    ComputeDtype, DeviceSpec, Embedder, Engine, EngineOptions, FillError, ModelDir, NO_MAX_LENGTH, Pooling,
    TextEncoder, Watch,
};
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray2};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use spec::RejectReason;

use crate::errors::Class;
use crate::interrupt::interruptible;
use crate::texts::{ArrowTexts, Text, from_list};

/// Tokenizer and weights of a model.
#[pyclass(frozen, module = "encaje._encaje")]
pub(crate) struct Model {
    directory: ModelDir,
    engine: Engine,
    dtype: ComputeDtype,
    max_length: Option<usize>,
    threads: Option<usize>,
}

#[pymethods]
impl Model {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    #[pyo3(signature = (directory, *, pooling, dtype, device, dimensions, max_length, threads))]
    fn new(
        py: Python<'_>,
        directory: PathBuf,
        pooling: Option<&str>,
        dtype: Option<&str>,
        device: &str,
        dimensions: Option<usize>,
        max_length: Option<usize>,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        let pooling = pooling.map(parse::<Pooling>).transpose()?;
        let dtype = dtype.map(parse::<ComputeDtype>).transpose()?;
        let load = || {
            let directory = ModelDir::open(&directory).map_err(|error| Class::Model.of(&error))?;
            let summary = directory.summary();
            let device = choose_device(device, summary.gpus)?;
            let dtype = dtype.unwrap_or(match device {
                DeviceSpec::Cpu => ComputeDtype::F32,
                DeviceSpec::Cuda(_) => ComputeDtype::F16,
            });
            // What the model is trained for, unless all of it is kept.
            let own = summary.truncate_dim.filter(|kept| *kept < summary.dimensions);
            let dimensions = dimensions.or(own);
            let options = EngineOptions { device, dtype, pooling, dimensions, ..EngineOptions::default() };
            let engine = Engine::load(&directory, &options).map_err(|error| Class::Model.of(&error))?;
            TextEncoder::load(&directory, max_length, "").map_err(|error| Class::Model.of(&error))?;
            Ok(Self { directory, engine, dtype, max_length, threads })
        };
        py.detach(load)
    }

    /// What the model is, and how it is used.
    #[getter]
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let summary = self.directory.summary();
        let max_length = self.encoder("")?.max_length();
        let info = PyDict::new(py);
        info.set_item("family", &summary.architecture)?;
        info.set_item("dimensions", self.engine.dimensions())?;
        info.set_item("max_length", (max_length != NO_MAX_LENGTH).then_some(max_length))?;
        info.set_item("pooling", self.engine.pooling().to_string())?;
        let dtype = match self.engine.device() {
            DeviceSpec::Cpu => self.directory.dtype_on_cpu(self.dtype),
            DeviceSpec::Cuda(_) => self.dtype,
        };
        info.set_item("dtype", dtype.to_string())?;
        info.set_item("device", self.engine.device().to_string())?;
        info.set_item("similarity", summary.similarity.as_deref())?;
        info.set_item("prompts", summary.prompts.by_name.clone())?;
        info.set_item("default_prompt", summary.prompts.by_default().map(|(name, _)| name))?;
        Ok(info)
    }

    /// Starts a row of calls with the same options. `rows` are expected, if known.
    #[pyo3(signature = (*, prefix, normalize, dimensions, rows))]
    fn begin(&self, prefix: &str, normalize: bool, dimensions: Option<usize>, rows: usize) -> PyResult<Encoding> {
        let kept = dimensions.unwrap_or(self.engine.dimensions());
        let engine = self.engine.with_output(normalize, Some(kept)).map_err(|error| Class::Usage.of(&error))?;
        let mut vectors = Vec::new();
        let numbers = rows.saturating_mul(kept);
        vectors.try_reserve_exact(numbers).map_err(|_| {
            PyMemoryError::new_err(format!(
                "{rows} vectors of {kept} dimensions do not fit into memory: encode in parts"
            ))
        })?;
        let embedder = Embedder::new(self.encoder(prefix)?, engine);
        let embedder = match self.threads {
            Some(threads) => embedder.with_threads(threads),
            None => embedder,
        };
        Ok(Encoding { embedder, vectors: Mutex::new(vectors) })
    }

    /// The tokens of texts: `(id, token, special, start, end)`, positions in code points.
    fn tokenize(&self, py: Python<'_>, texts: Vec<String>, prefix: &str) -> PyResult<Vec<Vec<Token>>> {
        let encoder = self.encoder(prefix)?;
        let tokens = |text: &String| -> PyResult<Vec<Token>> {
            let tokens = encoder.explain(text).map_err(|error| Class::Model.of(&error))?;
            // Python counts code points.
            let starts: Vec<usize> = text.char_indices().map(|(byte, _)| byte).collect();
            let place = |byte: usize| starts.partition_point(|start| *start < byte);
            let tuple =
                |token: engine::Token| (token.id, token.text, token.special, place(token.start), place(token.end));
            Ok(tokens.into_iter().map(tuple).collect())
        };
        py.detach(|| texts.iter().map(tokens).collect())
    }

    /// Loads the head that fills masks.
    fn mask_filler(&self, py: Python<'_>) -> PyResult<MaskFiller> {
        let load = || engine::MaskFiller::load(&self.directory).map_err(|error| Class::Model.of(&error));
        Ok(MaskFiller { filler: py.detach(load)? })
    }
}

type Token = (u32, String, bool, usize, usize);

impl Model {
    fn encoder(&self, prefix: &str) -> PyResult<TextEncoder> {
        TextEncoder::load(&self.directory, self.max_length, prefix).map_err(|error| Class::Model.of(&error))
    }
}

/// Vectors in the making.
#[pyclass(frozen, module = "encaje._encaje")]
pub(crate) struct Encoding {
    embedder: Embedder,
    vectors: Mutex<Vec<f32>>,
}

#[pymethods]
impl Encoding {
    /// Embeds a list of `str` and `None`. Returns `(index, reason)` of those without a vector, whose numbers are NaN. `progress`
    /// is called with the number of vectors since the last call.
    fn push_list(
        &self,
        py: Python<'_>,
        texts: &Bound<'_, PyList>,
        first: usize,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Vec<(usize, String)>> {
        self.push(py, &from_list(texts, first)?, first, progress)
    }

    /// Embeds `count` texts of a column from `first` on.
    fn push_column(
        &self,
        py: Python<'_>,
        texts: &ArrowTexts,
        first: usize,
        count: usize,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Vec<(usize, String)>> {
        self.push(py, &texts.slice(first, count), first, progress)
    }

    /// Returns all vectors; the encoding is empty then.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let mut vectors = std::mem::take(&mut *self.vectors.lock().unwrap_or_else(PoisonError::into_inner));
        vectors.shrink_to_fit();
        let width = self.embedder.engine().dimensions();
        let array = Array2::from_shape_vec((vectors.len() / width, width), vectors);
        Ok(array.map_err(|error| Class::Error.of(&error))?.into_pyarray(py))
    }
}

impl Encoding {
    fn push(
        &self,
        py: Python<'_>,
        texts: &[Text<'_>],
        first: usize,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Vec<(usize, String)>> {
        let mut reasons: Vec<Option<RejectReason>> = texts.iter().map(|text| text.as_ref().err().copied()).collect();
        let valid = texts.iter().enumerate().filter_map(|(index, text)| Some((index, text.as_ref().ok()?.as_ref())));
        let (places, words): (Vec<usize>, Vec<&str>) = valid.unzip();
        let watch = Watch::default();
        let mut reported = 0;
        let mut report = |py: Python<'_>, done: usize| -> PyResult<()> {
            if let Some(progress) = &progress {
                progress.call1(py, (done - reported,))?;
            }
            reported = done;
            Ok(())
        };
        let embed = || self.embedder.embed_texts_watched(&words, &watch);
        let found = interruptible(py, embed, || watch.stop(), |py| report(py, watch.texts()))?;
        let found = found.map_err(|error| Class::Error.of(&error))?;
        report(py, texts.len())?;
        found.refused.iter().for_each(|(word, _)| reasons[places[*word]] = Some(RejectReason::TokenizerError));
        found.empty.iter().for_each(|word| reasons[places[*word]] = Some(RejectReason::EmptyText));
        let width = self.embedder.engine().dimensions();
        let mut all = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        let start = all.len();
        all.resize(start + texts.len() * width, f32::NAN);
        for (vector, place) in found.vectors.chunks_exact(width).zip(places) {
            if reasons[place].is_none() && vector.iter().all(|number| number.is_finite()) {
                all[start + place * width..][..width].copy_from_slice(vector);
            } else {
                reasons[place].get_or_insert(RejectReason::NonFinite);
            }
        }
        let refused = reasons.iter().enumerate();
        Ok(refused.filter_map(|(index, reason)| Some((first + index, (*reason)?.code().to_owned()))).collect())
    }
}

/// The head of a model that predicts masked tokens.
#[pyclass(frozen, module = "encaje._encaje")]
pub(crate) struct MaskFiller {
    filler: engine::MaskFiller,
}

#[pymethods]
impl MaskFiller {
    /// The best tokens of each mask of a text: `(score, token, token_str, sequence)`.
    fn fill(&self, py: Python<'_>, text: &str, top: usize) -> PyResult<Vec<Vec<Filled>>> {
        let filled = py.detach(|| self.filler.fill(text, top));
        let filled = filled.map_err(|error| match error {
            FillError::NoMask { .. } | FillError::MaskCutOff { .. } => Class::Usage.of(&error),
            error => Class::Model.of(&error),
        })?;
        let one = |filled: engine::Filled| (filled.score, filled.token, filled.token_str, filled.sequence);
        Ok(filled.into_iter().map(|mask| mask.into_iter().map(one).collect()).collect())
    }
}

type Filled = (f64, u32, String, String);

fn parse<T: FromStr<Err: std::error::Error>>(name: &str) -> PyResult<T> {
    name.parse().map_err(|error: T::Err| Class::Usage.of(&error))
}

/// `auto` is the first GPU that can be used, where the model can use one, else the CPU.
fn choose_device(name: &str, gpus_can: bool) -> PyResult<DeviceSpec> {
    if name != "auto" {
        return parse(name);
    }
    let gpus = if gpus_can { engine::gpus().unwrap_or_default() } else { Vec::new() };
    let usable = gpus.into_iter().find(|gpu| gpu.unusable.is_none());
    Ok(usable.map_or(DeviceSpec::Cpu, |gpu| DeviceSpec::Cuda(gpu.ordinal)))
}
