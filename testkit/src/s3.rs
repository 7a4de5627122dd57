//! A server that speaks S3 over HTTP, keeps its objects as files in a folder, and fails on request. For tests of
//! the storage and of the whole program alike; `cli/examples/s3_server.rs` makes a program of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpRequest, HttpResponse};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower::ServiceExt;

/// The only bucket.
pub const BUCKET: &str = "lake";
/// The only account.
pub const ACCESS_KEY: &str = "AKIDENCAJETEST000001";
/// Its secret.
pub const SECRET_KEY: &str = "canary-secret-0123456789abcdef";

/// The longest body that is looked at.
const BODY_BYTES_MAX: usize = 64 << 20;

/// How a request fails.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// With this status and code, and nothing is done.
    Answer(u16, &'static str),
    /// It is done, and then fails with this status and code.
    ApplyThenAnswer(u16, &'static str),
    /// The connection is cut before anything is done.
    Cut,
    /// It is done, and the connection is cut before the answer.
    ApplyThenCut,
    /// Half of the answer's body comes.
    Truncate,
}

#[derive(Debug)]
struct Rule {
    method: &'static str,
    part: &'static str,
    fault: Fault,
    times: usize,
}

/// The server; it ends when dropped.
#[derive(Debug)]
pub struct S3Server {
    folder: PathBuf,
    _temporary: Option<TempDir>,
    address: SocketAddr,
    faults: Arc<Faults>,
    _stop: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct Faults {
    rules: Mutex<Vec<Rule>>,
}

impl S3Server {
    /// Starts a server with an empty bucket.
    pub fn start() -> S3Server {
        let dir = tempfile::tempdir().unwrap();
        let mut server = S3Server::over(dir.path(), ([127, 0, 0, 1], 0).into());
        server._temporary = Some(dir);
        server
    }

    /// Starts a server over the objects in a folder.
    pub fn over(folder: &Path, address: SocketAddr) -> S3Server {
        std::fs::create_dir_all(folder.join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let (service, faults) = (builder.build(), Arc::new(Faults::default()));
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, local_address) = std::sync::mpsc::channel();
        let seen = Arc::clone(&faults);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind(address).await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, service, seen) => {}
                }
            });
        });
        let (folder, address) = (folder.to_owned(), local_address.recv().unwrap());
        S3Server { folder, _temporary: None, address, faults, _stop: stop }
    }

    /// The endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The file of an object.
    pub fn file(&self, key: &str) -> PathBuf {
        self.folder.join(BUCKET).join(key)
    }

    /// What a program needs in its environment to use this server.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// Makes the next `times` requests fail whose method is this one and whose path and query contain `part`.
    pub fn fail(&self, method: &'static str, part: &'static str, fault: Fault, times: usize) {
        self.faults.rules.lock().unwrap().push(Rule { method, part, fault, times });
    }

    /// Forgets what should fail.
    pub fn heal(&self) {
        self.faults.rules.lock().unwrap().clear();
    }
}

async fn accept(listener: TcpListener, s3: S3Service, faults: Arc<Faults>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (s3, faults) = (s3.clone(), Arc::clone(&faults));
        let answer = move |request: HttpRequest| answer(s3.clone(), Arc::clone(&faults), request);
        let service = tower::service_fn(answer).map_request(|request: Request<Incoming>| request.map(Body::from));
        tokio::spawn(async move {
            let server = Builder::new(TokioExecutor::new());
            // A connection that is cut is what some tests are about.
            server.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service)).await.ok();
        });
    }
}

async fn answer(s3: S3Service, faults: Arc<Faults>, mut request: HttpRequest) -> Result<HttpResponse, std::io::Error> {
    let line = format!("{} {}", request.method(), request.uri());
    let fault = faults.due(&line);
    let failed = |error: String| std::io::Error::other(error);
    match fault {
        None => s3.call(request).await.map_err(|error| failed(format!("{error:?}"))),
        Some(Fault::Answer(status, code)) => {
            // Answered before it is read, the client might only see that its connection broke.
            request.body_mut().store_all_limited(BODY_BYTES_MAX).await.ok();
            Ok(refusal(status, code))
        }
        Some(Fault::Cut) => Err(failed("cut".to_owned())),
        Some(Fault::ApplyThenAnswer(status, code)) => {
            let mut applied = s3.call(request).await.map_err(|error| failed(format!("{error:?}")))?;
            applied.body_mut().store_all_limited(BODY_BYTES_MAX).await.ok();
            Ok(refusal(status, code))
        }
        Some(Fault::ApplyThenCut) => {
            let mut applied = s3.call(request).await.map_err(|error| failed(format!("{error:?}")))?;
            applied.body_mut().store_all_limited(BODY_BYTES_MAX).await.ok();
            Err(failed("cut".to_owned()))
        }
        Some(Fault::Truncate) => {
            let mut whole = s3.call(request).await.map_err(|error| failed(format!("{error:?}")))?;
            let bytes = whole.body_mut().store_all_limited(BODY_BYTES_MAX).await.unwrap();
            // The length that was announced stays, so that the server has to hang up.
            *whole.body_mut() = Body::from(bytes.slice(..bytes.len() / 2));
            Ok(whole)
        }
    }
}

impl Faults {
    fn due(&self, line: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules
            .iter_mut()
            .find(|rule| rule.times > 0 && line.starts_with(rule.method) && line.contains(rule.part))?;
        rule.times -= 1;
        Some(rule.fault)
    }
}

fn refusal(status: u16, code: &str) -> HttpResponse {
    // A store may quote the request that it refuses.
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>injected</Message>\
         <StringToSign>{SECRET_KEY}</StringToSign></Error>"
    );
    let mut response = HttpResponse::new(Body::from(body));
    *response.status_mut() = status.try_into().unwrap();
    response
}
