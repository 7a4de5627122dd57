//! A client's connection to a cluster: one channel per coordinator, one of them in use. A coordinator that cannot be
//! reached, says UNAVAILABLE or does not answer is left for the next one; a good one is kept, and changed now and then so
//! that a coordinator that came back gets its share.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::StdError;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tower::{Service, ServiceExt};

use crate::transport::{TransportError, endpoint};
use crate::wire::Wire;
use common::{Secret, error_chain, rng};

/// A coordinator is kept for so long at least, and for twice as long at most; then another one is drawn.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// The status code UNAVAILABLE, as in headers.
const UNAVAILABLE: &[u8] = b"14";

/// How a client proves who it is, and whom it believes.
#[derive(Debug, Clone, Default)]
pub struct ClientSecurity {
    /// Certificates of the authorities that coordinators' certificates are checked against, PEM. `https://` needs them.
    pub ca_pem: Option<String>,
    /// This client's certificate and its private key, PEM.
    pub identity_pem: Option<(String, Secret)>,
    /// The bearer token that goes with every call.
    pub token: Option<Secret>,
    /// Lets a token travel in the clear to another machine.
    pub insecure: bool,
}

/// A connection to one or several coordinators. Clones share everything.
#[derive(Clone)]
pub struct Connection {
    state: Arc<ConnectionState>,
}

struct ConnectionState {
    members: Vec<Member>,
    choice: Mutex<Choice>,
    authorization: Mutex<Option<HeaderValue>>,
}

struct Member {
    /// Where it is; empty where that is not known.
    url: String,
    way: Mutex<Way>,
}

/// How to get to a coordinator.
struct Way {
    /// How the channel is rebuilt, and the runtime that its task belongs to; `None` where it cannot be.
    origin: Option<(Endpoint, Handle)>,
    wire: Wire,
}

/// Which coordinator is in use, and until when.
#[derive(Debug, Clone, Copy)]
struct Choice {
    index: usize,
    until: Instant,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("coordinators", &self.state.members.len()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Makes a connection to the coordinators at `urls` (`http://host:port`, `https://host:port` or `host:port`), which
    /// connects when it is first used. The first one is drawn at random. Must be called within a tokio runtime, which has
    /// to live as long as the connection.
    ///
    /// # Errors
    /// No URL, a malformed one, `https://` without authorities, or a token that would travel in the clear.
    pub fn open(urls: &[String], security: &ClientSecurity) -> Result<Self, TransportError> {
        let bad =
            |url: &str, problem: &str| TransportError::Address { url: url.to_owned(), problem: problem.to_owned() };
        let mut members = Vec::with_capacity(urls.len());
        for url in urls {
            let endpoint = secured(url, security)?;
            let wire = endpoint.connect_lazy().into();
            let way = Mutex::new(Way { origin: Some((endpoint, Handle::current())), wire });
            members.push(Member { url: url.clone(), way });
        }
        if members.is_empty() {
            return Err(bad("", "no coordinator is named"));
        }
        Ok(Self::among(members, bearer(security)?))
    }

    /// Takes these certificates and this token in place of those it was opened with. Calls under way keep theirs.
    ///
    /// # Errors
    /// As of [`Connection::open`]; then nothing has changed.
    pub fn renew(&self, security: &ClientSecurity) -> Result<(), TransportError> {
        let authorization = bearer(security)?;
        let known = self.state.members.iter().filter(|member| !member.url.is_empty());
        let renewed: Vec<_> =
            known.map(|member| Ok((member, secured(&member.url, security)?))).collect::<Result<_, TransportError>>()?;
        *self.state.authorization.lock().unwrap_or_else(PoisonError::into_inner) = authorization;
        for (member, endpoint) in renewed {
            member.renew(Some(endpoint));
        }
        Ok(())
    }

    /// Makes a connection of one way to each of several coordinators; at least one.
    pub fn over(wires: Vec<Wire>) -> Self {
        let member = |wire| Member { url: String::new(), way: Mutex::new(Way { origin: None, wire }) };
        Self::among(wires.into_iter().map(member).collect(), None)
    }

    fn among(members: Vec<Member>, authorization: Option<HeaderValue>) -> Self {
        let choice = Mutex::new(Choice::among(members.len(), Instant::now()));
        let authorization = Mutex::new(authorization);
        Self { state: Arc::new(ConnectionState { members, choice, authorization }) }
    }
}

/// What goes with every call, for a token.
fn bearer(security: &ClientSecurity) -> Result<Option<HeaderValue>, TransportError> {
    let Some(token) = &security.token else { return Ok(None) };
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| TransportError::Token)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn secured(url: &str, security: &ClientSecurity) -> Result<Endpoint, TransportError> {
    let bad = |problem: String| TransportError::Address { url: url.to_owned(), problem };
    let endpoint = endpoint(url)?;
    let uri = endpoint.uri();
    if uri.scheme_str() != Some("https") {
        let here = uri.host().is_some_and(is_loopback);
        if security.token.is_some() && !here && !security.insecure {
            return Err(bad("a token would travel in the clear, use https:// (or --insecure)".to_owned()));
        }
        return Ok(endpoint);
    }
    let Some(ca) = &security.ca_pem else {
        return Err(bad(
            "https:// needs the authority that signed the coordinator's certificate: give --tls-ca".to_owned()
        ));
    };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).timeout(Duration::from_secs(10));
    if let Some((certificate, key)) = &security.identity_pem {
        tls = tls.identity(Identity::from_pem(certificate, key.expose()));
    }
    endpoint.tls_config(tls).map_err(|error| bad(format!("its certificates cannot be used: {}", error_chain(&error))))
}

