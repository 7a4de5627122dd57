//! Reads tensors out of a `.safetensors` file, one at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::sniff;
use crate::LoadError;

/// Maximum header size, the limit of the format.
const HEADER_BYTES_MAX: u64 = 100_000_000;

pub(super) struct SafetensorsFile {
    path: PathBuf,
    tensors: HashMap<String, TensorInfo>,
    /// Offset of the tensor data.
    data_start: u64,
}

impl SafetensorsFile {
    /// Reads the header and checks it against the file's length.
    pub(super) fn open(path: &Path) -> Result<SafetensorsFile, LoadError> {
        let read_error = |source| LoadError::Read { path: path.into(), source };
        let invalid = |problem: String| LoadError::Invalid { path: path.into(), problem };
        let mut file = File::open(path).map_err(read_error)?;
        let file_bytes = file.metadata().map_err(read_error)?.len();
        let mut head = Vec::new();
        file.by_ref().take(8).read_to_end(&mut head).map_err(read_error)?;
        let header_bytes = <[u8; 8]>::try_from(head.as_slice()).map_or(u64::MAX, u64::from_le_bytes);
        if header_bytes > HEADER_BYTES_MAX || header_bytes + 8 > file_bytes {
            file.by_ref().take(32).read_to_end(&mut head).map_err(read_error)?;
            return Err(invalid(format!("not a safetensors file: {}", sniff(&head))));
        }
        file.by_ref().take(header_bytes).read_to_end(&mut head).map_err(read_error)?;
        // The library's reader wants the whole file in memory, so the length is checked here.
        let json = std::str::from_utf8(&head[8..]).map_err(|_| invalid("its header is not UTF-8".into()))?;
        let metadata: safetensors::tensor::Metadata =
            serde_json::from_str(json).map_err(|error| invalid(format!("its header is damaged: {error}")))?;
        let data_bytes = metadata.data_len() as u64;
        if 8 + header_bytes + data_bytes != file_bytes {
            return Err(invalid(format!(
                "its header describes {data_bytes} bytes of tensors, but the file has {}: it is truncated or damaged",
                file_bytes - 8 - header_bytes
            )));
        }
        let tensors = metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        Ok(SafetensorsFile { path: path.into(), tensors, data_start: 8 + header_bytes })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.tensors.keys().cloned()
    }

    /// Returns the shape of a tensor if its type is supported.
    pub(super) fn shape(&self, name: &str) -> Result<Vec<usize>, String> {
        let info = &self.tensors[name];
        match info.dtype {
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(info.shape.clone()),
            other => Err(unsupported(other)),
        }
    }

    /// Reads one tensor as f32.
    pub(super) fn read(&self, name: &str) -> Result<Vec<f32>, String> {
        let info = &self.tensors[name];
        let (start, end) = info.data_offsets;
        let place = self.data_start + start as u64;
        if info.dtype == Dtype::F32 && cfg!(target_endian = "little") {
            // The common case, and a large one: read without another copy.
            let mut numbers = vec![0.0_f32; (end - start) / size_of::<f32>()];
            self.read_at(place, bytemuck::cast_slice_mut(&mut numbers))?;
            return Ok(numbers);
        }
        let mut bytes = vec![0; end - start];
        self.read_at(place, &mut bytes)?;
        match info.dtype {
            Dtype::F64 => Ok(numbers(&bytes, |bytes| f64::from_le_bytes(bytes) as f32)),
            Dtype::F32 => Ok(numbers(&bytes, f32::from_le_bytes)),
            Dtype::F16 => Ok(numbers(&bytes, |bytes| f16::from_le_bytes(bytes).to_f32())),
            Dtype::BF16 => Ok(numbers(&bytes, |bytes| bf16::from_le_bytes(bytes).to_f32())),
            other => Err(unsupported(other)),
        }
    }

    /// Reads a list of integers.
    pub(super) fn integers(&self, name: &str) -> Result<Vec<i64>, String> {
        let info = &self.tensors[name];
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        if info.shape.len() != 1 {
            return Err(format!("its shape is {:?}, and it should be a list", info.shape));
        }
        self.read_at(self.data_start + start as u64, &mut bytes)?;
        match info.dtype {
            Dtype::I64 => Ok(numbers(&bytes, i64::from_le_bytes)),
            Dtype::I32 => Ok(numbers(&bytes, |bytes| i32::from_le_bytes(bytes).into())),
            other => Err(format!("stored as {other:?}, but only i64 and i32 are read")),
        }
    }

    fn read_at(&self, place: u64, bytes: &mut [u8]) -> Result<(), String> {
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(place))?;
            file.read_exact(bytes)
        });
        read.map_err(|error| error.to_string())
    }
}

fn numbers<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|bytes| read(*bytes)).collect()
}

fn unsupported(dtype: Dtype) -> String {
    format!("stored as {dtype:?}, but only f64, f32, f16 and bf16 are read")
}
