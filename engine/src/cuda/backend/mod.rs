//! The operations of the forward pass on a GPU, in one number format with f32 sums. A [`Gpu`] serves one batch: its
//! text offsets and attention tiles are uploaded once.

mod rotary;

use std::ops::Range;
use std::sync::Arc;

use ::kernels::{Activation, Heads};

use crate::Batch;
use crate::backend::Backend;
use crate::config::Config;
use crate::cuda::device::{Buffer, Device, Fault, FloatFormat, Product};
use crate::cuda::kernels::{self, Attention, NormAt, PoolCode, RowsAt, ScoringAt};
use crate::families::Forward;
use crate::forward::kept_tokens::KeptTokens;
use crate::selftest::probe::Probe;

/// Row counts are rounded up to this, so that few shapes occur: matmul plans are cached by shape. Padding rows are
/// never read.
const ROW_STEP: usize = 128;
/// The step for small matrices.
const ROW_STEP_SMALL: usize = 16;

/// A GPU with one batch, or without one while weights are uploaded.
pub(crate) struct Gpu<D: Device> {
    device: Arc<D>,
    format: FloatFormat,
    index: Option<Index<D>>,
}

/// Text offsets and attention tiles of a batch, in one buffer.
struct Index<D: Device> {
    buffer: Buffer<D>,
    texts: usize,
    /// Offset and number of tiles in the buffer: for every token, and for one row per text.
    every: (usize, usize),
    one: (usize, usize),
}

/// A matrix on the device, or a range of its columns.
pub(crate) struct DeviceMatrix<D: Device> {
    buffer: Arc<Buffer<D>>,
    rows: usize,
    columns: Range<usize>,
    stride: usize,
    format: FloatFormat,
}

/// Linear layers side by side.
pub(crate) struct Linear<D: Device> {
    /// `[outputs, inputs]`, in the device's format.
    weights: Buffer<D>,
    /// For each joined layer its first output and the bias from there on, in the device's format. Separate buffers,
    /// since cuBLASLt reads a bias with 16-byte alignment.
    biases: Vec<(usize, Buffer<D>)>,
    /// `[outputs]`, in f32, for the kernels after a product.
    bias_f32: Buffer<D>,
    inputs: usize,
    outputs: usize,
}

pub(crate) struct Table<D: Device> {
    buffer: Buffer<D>,
    width: usize,
}

/// A bias of attention in f32, by head and distance from query to key.
pub(crate) struct ScoreBias<D: Device> {
    numbers: Buffer<D>,
    tokens: usize,
}

pub(crate) struct Norm<D: Device> {
    weight: Buffer<D>,
    shift: Buffer<D>,
    eps: f32,
    centered: bool,
}

/// Returns the allocated rows of a matrix of `rows`.
fn padded(rows: usize) -> usize {
    rows.next_multiple_of(if rows > 8 * ROW_STEP { ROW_STEP } else { ROW_STEP_SMALL })
}

/// Returns an upper bound of a batch's memory per token. `width` is that of the layers, or of their input if it is larger.
pub(crate) fn bytes_per_token(format: FloatFormat, width: usize, config: &Config) -> usize {
    let [queries, keys] = config.forward.attention_widths(config.hidden_size, config.heads);
    // The peak of BERT: layer input, qkv, context; then a sum and the feed-forward intermediate. Others have a gate and
    // a sum in f32, and their attention is wider. Ids, positions, offsets and tiles take at most 32 bytes.
    let numbers = match config.forward {
        Forward::Bert(_) => 9 * width + config.intermediate,
        Forward::Rotary(_) | Forward::Decoder(_) | Forward::Deberta(_) => {
            8 * width + (2 * queries + 2 * keys).max(3 * config.intermediate)
        }
    };
    numbers * format.bytes() + 32
}

impl<D: Device> DeviceMatrix<D> {
    fn new(device: &Arc<D>, format: FloatFormat, rows: usize, columns: usize) -> Result<DeviceMatrix<D>, Fault> {
        let buffer = Arc::new(Buffer::new(device, padded(rows) * columns * format.bytes())?);
        Ok(DeviceMatrix { buffer, rows, columns: 0..columns, stride: columns, format })
    }

    /// The rows from a column on.
    fn columns_at(&self, first: usize) -> RowsAt {
        let address = self.buffer.address() + ((self.columns.start + first) * self.format.bytes()) as u64;
        RowsAt { address, stride: self.stride }
    }

