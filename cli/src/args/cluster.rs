//! How a cluster is reached.

use clap::Args;

use super::IdentityArgs;

/// How to reach a cluster.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// The coordinators: URLs such as `http://host:7600`, separated by commas. One that does not answer is passed over.
    #[arg(long, value_name = "URL,...", value_delimiter = ',')]
    pub(crate) coordinator: Vec<String>,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
}
