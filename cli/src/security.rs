//! Certificates, keys and tokens from where the arguments say they are. Secrets are held as [`Secret`], which
//! is never printed.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use common::{FileWatch, Secret};
use coordinator::{Access, Clock, Tls, TlsFiles};
use proto::{ClientSecurity, Connection};

use crate::args::{IdentityArgs, ServerArgs};
use crate::exit::Advice;

/// The variable that may hold a token; as an option it would be seen by everybody on the machine.
const TOKEN_VARIABLE: &str = "ENCAJE_TOKEN";
/// How often a client looks whether its files have changed.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// The name of standard input.
const STDIN: &str = "-";

/// Reads the credentials of a client and its trusted authority.
fn client_security(args: &IdentityArgs) -> anyhow::Result<ClientSecurity> {
    let identity_pem = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, Secret::new(&read(key)?))),
        (Some(_), None) | (None, Some(_)) => return Err(Advice::usage("--tls-cert and --tls-key go together").into()),
        (None, None) => None,
    };
    let ca_pem = args.tls_ca.as_deref().map(read).transpose()?;
    Ok(ClientSecurity { ca_pem, identity_pem, token: token(args)?, insecure: args.insecure })
}

/// Connects to coordinators, and reloads the certificates and the token whenever their files change, for as long as the
/// runtime lives. Call it within one.
pub(crate) fn connect(urls: &[String], args: &IdentityArgs) -> anyhow::Result<Connection> {
    let token_file = args.token_file.iter().filter(|path| path.as_os_str() != STDIN);
    let files = [&args.tls_ca, &args.tls_cert, &args.tls_key].into_iter().flatten().chain(token_file);
    let watched = FileWatch::new(files.cloned());
    let security = client_security(args)?;
    let connection = Connection::open(urls, &security).map_err(|error| Advice::usage(error.to_string()))?;
    if !watched.is_empty() {
        tokio::spawn(reload_on_change(connection.clone(), args.clone(), security.token, watched));
    }
    Ok(connection)
}

async fn reload_on_change(connection: Connection, args: IdentityArgs, token: Option<Secret>, mut watched: FileWatch) {
    loop {
        tokio::time::sleep(CHECK_EVERY).await;
        if !watched.has_changed() {
            continue;
        }
        match reload(&args, &token).and_then(|security| Ok(connection.renew(&security)?)) {
            Ok(()) => tracing::info!("certificates and token read again"),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "certificates or token have changed and cannot be used; those before still are");
            }
        }
    }
}

/// Reads the credentials of a client again; a token from standard input is kept.
fn reload(args: &IdentityArgs, token: &Option<Secret>) -> anyhow::Result<ClientSecurity> {
    match &args.token_file {
        Some(path) if path.as_os_str() == STDIN => {
            let security = client_security(&IdentityArgs { token_file: None, ..args.clone() })?;
            Ok(ClientSecurity { token: token.clone(), ..security })
        }
        Some(_) | None => client_security(args),
    }
}

fn token(args: &IdentityArgs) -> anyhow::Result<Option<Secret>> {
    let text = match &args.token_file {
        Some(path) if path.as_os_str() == STDIN => {
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

/// TLS and access control of a coordinator.
pub(crate) struct ServerSecurity {
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) access: Access,
}

/// Reads TLS and access control of a coordinator.
pub(crate) fn server_security(args: &ServerArgs, clock: Arc<dyn Clock>) -> anyhow::Result<ServerSecurity> {
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            let (certificate, key) = (certificate.clone(), key.clone());
            let files = TlsFiles { certificate, key, client_ca: args.tls_client_ca.clone() };
            Some(Arc::new(Tls::open(files).context(Advice::usage("the certificates cannot be used"))?))
        }
        _ => None,
    };
    let access =
        if requires_authentication(args) { Access::checked(args.tokens.clone(), clock)? } else { Access::Open };
    Ok(ServerSecurity { tls, access })
}

/// Whether callers must prove who they are.
pub(crate) fn requires_authentication(args: &ServerArgs) -> bool {
    args.tokens.is_some() || args.tls_client_ca.is_some()
}

fn read(path: impl AsRef<Path>) -> anyhow::Result<String> {
    let path = path.as_ref();
    fs::read_to_string(path).with_context(|| Advice::usage(format!("cannot read `{}`", path.display())))
}
