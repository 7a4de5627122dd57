//! Groups of arguments that several commands share. The arguments of a single command are in its file.

mod cluster;
mod corpus;
mod job;
mod model;
mod picture;
mod place;
mod plot;
mod security;
mod values;

pub(crate) use cluster::ClusterArgs;
pub(crate) use corpus::{CorpusArgs, DialectArgs};
pub(crate) use job::{CutArgs, JobArgs};
pub(crate) use model::{HubArgs, ModelArgs, PromptArgs};
pub(crate) use picture::PictureArgs;
pub(crate) use place::Place;
pub(crate) use plot::{LabelTypeArg, MetricArg, UmapArgs};
pub(crate) use security::{IdentityArgs, ServerArgs};
pub(crate) use values::{Auto, DeviceArg, OWN_POOLING, auto_or, parse_device, parse_duration, parse_keep, parse_role};
