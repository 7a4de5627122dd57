//! Who may do what: identities from certificates and tokens, one table of calls and roles, and the check of every call
//! against it before any service sees it. Deny by default.

mod layer;
mod session;
mod table;
mod tokens;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

pub(crate) use layer::AccessLayer;
pub(crate) use session::{bind, is_bound};
#[cfg(test)]
pub(crate) use table::call_is_for;
pub(crate) use table::known_call;
pub use tokens::{TokenFile, TokenFileError, TokenLine, token_digest};

use crate::clock::Clock;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Works: sessions, leases, commits.
    Worker,
    /// Submits and steers jobs, and reads them.
    Submitter,
    /// Reads jobs and results.
    Reader,
    /// Everything that people do.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Worker => "worker",
            Role::Submitter => "submit",
            Role::Reader => "read",
            Role::Admin => "admin",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "worker" => Ok(Role::Worker),
            "submit" => Ok(Role::Submitter),
            "read" => Ok(Role::Reader),
            "admin" => Ok(Role::Admin),
            _ => Err(format!("expected `worker`, `submit`, `read` or `admin`, found `{name}`")),
        }
    }
}

/// Somebody who has proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// As the certificate or the token file says.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// Whether calls are checked.
#[derive(Clone, Default)]
pub enum Access {
    /// Every caller that can connect may do everything: for a single process, and for one machine.
    #[default]
    Open,
    /// Every call is checked: by the client's certificate, or by a token.
    Checked {
        /// Tokens that are taken; without a file none are.
        tokens: Option<Arc<TokenFile>>,
    },
}

impl Access {
    /// Checks calls, with the tokens of a file where one is named.
    ///
    /// # Errors
    /// The file cannot be read, or has a line that is no token.
    pub fn checked(tokens: Option<PathBuf>, clock: Arc<dyn Clock>) -> Result<Self, TokenFileError> {
        let tokens = tokens.map(|path| TokenFile::open(path, clock)).transpose()?.map(Arc::new);
        Ok(Self::Checked { tokens })
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Open => "Open",
            Access::Checked { .. } => "Checked",
        })
    }
}
