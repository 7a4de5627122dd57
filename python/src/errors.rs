//! Rust's errors as the exceptions of `encaje._errors`.

use std::error::Error;

use pyo3::prelude::*;
use pyo3::types::PyType;

/// A class of `encaje._errors`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Class {
    Model,
    Corpus,
    Vectors,
    Usage,
    Error,
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Class::Model => "ModelError",
            Class::Corpus => "CorpusError",
            Class::Vectors => "VectorsError",
            Class::Usage => "UsageError",
            Class::Error => "Error",
        }
    }

    /// An exception of this class with a message.
    pub(crate) fn message(self, message: impl Into<String>) -> PyErr {
        let message = message.into();
        Python::attach(|py| match py.import("encaje._errors").and_then(|module| module.getattr(self.name())) {
            Ok(class) => match class.cast_into::<PyType>() {
                Ok(class) => PyErr::from_type(class, message),
                Err(error) => error.into(),
            },
            Err(error) => error,
        })
    }

    /// An exception of this class that says an error with its causes.
    pub(crate) fn of(self, error: &dyn Error) -> PyErr {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        self.message(message)
    }
}
