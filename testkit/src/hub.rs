//! A Hub with data sets on a local port, and the host of its large files on another: the routes, headers and error codes of
//! the real ones, and their bad days on demand.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::http::{Request, read_request};

/// Larger files are at the other host.
const LARGE_BYTES_MIN: usize = 100;

/// How a request fails.
#[derive(Debug, Clone, Copy)]
pub enum HubFault {
    /// With this status, and more headers.
    Answer(u16, &'static str),
    /// The connection is cut after so many bytes of the body.
    CutAfter(usize),
    /// The whole file comes, whatever was asked for.
    IgnoreRange,
}

#[derive(Debug)]
struct Rule {
    method: &'static str,
    part: String,
    fault: HubFault,
    times: usize,
}

type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Default)]
struct Repo {
    revisions: BTreeMap<String, String>,
    commits: BTreeMap<String, Files>,
    configs: Option<String>,
    gated: bool,
}

#[derive(Debug, Default)]
struct State {
    repos: BTreeMap<String, Repo>,
    renamed: BTreeMap<String, String>,
    rules: Vec<Rule>,
    token: Option<String>,
    page: usize,
    /// Signatures of an earlier generation have expired.
    generation: usize,
    /// Where large files are said to be, if not at the other port.
    elsewhere: Option<String>,
    requests: Vec<String>,
    leaked: bool,
    bytes_sent: usize,
}

/// The Hub. Ends with the test's process.
#[derive(Debug)]
pub struct HubServer {
    hub: u16,
    state: Arc<Mutex<State>>,
}

struct Answer {
    head: String,
    body: Vec<u8>,
    cut_after: Option<usize>,
}

impl HubServer {
    /// Starts a Hub without data sets.
    pub fn start() -> HubServer {
        let state = Arc::new(Mutex::new(State { page: 1_000, ..State::default() }));
        let listen = || TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (hub, content) = (listen(), listen());
        let ports = [&hub, &content].map(|listener| listener.local_addr().unwrap().port());
        for (listener, is_hub) in [(hub, true), (content, false)] {
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || serve(stream, &state, is_hub, ports[1]));
                }
            });
        }
        HubServer { hub: ports[0], state }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// Commits files to a revision of a data set: those it had, and these. Returns the commit.
    pub fn commit(&self, repo: &str, revision: &str, files: &[(&str, &[u8])]) -> String {
        self.change(|state| {
            let repo = state.repos.entry(repo.to_owned()).or_default();
            let before = repo.revisions.get(revision).and_then(|commit| repo.commits.get(commit));
            let mut all = before.cloned().unwrap_or_default();
            all.extend(files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())));
            let commit = digest(format!("{revision}{}", repo.commits.len()).as_bytes(), 40);
            repo.commits.insert(commit.clone(), all);
            repo.revisions.insert(revision.to_owned(), commit.clone());
            commit
        })
    }

    /// Sets the configurations of a data set's card, as JSON.
    pub fn set_configs(&self, repo: &str, configs: &str) {
        self.change(|state| state.repos.get_mut(repo).unwrap().configs = Some(configs.to_owned()));
    }

    /// Makes a data set ask for an agreement.
    pub fn gate(&self, repo: &str, gated: bool) {
        self.change(|state| state.repos.get_mut(repo).unwrap().gated = gated);
    }

    /// Renames a data set; the old name leads to the new one.
    pub fn rename(&self, from: &str, to: &str) {
        self.change(|state| {
            let repo = state.repos.remove(from).unwrap();
            state.repos.insert(to.to_owned(), repo);
            state.renamed.insert(from.to_owned(), to.to_owned());
        });
    }

    /// Shows everything only to whoever has this token.
    pub fn require_token(&self, token: &str) {
        self.change(|state| state.token = Some(token.to_owned()));
    }

    /// Lists at most so many entries at a time.
    pub fn set_page(&self, entries: usize) {
        self.change(|state| state.page = entries);
    }

    /// Lets all signed URLs expire.
    pub fn expire(&self) {
        self.change(|state| state.generation += 1);
    }

    /// Says that large files are below this URL.
    pub fn point_to(&self, url: &str) {
        self.change(|state| state.elsewhere = Some(url.to_owned()));
    }

    /// Makes the next `times` requests fail whose method is this one and whose path contains `part`. Paths at the host of
    /// large files begin with `/content/`.
    pub fn fail(&self, method: &'static str, part: &str, fault: HubFault, times: usize) {
        self.change(|state| state.rules.push(Rule { method, part: part.to_owned(), fault, times }));
    }

    /// Forgets what should fail, and what was asked.
    pub fn reset(&self) {
        self.change(|state| {
            state.rules.clear();
            state.requests.clear();
            state.bytes_sent = 0;
        });
    }

    /// Forgets what was asked.
    pub fn reset_requests(&self) {
        self.change(|state| state.requests.clear());
    }

    /// The Hub's URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.hub)
    }

    /// What a program needs in its environment to use this Hub.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [("HF_ENDPOINT", self.url()), ("HF_HUB_OFFLINE", "0".to_owned())]
    }

    /// The requests so far, such as `GET /api/…`.
    pub fn requests(&self) -> Vec<String> {
        self.change(|state| state.requests.clone())
    }

    /// Whether the host of large files was ever sent a token.
    pub fn has_leaked(&self) -> bool {
        self.change(|state| state.leaked)
    }

    /// Bytes of files sent so far.
    pub fn bytes_sent(&self) -> usize {
        self.change(|state| state.bytes_sent)
    }
}

