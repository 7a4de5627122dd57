//! Reads and writes `.safetensors` files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, View};

/// A tensor in its stored form.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    pub(crate) fn f32(shape: &[usize], numbers: &[f32]) -> Tensor {
        Tensor { dtype: Dtype::F32, shape: shape.to_vec(), bytes: bytemuck::cast_slice(numbers).to_vec() }
    }

    pub(crate) fn f64(numbers: &[f64]) -> Tensor {
        Tensor { dtype: Dtype::F64, shape: vec![numbers.len()], bytes: bytemuck::cast_slice(numbers).to_vec() }
    }

    pub(crate) fn i64(numbers: &[i64]) -> Tensor {
        Tensor { dtype: Dtype::I64, shape: vec![numbers.len()], bytes: bytemuck::cast_slice(numbers).to_vec() }
    }

    /// Returns the numbers of a tensor of f32.
    pub(crate) fn numbers(&self) -> Vec<f32> {
        assert_eq!(self.dtype, Dtype::F32);
        self.bytes.as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
    }

    /// Returns the tensor with other numbers.
    pub(crate) fn map(&self, change: impl Fn(f32) -> f32) -> Tensor {
        let numbers: Vec<f32> = self.numbers().into_iter().map(change).collect();
        Tensor::f32(&self.shape, &numbers)
    }
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

pub(crate) fn load(path: &Path) -> BTreeMap<String, Tensor> {
    let file = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        (name, Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() })
    };
    tensors.tensors().into_iter().map(tensor).collect()
}

pub(crate) fn save(tensors: &BTreeMap<String, Tensor>, path: &Path) {
    std::fs::write(path, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

/// Changes a file.
pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
    let mut tensors = load(path);
    change(&mut tensors);
    save(&tensors, path);
}
