//! One file per command: arguments in, a library call, words out.

pub(crate) mod certs;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod coordinator;
pub(crate) mod download;
pub(crate) mod export;
pub(crate) mod fill_mask;
pub(crate) mod list;
pub(crate) mod merge;
pub(crate) mod model;
pub(crate) mod project;
pub(crate) mod repair;
pub(crate) mod run;
pub(crate) mod self_test;
pub(crate) mod similarity;
pub(crate) mod status;
pub(crate) mod steer;
pub(crate) mod submit;
pub(crate) mod token;
pub(crate) mod tokenize;
pub(crate) mod verify;
pub(crate) mod worker;