fn digest(bytes: &[u8], digits: usize) -> String {
    let part = |seed: usize| {
        let mut hasher = DefaultHasher::new();
        (seed, bytes).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    };
    let all: String = (0..4).map(part).collect();
    all[..digits].to_owned()
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, is_hub: bool, content: u16) {
    let Some(request) = read_request(&stream) else { return };
    let answer = state.lock().unwrap().answer(&request, is_hub, content);
    // A client that has read enough may close.
    if stream.write_all(answer.head.as_bytes()).is_ok() && request.method != "HEAD" {
        let sent = answer.cut_after.unwrap_or(answer.body.len()).min(answer.body.len());
        stream.write_all(&answer.body[..sent]).ok();
    }
}

fn answer(status: u16, headers: &str, body: Vec<u8>) -> Answer {
    let head = format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    Answer { head, body, cut_after: None }
}

fn refusal(status: u16, code: &str) -> Answer {
    let code = if code.is_empty() { String::new() } else { format!("X-Error-Code: {code}\r\n") };
    answer(status, &code, Vec::new())
}

impl State {
    fn answer(&mut self, request: &Request, is_hub: bool, content: u16) -> Answer {
        let line = format!("{} {}", request.method, request.target);
        self.requests.push(line);
        let fault = self.due(request);
        if let Some(HubFault::Answer(status, headers)) = fault {
            return answer(status, headers, Vec::new());
        }
        let mut answer = match is_hub {
            true => self.hub(request, content, fault),
            false => self.content(request, fault),
        };
        if let Some(HubFault::CutAfter(bytes)) = fault {
            answer.cut_after = Some(bytes);
        }
        answer
    }

    fn due(&mut self, request: &Request) -> Option<HubFault> {
        let is_due =
            |rule: &&mut Rule| rule.times > 0 && rule.method == request.method && request.target.contains(&rule.part);
        let rule = self.rules.iter_mut().find(is_due)?;
        rule.times -= 1;
        Some(rule.fault)
    }

    fn hub(&mut self, request: &Request, content: u16, fault: Option<HubFault>) -> Answer {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let path = path.replace("%2F", "/").replace("%20", " ");
        for (from, to) in &self.renamed {
            if path.contains(&format!("/datasets/{from}/")) {
                let target = request.target.replacen(from, to, 1);
                return answer(307, &format!("Location: {target}\r\n"), Vec::new());
            }
        }
        let wanted = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let given = request.headers.get("authorization");
        if wanted.is_some() && given != wanted.as_ref() {
            let invalid = "X-Error-Message: Invalid credentials in Authorization header\r\n";
            return if given.is_some() { answer(401, invalid, Vec::new()) } else { refusal(401, "") };
        }
        let (rest, is_cache) = match path.strip_prefix("/api/resolve-cache/datasets/") {
            Some(rest) => (Some(rest), true),
            None => (path.strip_prefix("/api/datasets/").or_else(|| path.strip_prefix("/datasets/")), false),
        };
        let Some(rest) = rest else { return refusal(404, "") };
        let Some((name, rest)) = self.repos.keys().find_map(|name| Some((name, rest.strip_prefix(name)?))) else {
            return refusal(if wanted.is_some() { 404 } else { 401 }, "RepoNotFound");
        };
        let (name, repo) = (name.clone(), &self.repos[name]);
        if repo.gated && !rest.starts_with("/revision/") {
            return refusal(403, "GatedRepo");
        }
        if let Some(revision) = rest.strip_prefix("/revision/") {
            return repo.info(&name, revision);
        }
        if let Some(rest) = rest.strip_prefix("/tree/") {
            return repo.tree(rest, query, self.page, &path, self.elsewhere.is_none());
        }
        let Some((commit, file)) = rest.strip_prefix("/resolve/").and_then(|rest| rest.split_once('/')) else {
            return refusal(404, "");
        };
        let Some(files) = repo.commits.get(commit) else { return refusal(404, "RevisionNotFound") };
        let Some(bytes) = files.get(file).cloned() else { return refusal(404, "EntryNotFound") };
        if bytes.len() < LARGE_BYTES_MIN {
            // A small file is at another address of the Hub, where its ETag may be weak.
            let (etag, size) = (digest(&bytes, 40), bytes.len());
            if is_cache {
                return self.bytes(request, &bytes, &format!("ETag: W/\"{etag}-gzip\"\r\n"), fault);
            }
            let target = format!("/api/resolve-cache/datasets/{name}/resolve/{commit}/{file}").replace(' ', "%20");
            let linked = format!("X-Linked-Size: {size}\r\nX-Linked-Etag: \"{etag}\"\r\n");
            return answer(307, &format!("Location: {target}\r\n{linked}"), Vec::new());
        }
        let (etag, size, generation) = (digest(&bytes, 64), bytes.len(), self.generation);
        let host = self.elsewhere.clone().unwrap_or_else(|| format!("http://127.0.0.1:{content}"));
        let target = format!("{host}/content/{name}/{commit}/{file}?X-Amz-Signature=canary-{generation}");
        let headers = format!("Location: {target}\r\nX-Linked-Size: {size}\r\nX-Linked-Etag: \"{etag}\"\r\n");
        answer(302, &headers, b"Found".to_vec())
    }

