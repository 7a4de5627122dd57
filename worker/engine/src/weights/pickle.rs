//! Reads tensors out of a `pytorch_model.bin`: a zip archive with a pickle that lists them.
//!
//! The pickle is read as data by candle's reader, which knows the few shapes that a list of tensors can take and runs
//! nothing: a pickle that names any other callable contributes no tensor.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use candle_core::pickle::PthTensors;

use super::sniff;
use crate::LoadError;

/// An opened checkpoint.
pub(super) struct PickleFile {
    tensors: PthTensors,
}

impl PickleFile {
    /// Reads the list of tensors.
    pub(super) fn open(path: &Path) -> Result<PickleFile, LoadError> {
        let invalid = |problem: String| LoadError::Invalid { path: path.into(), problem };
        let mut head = Vec::new();
        File::open(path)
            .and_then(|file| file.take(32).read_to_end(&mut head))
            .map_err(|source| LoadError::Read { path: path.into(), source })?;
        if !head.starts_with(b"PK") {
            // Before PyTorch 1.6 (2020), checkpoints were bare pickles, one after another.
            let problem = match head.first() {
                Some(0x80) => {
                    "a checkpoint of the format before PyTorch 1.6, which is not read: \
                     load and save it again with a newer PyTorch, or take the model's safetensors"
                }
                _ => sniff(&head),
            };
            return Err(invalid(format!("not a PyTorch checkpoint: {problem}")));
        }
        // Some checkpoints wrap the list in an object: `{"state_dict": …}`.
        let tensors = checkpoint(path, None).map_err(invalid)?;
        let tensors = match tensors.tensor_infos().is_empty() {
            true => checkpoint(path, Some("state_dict")).map_err(invalid)?,
            false => tensors,
        };
        if tensors.tensor_infos().is_empty() {
            return Err(invalid("not a PyTorch checkpoint: it lists no tensors".into()));
        }
        Ok(PickleFile { tensors })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.tensors.tensor_infos().keys().cloned()
    }

    pub(super) fn shape(&self, name: &str) -> Vec<usize> {
        self.tensors.tensor_infos()[name].layout.dims().to_vec()
    }

    /// Reads one tensor in the type it is stored in.
    pub(super) fn read(&self, name: &str) -> Result<Tensor, String> {
        match self.tensors.get(name) {
            Ok(Some(tensor)) => Ok(tensor),
            Ok(None) => Err("missing".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Reads the list of tensors. The reader indexes into argument lists without looking, and so panics on a damaged or
/// hostile pickle; here that is one more way of being damaged.
fn checkpoint(path: &Path, key: Option<&str>) -> Result<PthTensors, String> {
    let path: PathBuf = path.into();
    match std::panic::catch_unwind(|| PthTensors::new(&path, key)) {
        Ok(Ok(tensors)) => Ok(tensors),
        Ok(Err(error)) => Err(format!("not a PyTorch checkpoint: {error}")),
        Err(_) => Err("not a PyTorch checkpoint: the list of tensors is damaged".into()),
    }
}