    /// The address of contiguous rows.
    fn adjacent(&self) -> u64 {
        assert_eq!(self.columns, 0..self.stride, "only attention reads some columns of a matrix");
        self.buffer.address()
    }
}

impl<D: Device> Gpu<D> {
    /// Returns a backend for uploading weights.
    pub(crate) fn for_weights(device: &Arc<D>, format: FloatFormat) -> Gpu<D> {
        Gpu { device: Arc::clone(device), format, index: None }
    }

    /// Returns a backend for computing one batch.
    pub(crate) fn for_batch(
        device: &Arc<D>,
        format: FloatFormat,
        batch: &Batch,
        heads: Heads,
    ) -> Result<Gpu<D>, Fault> {
        let tiles =
            |selection| kernels::tiles(&batch.offsets, kernels::tile_queries(format, heads, selection), selection);
        let (every, one) = (tiles(KeptTokens::Every), tiles(KeptTokens::First));
        let first = batch.offsets.len();
        let numbers = [batch.offsets.as_slice(), &every, &one].concat();
        let index = Index {
            buffer: Buffer::of_u32(device, &numbers)?,
            texts: batch.rows(),
            every: (first, every.len() / 2),
            one: (first + every.len(), one.len() / 2),
        };
        Ok(Gpu { device: Arc::clone(device), format, index: Some(index) })
    }

    /// Returns one f32 vector per text: the only download of a batch.
    pub(crate) fn pool(&self, x: &DeviceMatrix<D>, pooling: PoolCode, excluded: usize) -> Result<Vec<f32>, Fault> {
        let index = self.index();
        let (texts, width) = (index.texts, x.stride);
        let out = Buffer::new(&self.device, texts * width * 4)?;
        let at = (x.adjacent(), index.buffer.address(), out.address());
        kernels::pool(&*self.device, self.format, at, (texts, width), (pooling, excluded))?;
        out.read(&self.device, FloatFormat::F32, texts * width)
    }

    fn index(&self) -> &Index<D> {
        self.index.as_ref().expect("a forward pass has a batch")
    }

    fn place(&self, format: FloatFormat, numbers: &[f32]) -> Result<Buffer<D>, Fault> {
        Buffer::of(&self.device, &format.encode(numbers))
    }

    fn multiply(
        &self,
        linear: &Linear<D>,
        outputs: Range<usize>,
        x: &DeviceMatrix<D>,
        with_bias: bool,
    ) -> Result<DeviceMatrix<D>, Fault> {
        let out = DeviceMatrix::new(&self.device, self.format, x.rows, outputs.len())?;
        let bytes = self.format.bytes();
        let bias = || {
            let from = linear.biases.iter().find(|(first, _)| *first == outputs.start);
            from.expect("outputs are chosen by whole layers").1.address()
        };
        self.device.multiply(&Product {
            format: self.format,
            rows: padded(x.rows),
            inputs: linear.inputs,
            outputs: outputs.len(),
            x: x.adjacent(),
            weights: linear.weights.address() + (outputs.start * linear.inputs * bytes) as u64,
            bias: with_bias.then(bias),
            out: out.buffer.address(),
        })?;
        Ok(out)
    }

    /// Returns the context of every token, or of the first of each text where there is one query per text.
    fn attend(
        &self,
        queries: &DeviceMatrix<D>,
        keys_values: &DeviceMatrix<D>,
        (heads, bias): (Heads, Option<&ScoreBias<D>>),
    ) -> Result<DeviceMatrix<D>, Fault> {
        let width = heads.count * heads.size;
        let [keys, values] = [0, width].map(|first| keys_values.columns_at(first));
        let selection = match queries.rows == keys_values.rows {
            true => KeptTokens::Every,
            false => KeptTokens::First,
        };
        let scoring = bias.map_or(ScoringAt::Everything, |ScoreBias { numbers, tokens }| ScoringAt::Biased {
            numbers: numbers.address(),
            tokens: *tokens,
        });
        self.attend_by(queries, [keys, values], (heads, heads.count), (selection, scoring))
    }

