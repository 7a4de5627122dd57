//! Where an output is read or written: a path of this machine, or a URL.

use std::ffi::OsStr;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser, ValueParserFactory};
use clap::error::ErrorKind;
use clap::{Arg, Command};
use dataset::vectors::place;
use serde::Serialize;

/// A path, or a URL (`s3://`, `gs://`, `az://`, `https://`) in the form of a path. Options of type `PathBuf` refuse URLs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Place(PathBuf);

impl ValueParserFactory for Place {
    type Parser = PlaceParser;

    fn value_parser() -> PlaceParser {
        PlaceParser
    }
}

/// Parses a [`Place`]. What is refused is not repeated, since it may hold a password.
#[derive(Debug, Clone)]
pub(crate) struct PlaceParser;

impl TypedValueParser for PlaceParser {
    type Value = Place;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Place, clap::Error> {
        let path = PathBufValueParser::new().parse_ref(command, arg, value)?;
        match place::check_readable(&path) {
            Ok(()) => Ok(Place(path)),
            Err(error) => Err(clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n")).with_cmd(command)),
        }
    }
}

impl Deref for Place {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for Place {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}
