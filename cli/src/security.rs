//! Certificates, keys and tokens from where the arguments say they are. What is secret comes in as a [`Secret`] and is
//! shown to nobody.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use coordinator::{Access, Clock};
use proto::{ClientSecurity, Secret};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::args::{IdentityArgs, ServerArgs};
use crate::exit::Advice;

/// The variable that may hold a token; as an option it would be seen by everybody on the machine.
const TOKEN_VARIABLE: &str = "ENCAJE_TOKEN";
/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Reads what a client shows and believes.
pub(crate) fn of_client(args: &IdentityArgs) -> anyhow::Result<ClientSecurity> {
    let identity_pem = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, Secret::new(&read(key)?))),
        (Some(_), None) | (None, Some(_)) => return Err(Advice::usage("--tls-cert and --tls-key go together").into()),
        (None, None) => None,
    };
    let ca_pem = args.tls_ca.as_deref().map(read).transpose()?;
    Ok(ClientSecurity { ca_pem, identity_pem, token: token(args)?, insecure: args.insecure })
}

fn token(args: &IdentityArgs) -> anyhow::Result<Option<Secret>> {
    let text = match &args.token_file {
        Some(path) if path.as_os_str() == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read the token from standard input")?;
            Some(text)
        }
        Some(path) => Some(read(path)?),
        None => std::env::var(TOKEN_VARIABLE).ok(),
    };
    let token = text.map(|text| Secret::new(&text)).filter(|token| !token.expose().is_empty());
    if token.is_none() && args.token_file.is_some() {
        return Err(Advice::usage("--token-file holds no token").into());
    }
    Ok(token)
}

/// What a coordinator shows, and whom it lets in.
pub(crate) struct ServerSecurity {
    pub(crate) tls: Option<ServerTlsConfig>,
    pub(crate) access: Access,
}

/// Reads what a coordinator shows and whom it lets in.
pub(crate) fn of_server(args: &ServerArgs, clock: Arc<dyn Clock>) -> anyhow::Result<ServerSecurity> {
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            let identity = Identity::from_pem(read(certificate)?, Secret::new(&read(key)?).expose());
            let mut tls = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_MAX);
            if let Some(authority) = &args.tls_client_ca {
                // People come with tokens: who must show a certificate is decided call by call.
                tls = tls.client_ca_root(Certificate::from_pem(read(authority)?)).client_auth_optional(true);
            }
            Some(tls)
        }
        _ => None,
    };
    let access = if checks(args) { Access::checked(args.tokens.clone(), clock)? } else { Access::Open };
    Ok(ServerSecurity { tls, access })
}

/// Whether callers must prove who they are.
pub(crate) fn checks(args: &ServerArgs) -> bool {
    args.tokens.is_some() || args.tls_client_ca.is_some()
}

fn read(path: impl AsRef<Path>) -> anyhow::Result<String> {
    let path = path.as_ref();
    fs::read_to_string(path).with_context(|| Advice::usage(format!("cannot read `{}`", path.display())))
}