    fn attend_by(
        &self,
        queries: &DeviceMatrix<D>,
        [keys, values]: [RowsAt; 2],
        (heads, key_heads): (Heads, usize),
        (selection, scoring): (KeptTokens, ScoringAt),
    ) -> Result<DeviceMatrix<D>, Fault> {
        let index = self.index();
        let tiles = match selection {
            KeptTokens::Every => index.every,
            KeptTokens::First | KeptTokens::Last => index.one,
        };
        let out = DeviceMatrix::new(&self.device, self.format, queries.rows, heads.count * heads.size)?;
        kernels::attention(
            &*self.device,
            &Attention {
                format: self.format,
                heads,
                key_heads,
                selection,
                scoring,
                queries: queries.columns_at(0),
                keys,
                values,
                out: out.buffer.address(),
                offsets: index.buffer.address(),
                tiles: index.buffer.address() + 4 * tiles.0 as u64,
                tile_count: tiles.1,
            },
        )?;
        Ok(out)
    }
}

impl<D: Device> Norm<D> {
    fn at(&self) -> NormAt {
        NormAt { weight: self.weight.address(), shift: self.shift.address(), eps: self.eps, centered: self.centered }
    }
}

impl<D: Device> Backend for Gpu<D> {
    type Error = Fault;
    type Matrix = DeviceMatrix<D>;
    type Table = Table<D>;
    type Linear = Linear<D>;
    /// Keys and values come from the joined qkv layer.
    type KeysValues = ();
    type Norm = Norm<D>;
    type ScoreBias = ScoreBias<D>;

    fn table(&self, numbers: Vec<f32>, width: usize) -> Result<Table<D>, Fault> {
        Ok(Table { buffer: self.place(self.format, &numbers)?, width })
    }

    fn linear(&self, weights: &[Vec<f32>], biases: &[Vec<f32>]) -> Result<Linear<D>, Fault> {
        let inputs = weights[0].len() / biases[0].len();
        let (weight, bias) = (weights.concat(), biases.concat());
        let (mut placed, mut first) = (Vec::new(), 0);
        for layer in biases {
            placed.push((first, self.place(self.format, &bias[first..])?));
            first += layer.len();
        }
        Ok(Linear {
            weights: self.place(self.format, &weight)?,
            biases: placed,
            bias_f32: self.place(FloatFormat::F32, &bias)?,
            inputs,
            outputs: first,
        })
    }

    fn norm(&self, weight: Vec<f32>, shift: Vec<f32>, eps: f64) -> Result<Norm<D>, Fault> {
        let (weight, shift) = (self.place(FloatFormat::F32, &weight)?, self.place(FloatFormat::F32, &shift)?);
        Ok(Norm { weight, shift, eps: eps as f32, centered: true })
    }

    fn score_bias(&self, numbers: Vec<f32>, tokens: usize) -> Result<ScoreBias<D>, Fault> {
        Ok(ScoreBias { numbers: self.place(FloatFormat::F32, &numbers)?, tokens })
    }

    fn embed(
        &self,
        words: &Table<D>,
        positions: &Table<D>,
        norm: &Norm<D>,
        tokens: &[(u32, u32)],
    ) -> Result<DeviceMatrix<D>, Fault> {
        let (rows, width) = (tokens.len(), words.width);
        let numbers: Vec<u32> = tokens.iter().map(|token| token.0).chain(tokens.iter().map(|token| token.1)).collect();
        let numbers = Buffer::of_u32(&self.device, &numbers)?;
        let out = DeviceMatrix::new(&self.device, self.format, rows, width)?;
        kernels::embed_norm(
            &*self.device,
            self.format,
            (words.buffer.address(), positions.buffer.address()),
            (numbers.address(), numbers.address() + 4 * rows as u64),
            out.buffer.address(),
            norm.at(),
            (rows, width),
        )?;
        Ok(out)
    }

    fn project(
        &self,
        linear: &Linear<D>,
        outputs: Range<usize>,
        x: &DeviceMatrix<D>,
    ) -> Result<DeviceMatrix<D>, Fault> {
        self.multiply(linear, outputs, x, true)
    }

    fn columns(rows: &DeviceMatrix<D>, columns: Range<usize>) -> Result<DeviceMatrix<D>, Fault> {
        let columns = rows.columns.start + columns.start..rows.columns.start + columns.end;
        Ok(DeviceMatrix { buffer: Arc::clone(&rows.buffer), columns, ..*rows })
    }

    fn select(&self, x: &DeviceMatrix<D>, batch: &Batch, kept: KeptTokens) -> Result<DeviceMatrix<D>, Fault> {
        let index = self.index();
        let listed: Vec<u32>;
        let placed;
        let (chosen, rows) = match kept {
            KeptTokens::First => (index.buffer.address(), index.texts),
            KeptTokens::Every | KeptTokens::Last => {
                listed = kept.rows(batch).map(|row| row as u32).collect();
                placed = Buffer::of_u32(&self.device, &listed)?;
                (placed.address(), listed.len())
            }
        };
        let out = DeviceMatrix::new(&self.device, x.format, rows, x.stride)?;
        kernels::select_rows(&*self.device, x.format, (x.adjacent(), chosen, out.buffer.address()), (rows, x.stride))?;
        Ok(out)
    }

