//! One file per command: arguments in, a library call, words out.

pub(crate) mod completions;
pub(crate) mod export;
pub(crate) mod list;
pub(crate) mod merge;
pub(crate) mod model;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod tokenize;
pub(crate) mod verify;
