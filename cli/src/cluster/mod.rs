//! A cluster as a client sees it.

mod client;
mod manifest;
mod report;
mod status;

pub(crate) use client::{Cluster, connect, runtime};
pub(crate) use manifest::manifest_of;
pub(crate) use report::{JOBS_SHOWN, JobReport, list_jobs};
pub(crate) use status::{exit_code, missing, no_result_error, obstacle, outdated, reading};
