//! A Hub on a local port: the routes, headers and error codes of the real one, and its bad days on demand.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use testkit::http::{Request, read_request};

/// A refusal.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) code: &'static str,
}

struct Object {
    bytes: Vec<u8>,
    etag: String,
    large: bool,
}

#[derive(Default)]
struct State {
    name: String,
    commit: String,
    revisions: Vec<String>,
    objects: BTreeMap<String, Object>,
    /// Bytes after which the next responses for a file break off.
    drops: BTreeMap<String, Vec<usize>>,
    corrupt: Option<String>,
    ignores_ranges: bool,
    token: Option<String>,
    all: Option<Answer>,
    fails_first: Option<u16>,
    requests: Vec<String>,
    ranges: Vec<(String, Option<String>)>,
}

pub(super) struct FakeHub {
    port: u16,
    state: Arc<Mutex<State>>,
}

/// Returns the URL of a port without a listener.
pub(super) fn dead_url() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port())
}

impl FakeHub {
    pub(super) fn start(name: &str, commit: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State {
            name: name.to_owned(),
            commit: commit.to_owned(),
            revisions: vec!["main".to_owned(), commit.to_owned()],
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        // Ends with the test process; each connection carries one request.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { port, state }
    }

    fn changed(self, change: impl FnOnce(&mut State)) -> Self {
        change(&mut self.state.lock().unwrap());
        self
    }

    pub(super) fn with_small(self, file: &str, bytes: &[u8]) -> Self {
        // Small files are named by their git hash: 40 hexadecimal digits.
        let etag = hex(&Sha256::digest(bytes))[..40].to_owned();
        self.changed(|state| {
            drop(state.objects.insert(file.to_owned(), Object { bytes: bytes.to_vec(), etag, large: false }));
        })
    }

    pub(super) fn with_large(self, file: &str, bytes: &[u8]) -> Self {
        let etag = hex(&Sha256::digest(bytes));
        self.changed(|state| {
            drop(state.objects.insert(file.to_owned(), Object { bytes: bytes.to_vec(), etag, large: true }));
        })
    }

    pub(super) fn with_revision(self, revision: &str) -> Self {
        self.changed(|state| state.revisions.push(revision.to_owned()))
    }

    pub(super) fn dropping(self, file: &str, after: &[usize]) -> Self {
        self.changed(|state| drop(state.drops.insert(file.to_owned(), after.to_vec())))
    }

    pub(super) fn corrupting(self, file: &str) -> Self {
        self.changed(|state| state.corrupt = Some(file.to_owned()))
    }

    pub(super) fn ignoring_ranges(self) -> Self {
        self.changed(|state| state.ignores_ranges = true)
    }

    pub(super) fn requiring_token(self, token: &str) -> Self {
        self.changed(|state| state.token = Some(token.to_owned()))
    }

    pub(super) fn answering_all(self, answer: Answer) -> Self {
        self.changed(|state| state.all = Some(answer))
    }

    pub(super) fn failing_first(self, status: u16) -> Self {
        self.changed(|state| state.fails_first = Some(status))
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn etag(&self, file: &str) -> String {
        self.state.lock().unwrap().objects[file].etag.clone()
    }

    pub(super) fn bytes(&self, file: &str) -> Vec<u8> {
        self.state.lock().unwrap().objects[file].bytes.clone()
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    pub(super) fn forget_requests(&self) {
        self.state.lock().unwrap().requests.clear();
    }

    /// Returns the `Range` header of every GET of a file's bytes.
    pub(super) fn ranges(&self, file: &str) -> Vec<Option<String>> {
        let state = self.state.lock().unwrap();
        state.ranges.iter().filter(|(name, _)| name == file).map(|(_, range)| range.clone()).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let Some(request) = read_request(&stream) else { return };
    let (head, body) = answer(&request, &mut state.lock().unwrap());
    // A client that has heard enough may close: no concern of the server's.
    if stream.write_all(head.as_bytes()).is_ok() && request.method != "HEAD" {
        stream.write_all(&body).ok();
    }
}

fn refusal(status: u16, code: &str) -> (String, Vec<u8>) {
    let head =
        format!("HTTP/1.1 {status} No\r\nX-Error-Code: {code}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let head = if code.is_empty() { head.replace("X-Error-Code: \r\n", "") } else { head };
    (head, Vec::new())
}

fn answer(request: &Request, state: &mut State) -> (String, Vec<u8>) {
    state.requests.push(format!("{} {}", request.method, request.target));
    if let Some(status) = state.fails_first.take() {
        return refusal(status, "");
    }
    if let Some(all) = state.all {
        return refusal(all.status, all.code);
    }
    let wanted = state.token.as_ref().map(|token| format!("Bearer {token}"));
    if wanted.is_some() && request.headers.get("authorization") != wanted.as_ref() {
        return refusal(401, "");
    }
    let lookup = format!("/api/models/{}/revision/", state.name);
    if let Some(revision) = request.target.strip_prefix(&lookup) {
        let revision = revision.replace("%2F", "/");
        return if state.revisions.contains(&revision) { listing(state) } else { refusal(404, "RevisionNotFound") };
    }
    let file = format!("/{}/resolve/{}/", state.name, state.commit);
    match request.target.strip_prefix(&file) {
        Some(file) => contents(file, request, state),
        None => refusal(404, "RepoNotFound"),
    }
}

fn listing(state: &State) -> (String, Vec<u8>) {
    let siblings: Vec<_> = state.objects.keys().map(|file| serde_json::json!({ "rfilename": file })).collect();
    let body = serde_json::json!({ "id": state.name, "sha": state.commit, "siblings": siblings }).to_string();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    (head, body.into_bytes())
}

fn contents(file: &str, request: &Request, state: &mut State) -> (String, Vec<u8>) {
    let Some(object) = state.objects.get(file) else { return refusal(404, "EntryNotFound") };
    let size = object.bytes.len();
    let identity = if object.large {
        format!("X-Linked-Etag: \"{}\"\r\nX-Linked-Size: {size}\r\nETag: \"other\"\r\n", object.etag)
    } else {
        format!("ETag: W/\"{}\"\r\n", object.etag)
    };
    let identity = format!("{identity}X-Repo-Commit: {}\r\nConnection: close\r\n", state.commit);
    if request.method == "HEAD" {
        // Large files live elsewhere: the Hub points there, and says here what they are.
        let status = if object.large { "302 Found\r\nLocation: https://cdn.example/blob" } else { "200 OK" };
        return (format!("HTTP/1.1 {status}\r\n{identity}Content-Length: {size}\r\n\r\n"), Vec::new());
    }
    let range = request.headers.get("range").cloned();
    state.ranges.push((file.to_owned(), range.clone()));
    let start = range.filter(|_| !state.ignores_ranges);
    let start: Option<usize> = start.map(|range| range["bytes=".len()..].trim_end_matches('-').parse().unwrap());
    let mut body = object.bytes[start.unwrap_or(0)..].to_vec();
    let status = match start {
        Some(start) => format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{size}", size - 1),
        None => "200 OK".to_owned(),
    };
    let head = format!("HTTP/1.1 {status}\r\n{identity}Content-Length: {}\r\n\r\n", body.len());
    if state.corrupt.as_deref() == Some(file) {
        body[0] ^= 1;
    }
    if let Some(after) = state.drops.get_mut(file).filter(|drops| !drops.is_empty()).map(|drops| drops.remove(0)) {
        body.truncate(after);
    }
    (head, body)
}
