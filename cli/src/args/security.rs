//! How clients and coordinators prove who they are. A secret is never an argument: it comes from a file, standard input,
//! or the environment.

use std::path::PathBuf;

use clap::Args;

/// How a client proves who it is, and whom it believes. Files are read again when they change.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct IdentityArgs {
    /// Believes coordinators whose certificate this authority signed (PEM); `https://` needs it.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Shows this certificate (PEM), as workers do.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Shows the token in this file, or the one on standard input (`-`). The environment variable `ENCAJE_TOKEN` may hold
    /// the token itself.
    #[arg(long, value_name = "FILE|-")]
    pub(crate) token_file: Option<PathBuf>,
    /// Sends a token over a connection that others can read.
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// How a coordinator proves who it is, and whom it lets in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Security")]
pub(crate) struct ServerArgs {
    /// Shows this certificate (PEM) and serves `https://` only. It, its key and --tls-client-ca are read again when they
    /// change.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Lets in workers whose certificate this authority signed (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Lets in people whose token's digest is in this file; see `encaje token new`. It is read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    /// Accepts connections from other machines even without authentication or encryption.
    #[arg(long)]
    pub(crate) insecure: bool,
}
