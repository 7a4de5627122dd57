//! TLS by certificates that may be replaced while the coordinator runs: those that live for hours or days are rewritten
//! by others (cert-manager, certbot). New connections use the new ones; open connections stay.

use std::fmt;
use std::fs;
use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::FileWatch;
use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use common::error_chain;

/// How often the files are looked at, where somebody connects.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// What gRPC speaks.
const HTTP2: &[u8] = b"h2";

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("`{}` holds no {what} in PEM", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The certificate and the key cannot be used, or not together.
    #[error("the certificate `{}` and its key cannot be used", path.display())]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Clients cannot be checked against these authorities.
    #[error("the authority `{}` cannot be used", path.display())]
    Authority {
        /// The authority's file.
        path: PathBuf,
        /// Why.
        source: VerifierBuilderError,
    },
}

/// Where the certificates are, each in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// What the coordinator shows: its certificate, then those between it and its authority.
    pub certificate: PathBuf,
    /// The private key of that.
    pub key: PathBuf,
    /// The authorities that clients' certificates come from. A client need not show one: who must is decided call by call,
    /// since people come with tokens.
    pub client_ca: Option<PathBuf>,
}

/// The current configuration of the files.
pub struct Tls {
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    watched: FileWatch,
    looked: Instant,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files, and again whenever they change. What was read last stays in use while they cannot be: a key may be
    /// replaced a moment after its certificate.
    ///
    /// # Errors
    /// A file cannot be read or holds something else, or a key is another certificate's.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let paths = [&files.certificate, &files.key].into_iter().chain(&files.client_ca).cloned();
        let watched = FileWatch::new(paths);
        let current = Current { config: Arc::new(read(&files)?), watched, looked: Instant::now() };
        Ok(Self { files, current: Mutex::new(current) })
    }

    fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK_EVERY {
            current.looked = Instant::now();
            if current.watched.has_changed() {
                match read(&self.files) {
                    Ok(config) => {
                        info!(certificate = %self.files.certificate.display(), "certificates read again");
                        current.config = Arc::new(config);
                    }
                    Err(error) => {
                        let error = error_chain(&error);
                        warn!(error, "certificates have changed and cannot be used; those before them still are");
                    }
                }
            }
        }
        Arc::clone(&current.config).into()
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let builder = match &files.client_ca {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(path)?);
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build();
            let verifier = verifier.map_err(|source| TlsError::Authority { path: path.clone(), source })?;
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
    };
    let malformed = |_| TlsError::Malformed { path: files.key.clone(), what: "private key" };
    let key = PrivateKeyDer::from_pem_slice(&bytes(&files.key)?).map_err(malformed)?;
    let unusable = |source| TlsError::Certificate { path: files.certificate.clone(), source };
    let mut config = builder.with_single_cert(certificates(&files.certificate)?, key).map_err(unusable)?;
    config.alpn_protocols.push(HTTP2.to_vec());
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(path)?).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| TlsError::Malformed { path: path.to_owned(), what: "certificate" })
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// Performs the handshakes of incoming connections, `at_once` at the same time; a connection whose handshake fails is dropped.
pub(crate) fn accepted<I, IO>(
    incoming: I,
    tls: Arc<Tls>,
    at_once: usize,
) -> impl Stream<Item = io::Result<TlsStream<IO>>>
where
    I: Stream<Item = io::Result<IO>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shake = move |io: io::Result<IO>| {
        let tls = Arc::clone(&tls);
        async move {
            let io = match io {
                Ok(io) => io,
                Err(error) => return Some(Err(error)),
            };
            let shaken = async move { timeout(HANDSHAKE_MAX, tls.acceptor().accept(io)).await };
            // In a task of its own: a fleet that comes at once is greeted on every core.
            match tokio::spawn(shaken).await {
                Ok(Ok(Ok(stream))) => Some(Ok(stream)),
                Ok(Ok(Err(error))) => {
                    debug!(error = error_chain(&error), "a client's handshake failed");
                    None
                }
                Ok(Err(_)) | Err(_) => {
                    debug!("a client's handshake was not finished");
                    None
                }
            }
        }
    };
    incoming.map(shake).buffer_unordered(at_once.max(1)).filter_map(ready)
}
