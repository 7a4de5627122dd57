//! Arguments about certificates and tokens. A secret is never an argument: it comes from a file, standard input, or the
//! environment.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::values::parse_role;
use coordinator::access::Role;

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
    /// Lets others than this machine connect although they need not prove who they are, or can be overheard.
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// `encaje certs`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje certs --out certs/ --host coordinator.example.org --host 10.0.0.5")]
pub(crate) struct CertsArgs {
    /// Writes the files to this directory, which must not hold any of them yet.
    #[arg(long, value_name = "DIR", env = "ENCAJE_CERTS_OUT")]
    pub(crate) out: PathBuf,
    /// A name or address under which coordinators are reached; may be given several times. `localhost` is always one.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,
    /// A worker to make a certificate for; may be given several times. The default is one named `worker`.
    #[arg(long, value_name = "NAME")]
    pub(crate) worker: Vec<String>,
    /// How long the certificates are valid.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,
}

/// `encaje token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes a token, prints it once, and adds its digest to a token file.
    New(TokenNewArgs),
    /// Lists the tokens of a token file.
    List(TokenFileArgs),
    /// Takes a name's tokens out of a token file; coordinators notice within a second or so.
    Revoke(TokenRevokeArgs),
}

/// Which token file.
#[derive(Debug, Args)]
pub(crate) struct TokenFileArgs {
    /// The token file of the coordinators.
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: PathBuf,
}

/// `encaje token new`.
#[derive(Debug, Args)]
pub(crate) struct TokenNewArgs {
    #[command(flatten)]
    pub(crate) file: TokenFileArgs,
    /// Whose token it is.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// What it is for: `read`, `submit` (which reads too), `worker` or `admin`.
    #[arg(long, value_name = "SCOPE", value_parser = parse_role)]
    pub(crate) scope: Role,
    /// How long it is valid.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,
}

/// `encaje token revoke`.
#[derive(Debug, Args)]
pub(crate) struct TokenRevokeArgs {
    #[command(flatten)]
    pub(crate) file: TokenFileArgs,
    /// Whose tokens.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}
