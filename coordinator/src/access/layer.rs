//! The check of every call, before any service sees it: who calls, and whether they may.

use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{Request, Response};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tower::Layer;
use tracing::warn;
use webpki::EndEntityCert;

use super::table::{Rule, rule};
use super::{Access, Identity, Role};

/// Puts the check before a server's services.
#[derive(Clone)]
pub(crate) struct AccessLayer(pub(crate) Access);

impl<S> Layer<S> for AccessLayer {
    type Service = Checked<S>;

    fn layer(&self, inner: S) -> Checked<S> {
        Checked { access: self.0.clone(), inner }
    }
}

/// Services behind the check.
#[derive(Clone)]
pub(crate) struct Checked<S> {
    access: Access,
    inner: S,
}

impl<S> Service<Request<Body>> for Checked<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match allow(&self.access, &request) {
            Ok(Some(identity)) => {
                request.extensions_mut().insert(identity);
            }
            Ok(None) => {}
            Err(refusal) => return Box::pin(std::future::ready(Ok(refusal.into_http()))),
        }
        Box::pin(self.inner.call(request))
    }
}

/// Lets a call pass, with the identity of its caller where calls are checked; or says why not.
fn allow(access: &Access, request: &Request<Body>) -> Result<Option<Identity>, Status> {
    let Access::Checked { tokens } = access else { return Ok(None) };
    let path = request.uri().path();
    let Some(rule) = rule(path) else {
        return Err(Status::permission_denied("this call is not allowed: the coordinator does not know it"));
    };
    if rule == Rule::Anybody {
        return Ok(None);
    }
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let identity = match token {
        // A token takes precedence over a worker's certificate.
        Some(value) => {
            let token = value.strip_prefix("Bearer ").map(str::trim);
            let known = token.zip(tokens.as_ref()).and_then(|(token, tokens)| tokens.identity(token));
            known.ok_or_else(|| Status::unauthenticated("the token is not valid: unknown, expired or revoked"))?
        }
        None => certified(request).ok_or_else(|| {
            Status::unauthenticated("give a token (--token-file) or a client certificate (--tls-cert)")
        })?,
    };
    if !rule.allows(identity.role) {
        warn!(name = identity.name, role = %identity.role, call = path, "call refused");
        let (name, role) = (&identity.name, identity.role);
        return Err(Status::permission_denied(format!("`{name}` has the role `{role}`, which may not do this")));
    }
    Ok(Some(identity))
}

/// The identity in the client's certificate, which the handshake has checked.
fn certified(request: &Request<Body>) -> Option<Identity> {
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>()?;
    let certificates = info.peer_certs()?;
    of_certificate(&EndEntityCert::try_from(certificates.first()?).ok()?)
}

/// Reads the names of a certificate: `encaje://ROLE/NAME` says both; any other URI, or a DNS name, is a worker's name.
fn of_certificate(certificate: &EndEntityCert<'_>) -> Option<Identity> {
    let uris: Vec<&str> = certificate.valid_uri_names().collect();
    for uri in &uris {
        if let Some((role, name)) = uri.strip_prefix("encaje://").and_then(|rest| rest.split_once('/')) {
            // A role that is not one makes no identity: a typing error must not make a worker.
            let role = role.parse::<Role>().ok()?;
            return (!name.is_empty()).then(|| Identity { name: name.to_owned(), role });
        }
    }
    let name = uris.into_iter().next().or_else(|| certificate.valid_dns_names().next())?;
    Some(Identity { name: name.to_owned(), role: Role::Worker })
}