/// Whether a host in a URL is this machine, whatever the network does.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl From<Connection> for Wire {
    fn from(connection: Connection) -> Self {
        Self::new(connection)
    }
}

impl Choice {
    fn among(members: usize, now: Instant) -> Self {
        let index = (rng::unit_f64() * members as f64) as usize;
        let index = index.min(members - 1);
        Self::of(index, now)
    }

    fn of(index: usize, now: Instant) -> Self {
        Self { index, until: now + KEPT_FOR.mul_f64(1.0 + rng::unit_f64()) }
    }
}

impl ConnectionState {
    /// Returns the coordinator to ask, and draws another one where this one had its time.
    fn chosen(&self, now: Instant) -> (usize, Wire) {
        let mut choice = self.choice();
        if self.members.len() > 1 && now >= choice.until {
            let before = choice.index;
            *choice = Choice::among(self.members.len(), now);
            if choice.index != before {
                // Calls under way keep the old connection alive; it ends with the last of them.
                self.members[before].renew(None);
            }
        }
        (choice.index, self.members[choice.index].wire())
    }

    /// Turns to the next coordinator, unless somebody has done so already.
    fn leave(&self, index: usize) {
        let mut choice = self.choice();
        if self.members.len() > 1 && choice.index == index {
            *choice = Choice::of((index + 1) % self.members.len(), Instant::now());
        }
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn wire(&self) -> Wire {
        self.way().wire.clone()
    }

    /// Takes a fresh channel, to another endpoint if there is one. Its task belongs to the runtime that made the first
    /// one: the caller's may be short-lived.
    fn renew(&self, other: Option<Endpoint>) {
        let mut way = self.way();
        let Way { origin: Some((endpoint, runtime)), wire } = &mut *way else { return };
        if let Some(other) = other {
            *endpoint = other;
        }
        let _runtime = runtime.enter();
        *wire = endpoint.connect_lazy().into();
    }

    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way. Dropped before it is answered (the caller ran out of time), it counts against the coordinator.
struct Unanswered {
    state: Arc<ConnectionState>,
    index: usize,
    answered: bool,
}

impl Unanswered {
    /// Notes that the coordinator did its duty.
    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if !self.answered {
            self.state.leave(self.index);
        }
    }
}

/// The future of a call.
pub type Call = Pin<Box<dyn Future<Output = Result<Response<Body>, StdError>> + Send>>;

impl Service<Request<Body>> for Connection {
    type Response = Response<Body>;
    type Error = StdError;
    type Future = Call;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Which channel it will be is only known when the call is made; it is waited for there.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (index, mut wire) = self.state.chosen(Instant::now());
        let authorization = self.state.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        let call = Unanswered { state: Arc::clone(&self.state), index, answered: false };
        Box::pin(async move {
            let response = wire.ready().await?.call(request).await?;
            let away = response.headers().get("grpc-status").is_some_and(|code| code.as_bytes() == UNAVAILABLE);
            if !away {
                call.answered();
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(connection: &Connection) -> usize {
        connection.state.chosen(Instant::now()).0
    }

    fn urls(count: usize) -> Vec<String> {
        (1..=count).map(|port| format!("127.0.0.1:{port}")).collect()
    }

    #[tokio::test]
    async fn the_next_coordinator_is_taken_once_however_many_calls_failed() {
        let connection = Connection::open(&urls(3), &ClientSecurity::default()).unwrap();
        let first = chosen(&connection);
        connection.state.leave(first);
        connection.state.leave(first);
        assert_eq!(chosen(&connection), (first + 1) % 3);
    }

    #[tokio::test]
    async fn a_coordinator_is_kept_for_a_while_and_not_for_ever() {
        let connection = Connection::open(&urls(50), &ClientSecurity::default()).unwrap();
        let (start, first) = (Instant::now(), chosen(&connection));
        assert_eq!(connection.state.chosen(start + KEPT_FOR - Duration::from_secs(60)).0, first);
        let later = |turn: u32| connection.state.chosen(start + KEPT_FOR * 3 * turn).0;
        let seen: std::collections::BTreeSet<usize> = (1..=10).map(later).collect();
        assert!(seen.len() > 1, "{seen:?}");
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_counts_against_its_coordinator() {
        let connection = Connection::open(&urls(2), &ClientSecurity::default()).unwrap();
        let first = chosen(&connection);
        drop(connection.clone().call(Request::new(Body::empty())));
        assert_ne!(chosen(&connection), first);
    }

    #[tokio::test]
    async fn a_token_does_not_leave_the_machine_in_the_clear() {
        let token = Some(Secret::new("t"));
        let open = |url: &str, insecure| {
            Connection::open(
                &[url.to_owned()],
                &ClientSecurity { token: token.clone(), insecure, ..Default::default() },
            )
        };
        assert!(open("http://127.0.0.1:1", false).is_ok() && open("http://[::1]:1", false).is_ok());
        assert!(open("http://10.0.0.1:1", true).is_ok());
        let error = open("http://10.0.0.1:1", false).unwrap_err().to_string();
        assert!(error.contains("in the clear"), "{error}");
        let error = open("https://10.0.0.1:1", false).unwrap_err().to_string();
        assert!(error.contains("--tls-ca"), "{error}");
    }
}
