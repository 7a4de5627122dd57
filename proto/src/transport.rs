//! Connections: how a client reaches a coordinator, and what a coordinator serves. In-process and TCP differ in which
//! stream of connections is served, and in nothing else.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Uri};

/// A ping on every connection so often, idle ones too: proxies and clouds cut what is silent for minutes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// A connection whose ping is not answered for so long is dead.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Most bytes of one message, both ways. Rows never travel by gRPC; lists are paged.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most bytes of headers.
pub const HEADER_BYTES_MAX: u32 = 16 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes in flight, per direction, in one in-process connection.
const DUPLEX_BYTES: usize = 256 * 1024;
/// In-process connections that wait to be accepted.
const DUPLEX_BACKLOG: usize = 16;

/// A coordinator cannot be reached, or cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address cannot be understood.
    #[error("bad coordinator address `{url}`: {problem}")]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The token cannot be sent.
    #[error("the token has characters that no token has")]
    Token,
    /// No answer.
    #[error("cannot reach a coordinator at `{url}`: is it running?")]
    Connect {
        /// As given.
        url: String,
        /// The cause.
        #[source]
        source: tonic::transport::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// As given.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Connections made by [`in_process`] clients.
pub type InProcessIncoming = ReceiverStream<io::Result<DuplexStream>>;

/// Connects to the coordinator at `url` in the clear: `http://host:port`, or `host:port`. The channel reconnects by itself
/// later on. For certificates and several coordinators see [`crate::Connection`].
///
/// # Errors
/// The address is malformed, or there is no answer within 10 s.
pub async fn connect(url: &str) -> Result<Channel, TransportError> {
    let endpoint = endpoint(url)?;
    if endpoint.uri().scheme_str() == Some("https") {
        let problem = "scheme `https` needs certificates".to_owned();
        return Err(TransportError::Address { url: url.to_owned(), problem });
    }
    endpoint.connect().await.map_err(|source| TransportError::Connect { url: url.to_owned(), source })
}

/// Listens for TCP connections; port 0 lets the system choose, and `local_addr()` tells which.
///
/// # Errors
/// The address is taken or not ours.
pub async fn listen(address: SocketAddr) -> Result<TcpIncoming, TransportError> {
    let failed = |source| TransportError::Listen { address, source };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    Ok(TcpIncoming::from(listener).with_nodelay(Some(true)))
}

/// Makes both ends of a connection within this process. Every connect makes a fresh pipe, so a client that lost its
/// connection gets another as it would over TCP; once the incoming stream is dropped, connecting fails.
///
/// Must be called within a tokio runtime.
pub fn in_process() -> (Channel, InProcessIncoming) {
    let (accept, incoming) = mpsc::channel(DUPLEX_BACKLOG);
    let connector = tower::service_fn(move |_: Uri| {
        let accept = accept.clone();
        async move {
            let (near, far) = tokio::io::duplex(DUPLEX_BYTES);
            let closed = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the coordinator has stopped");
            accept.send(Ok(far)).await.map_err(closed)?;
            Ok::<_, io::Error>(TokioIo::new(near))
        }
    });
    let endpoint = tuned(Endpoint::from_static("http://in-process"));
    (endpoint.connect_with_connector_lazy(connector), ReceiverStream::new(incoming))
}

/// Reads an address; whether `https` can be used is decided where the certificates are.
pub(crate) fn endpoint(url: &str) -> Result<Endpoint, TransportError> {
    let bad = |problem: String| TransportError::Address { url: url.to_owned(), problem };
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = full.parse().map_err(|error| bad(format!("{error}")))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => return Err(bad(format!("scheme `{other}` is not supported, use http://host:port"))),
        None => return Err(bad("it has no scheme, use http://host:port".to_owned())),
    }
    if uri.port_u16().is_none() {
        return Err(bad("it has no port, use http://host:port".to_owned()));
    }
    Ok(tuned(Endpoint::from(uri)))
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEPALIVE_INTERVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bad_address_is_told_apart_from_a_silent_one() {
        for (url, problem) in [("https://host:1", "scheme `https`"), ("host", "no port"), ("http://a b:1", "invalid")] {
            let error = connect(url).await.unwrap_err();
            assert!(matches!(error, TransportError::Address { .. }), "{url}: {error}");
            assert!(error.to_string().contains(problem), "{url}: {error}");
        }
        let taken = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = taken.local_addr().unwrap();
        drop(taken);
        let error = connect(&address.to_string()).await.unwrap_err();
        assert!(matches!(error, TransportError::Connect { .. }), "{error}");
    }
}