    fn attention(
        &self,
        queries: &DeviceMatrix<D>,
        keys_values: &DeviceMatrix<D>,
        _: &Batch,
        heads: Heads,
    ) -> Result<DeviceMatrix<D>, Fault> {
        self.attend(queries, keys_values, (heads, None))
    }

    fn keys_values(&self, _: Vec<f32>, _: Vec<f32>, _: Vec<f32>) -> Result<(), Fault> {
        Ok(())
    }

    fn context(
        &self,
        qkv: &Linear<D>,
        x: &DeviceMatrix<D>,
        _: &Batch,
        scoring: (Heads, Option<&ScoreBias<D>>),
    ) -> Result<DeviceMatrix<D>, Fault> {
        let hidden = scoring.0.count * scoring.0.size;
        let qkv = self.project(qkv, 0..3 * hidden, x)?;
        let (queries, keys_values) = (Self::columns(&qkv, 0..hidden)?, Self::columns(&qkv, hidden..3 * hidden)?);
        drop(qkv);
        self.attend(&queries, &keys_values, scoring)
    }

    fn first_context(
        &self,
        queries: &DeviceMatrix<D>,
        x: &DeviceMatrix<D>,
        (qkv, ()): (&Linear<D>, &()),
        _: &Batch,
        scoring: (Heads, Option<&ScoreBias<D>>),
    ) -> Result<DeviceMatrix<D>, Fault> {
        let hidden = scoring.0.count * scoring.0.size;
        let keys_values = self.project(qkv, hidden..3 * hidden, x)?;
        self.attend(queries, &keys_values, scoring)
    }

    fn add_norm(
        &self,
        linear: &Linear<D>,
        norm: &Norm<D>,
        x: &DeviceMatrix<D>,
        residual: &DeviceMatrix<D>,
    ) -> Result<DeviceMatrix<D>, Fault> {
        let sum = self.multiply(linear, 0..linear.outputs, x, false)?;
        let out = DeviceMatrix::new(&self.device, self.format, x.rows, linear.outputs)?;
        kernels::add_norm(
            &*self.device,
            self.format,
            (sum.buffer.address(), linear.bias_f32.address(), residual.adjacent()),
            out.buffer.address(),
            norm.at(),
            (x.rows, linear.outputs),
        )?;
        Ok(out)
    }

    fn feed_forward(
        &self,
        x: &DeviceMatrix<D>,
        up: &Linear<D>,
        activation: Activation,
        down: &Linear<D>,
        norm: &Norm<D>,
    ) -> Result<DeviceMatrix<D>, Fault> {
        let inner = self.multiply(up, 0..up.outputs, x, false)?;
        let at = (inner.buffer.address(), up.bias_f32.address());
        kernels::activate(&*self.device, self.format, at, (x.rows, up.outputs), activation)?;
        self.add_norm(down, norm, &inner, x)
    }
}

impl<D: Device> Probe for Gpu<D> {
    fn is_lost(fault: &Fault) -> bool {
        matches!(fault, Fault::Lost { .. })
    }

    fn for_batch(&self, batch: &Batch, heads: Heads) -> Result<Self, Fault> {
        Gpu::for_batch(&self.device, self.format, batch, heads)
    }

    fn place(&self, numbers: &[f32], rows: usize) -> Result<(DeviceMatrix<D>, Vec<f64>), Fault> {
        let bytes = self.format.encode(numbers);
        let placed = DeviceMatrix::new(&self.device, self.format, rows, numbers.len() / rows)?;
        self.device.upload(placed.buffer.address(), &bytes)?;
        Ok((placed, self.format.decode(&bytes).into_iter().map(f64::from).collect()))
    }

    fn rounded(&self, numbers: &[f32]) -> Vec<f32> {
        self.format.decode(&self.format.encode(numbers))
    }

    fn read(&self, rows: &DeviceMatrix<D>) -> Result<Vec<f32>, Fault> {
        rows.buffer.read(&self.device, rows.format, rows.rows * rows.stride)
    }

    fn wait(&self, rows: &DeviceMatrix<D>) -> Result<(), Fault> {
        rows.buffer.read(&self.device, self.format, 1).map(drop)
    }
}