    fn content(&mut self, request: &Request, fault: Option<HubFault>) -> Answer {
        self.leaked |= request.headers.contains_key("authorization");
        let (path, signature) = request.target.split_once("?X-Amz-Signature=canary-").unwrap_or_default();
        if signature != self.generation.to_string() {
            return answer(403, "", b"Request has expired".to_vec());
        }
        let rest = path.trim_start_matches("/content/").replace("%20", " ");
        let found = self.repos.iter().find_map(|(name, repo)| {
            let (commit, file) = rest.strip_prefix(name.as_str())?.strip_prefix('/')?.split_once('/')?;
            repo.commits.get(commit)?.get(file).cloned()
        });
        match found {
            Some(bytes) => self.bytes(request, &bytes, "ETag: \"another\"\r\n", fault),
            None => refusal(404, ""),
        }
    }

    fn bytes(&mut self, request: &Request, bytes: &[u8], headers: &str, fault: Option<HubFault>) -> Answer {
        let is_ranged = !matches!(fault, Some(HubFault::IgnoreRange)) && request.method == "GET";
        let range = request.headers.get("range").filter(|_| is_ranged);
        let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let sent = match range {
            Some((start, end)) => {
                let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
                let range = format!("Content-Range: bytes {start}-{end}/{}\r\n", bytes.len());
                answer(206, &format!("{headers}{range}"), bytes[start..=end].to_vec())
            }
            None => answer(200, headers, bytes.to_vec()),
        };
        if request.method == "GET" {
            self.bytes_sent += sent.body.len();
        }
        sent
    }
}

impl Repo {
    fn commit_of(&self, revision: &str) -> Option<&String> {
        self.revisions.get(revision).or_else(|| self.commits.get_key_value(revision).map(|(commit, _)| commit))
    }

    fn info(&self, name: &str, revision: &str) -> Answer {
        let Some(commit) = self.commit_of(revision) else { return refusal(404, "RevisionNotFound") };
        let card = self.configs.as_ref().map_or("null".to_owned(), |configs| format!("{{\"configs\":{configs}}}"));
        answer(200, "", format!("{{\"id\":\"{name}\",\"sha\":\"{commit}\",\"cardData\":{card}}}").into_bytes())
    }

    /// Lists what is below a folder, a page at a time. The next page may be said to be at another host.
    fn tree(&self, rest: &str, query: &str, page: usize, path: &str, is_here: bool) -> Answer {
        let (revision, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let Some(commit) = self.commit_of(revision) else { return refusal(404, "RevisionNotFound") };
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let files: Vec<_> = self.commits[commit].iter().filter(|(path, _)| path.starts_with(&prefix)).collect();
        if files.is_empty() && !folder.is_empty() {
            return refusal(404, "EntryNotFound");
        }
        let cursor: usize = query.split('&').find_map(|pair| pair.strip_prefix("cursor=")?.parse().ok()).unwrap_or(0);
        let mut entries = vec!["{\"type\":\"directory\",\"oid\":\"0\",\"size\":0,\"path\":\"folder\"}".to_owned()];
        entries.extend(files.iter().skip(cursor).take(page).map(|(path, bytes)| {
            format!("{{\"type\":\"file\",\"oid\":\"0\",\"size\":{},\"path\":\"{path}\"}}", bytes.len())
        }));
        let next = cursor + page;
        let host = if is_here { "" } else { "http://127.0.0.1:1" };
        let link = format!("Link: <{host}{path}?recursive=true&cursor={next}>; rel=\"next\"\r\n");
        let link = if next < files.len() { link } else { String::new() };
        answer(200, &link, format!("[{}]", entries.join(",")).into_bytes())
    }
}
