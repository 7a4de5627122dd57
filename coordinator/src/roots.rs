//! Which corpora a coordinator reads for those who submit jobs. A path or URL in a job comes from another user: it is
//! only followed where the operator said so. What was uploaded to the coordinator's own storage may always be read.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use dataset::{CorpusPlace, DatasetError, corpus_place};

/// What may be read. The default of a coordinator is [`Roots::uploads_only`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots(Rule);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Anywhere,
    Listed(Vec<Root>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Root {
    /// A folder, with every link on the way to it followed.
    Folder(PathBuf),
    /// A bucket, or what lies below a prefix of it, also `hf://datasets` and an owner or data set; without a slash at the end.
    Bucket { bucket: String, prefix: String },
    /// A web server.
    Host(String),
}

/// A source that is not read, or a root that is none.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The operator did not allow it.
    #[error(
        "this coordinator does not read `{uri}`: upload the file (`encaje submit` does so for a file of your own), \
         or have the coordinator started with its folder, bucket, data set or host among the corpus roots"
    )]
    NotAllowed {
        /// The source, without anything secret.
        uri: String,
    },
    /// It was uploaded, and is not found where it should be: it may come back.
    #[error("the uploaded file `{uri}` is not found now; submit again if it is lost")]
    UploadMissing {
        /// The source.
        uri: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It would lie below a root, and nothing is there.
    #[error("the source `{uri}` is not found: put the file back, or submit a job without it")]
    SourceMissing {
        /// The source.
        uri: String,
    },
    /// It cannot be a source at all.
    #[error("a source cannot be read")]
    Bad(#[source] Box<DatasetError>),
    /// A root cannot be used.
    #[error("corpus root `{root}`: {problem}")]
    BadRoot {
        /// As given.
        root: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Roots {
    /// Everything that this process can reach, for a coordinator that serves only the user who started it.
    pub fn anywhere() -> Roots {
        Roots(Rule::Anywhere)
    }

    /// Nothing but what was uploaded.
    pub fn uploads_only() -> Roots {
        Roots(Rule::Listed(Vec::new()))
    }

    /// What lies below the given roots, and uploads: folders (`/data`), buckets or prefixes (`s3://bucket/prefix`), data sets
    /// of the Hub (`hf://datasets/owner/name`) or of an owner, and web servers (`https://host`).
    ///
    /// # Errors
    /// A folder that is not there, or something else that is not a root.
    pub fn listed(roots: &[String]) -> Result<Roots, RootError> {
        let roots = roots.iter().map(|root| parse(root)).collect::<Result<_, _>>()?;
        Ok(Roots(Rule::Listed(roots)))
    }

    /// Checks that a source may be read. Links are followed: what counts is where a path leads to.
    ///
    /// # Errors
    /// `NotAllowed`, `SourceMissing`, `UploadMissing`, or `Bad` for what is no source.
    pub fn check(&self, uri: &str, storage_url: &str) -> Result<(), RootError> {
        let Rule::Listed(roots) = &self.0 else { return Ok(()) };
        let place = corpus_place(uri).map_err(|error| RootError::Bad(Box::new(error)))?;
        if is_upload(uri, storage_url) {
            return check_upload(&place, storage_url, uri);
        }
        let is_allowed = match &place {
            CorpusPlace::Path(path) => {
                let is_inside = |real: &Path| {
                    roots.iter().any(|root| matches!(root, Root::Folder(folder) if real.starts_with(folder)))
                };
                match real_path(path) {
                    Ok(real) => real.is_some_and(|real| is_inside(&real)),
                    // Outside of the roots, the error must not reveal which files exist.
                    Err(error) => {
                        let is_missing = error.kind() == ErrorKind::NotFound
                            && folder_of_missing(path).is_some_and(|folder| is_inside(&folder));
                        let missing = || RootError::SourceMissing { uri: shown(uri) };
                        return Err(if is_missing { missing() } else { not_allowed(uri) });
                    }
                }
            }
            CorpusPlace::Bucket { bucket, key } => roots.iter().any(|root| match root {
                Root::Bucket { bucket: allowed, prefix } => allowed == bucket && is_below(key, prefix),
                Root::Folder(_) | Root::Host(_) => false,
            }),
            CorpusPlace::Web { host } => {
                roots.iter().any(|root| matches!(root, Root::Host(allowed) if allowed == host))
            }
        };
        if is_allowed { Ok(()) } else { Err(not_allowed(uri)) }
    }
}

/// An upload in a folder must not be a link that leads out of it.
fn check_upload(place: &CorpusPlace, storage_url: &str, uri: &str) -> Result<(), RootError> {
    let CorpusPlace::Path(path) = place else { return Ok(()) };
    let missing = |source| RootError::UploadMissing { uri: uri.to_owned(), source };
    let real = real_path(path).map_err(missing)?;
    let inside = real.is_some_and(|real| real.starts_with(Path::new(storage_url).join("uploads")));
    if inside { Ok(()) } else { Err(not_allowed(uri)) }
}

fn parse(root: &str) -> Result<Root, RootError> {
    let bad = |problem: &str| RootError::BadRoot { root: root.to_owned(), problem: problem.to_owned() };
    if let Some(host) = root.strip_prefix("https://").or_else(|| root.strip_prefix("http://")) {
        let host = host.trim_end_matches('/').to_ascii_lowercase();
        let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#', '*', '\\']);
        return if is_host { Ok(Root::Host(host)) } else { Err(bad("a web server is given as https://host")) };
    }
    match corpus_place(root).map_err(|error| RootError::Bad(Box::new(error)))? {
        CorpusPlace::Bucket { bucket, key } => Ok(Root::Bucket { bucket, prefix: key }),
        CorpusPlace::Web { .. } => Err(bad("a web server is given as https://host")),
        CorpusPlace::Path(path) => {
            let folder = std::fs::canonicalize(&path).map_err(|error| bad(&error.to_string()))?;
            if folder.is_dir() { Ok(Root::Folder(folder)) } else { Err(bad("this is not a folder")) }
        }
    }
}

/// Whether a URI is, letter for letter, that of an uploaded object.
fn is_upload(uri: &str, storage_url: &str) -> bool {
    let Some(rest) = uri.strip_prefix(storage_url.trim_end_matches('/')) else { return false };
    let Some((digest, name)) = rest.strip_prefix("/uploads/").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_name = !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    is_digest && is_name
}

/// Returns where a path leads to; `None` for one that is not spelled out from the root.
///
/// # Errors
/// Nothing is there, or the system does not say.
fn real_path(path: &Path) -> std::io::Result<Option<PathBuf>> {
    let is_plain = path.is_absolute()
        && path.components().all(|component| match component {
            Component::RootDir | Component::Prefix(_) => true,
            // Decoding it once more must not yield another path.
            Component::Normal(part) => part.to_str().is_some_and(|part| !part.to_ascii_lowercase().contains("%2e")),
            Component::CurDir | Component::ParentDir => false,
        });
    is_plain.then(|| std::fs::canonicalize(path)).transpose()
}

/// Returns the deepest folder above a path without a file, with links followed; `None` where there is a link below it, since
/// what a link leads to is not for everybody to know.
fn folder_of_missing(path: &Path) -> Option<PathBuf> {
    let mut below = path;
    loop {
        let folder = below.parent()?;
        match std::fs::canonicalize(folder) {
            Ok(real) => {
                let entry = std::fs::symlink_metadata(real.join(below.file_name()?));
                return entry.is_err_and(|error| error.kind() == ErrorKind::NotFound).then_some(real);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => below = folder,
            Err(_) => return None,
        }
    }
}

fn is_below(key: &str, prefix: &str) -> bool {
    prefix.is_empty() || key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}

fn not_allowed(uri: &str) -> RootError {
    RootError::NotAllowed { uri: shown(uri) }
}

fn shown(uri: &str) -> String {
    uri.chars().take(300).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A coordinator that reads one folder, one prefix and one host; `outside` is next to the folder.
    fn setup() -> (tempfile::TempDir, Roots, String) {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        for folder in ["data/sub", "data2", "outside", "storage/uploads"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["data/a.csv", "data/sub/b.csv", "data2/c.csv", "outside/secret.csv"] {
            std::fs::write(root.join(file), "text\nx\n").unwrap();
        }
        let listed = [
            root.join("data").to_str().unwrap().to_owned(),
            "s3://lake/corpora/".into(),
            "https://files.example.org".into(),
            "hf://datasets/ana".into(),
            "hf://datasets/squad".into(),
            "hf://datasets/eva/poems".into(),
        ];
        let storage = root.join("storage").to_str().unwrap().to_owned();
        (dir, Roots::listed(&listed).unwrap(), storage)
    }

    #[test]
    fn what_was_allowed_is_read() {
        let (dir, roots, storage) = setup();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        let path = |name: &str| root.join(name).to_str().unwrap().to_owned();
        for uri in [
            path("data/a.csv"),
            path("data/sub/b.csv"),
            format!("file://{}", path("data/a.csv")),
            "s3://lake/corpora/a.csv".to_owned(),
            "s3://lake/corpora/deep/er/a.csv".to_owned(),
            "hf://datasets/ana/tweets@0123456789abcdef0123456789abcdef01234567/a.csv".to_owned(),
            "hf://datasets/eva/poems@0123456789abcdef0123456789abcdef01234567/data/a.csv".to_owned(),
            "hf://datasets/squad@0123456789abcdef0123456789abcdef01234567/plain_text/a.csv".to_owned(),
            "https://files.example.org/a.csv".to_owned(),
            "https://FILES.example.org./a.csv".to_owned(),
        ] {
            roots.check(&uri, &storage).unwrap_or_else(|error| panic!("{uri}: {error}"));
        }
        // In a bucket, an upload is known by its name.
        let upload = format!("s3://store/p/uploads/{}/a.csv", "0".repeat(64));
        Roots::uploads_only().check(&upload, "s3://store/p").unwrap();
        assert!(Roots::uploads_only().check(&path("data/a.csv"), &storage).is_err());
        Roots::anywhere().check(&path("outside/secret.csv"), &storage).unwrap();
    }

    /// Buckets, web servers and schemes that were not allowed, in all their spellings.
    const HOSTILE: &[&str] = &[
        // Buckets.
        "s3://lake/corpora-of-others/a.csv",
        "s3://lake/corpora",
        "s3://lake/a.csv",
        "s3://lake/corpora/../secrets/a.csv",
        "s3://other/corpora/a.csv",
        "s3://lake@evil.example/corpora/a.csv",
        "s3://key:secret@lake/corpora/a.csv",
        "s3://lake:9000/corpora/a.csv",
        "s3://169.254.169.254/corpora/a.csv",
        "s3://lake?endpoint=http://127.0.0.1/corpora/a.csv",
        "gs://lake/corpora/a.csv",
        "az://lake/corpora/a.csv",
        "s3a://lake/corpora/a.csv",
        // Data sets.
        "hf://datasets/anabel/tweets@0123456789abcdef0123456789abcdef01234567/a.csv",
        "hf://datasets/eva/poems2@0123456789abcdef0123456789abcdef01234567/a.csv",
        "hf://datasets/eva@0123456789abcdef0123456789abcdef01234567/poems/a.csv",
        "hf://datasets/eva/other@main/../poems/a.csv",
        "hf://models/ana/tweets/a.csv",
        // Web servers.
        "http://files.example.org/a.csv",
        "https://files.example.org:8443/a.csv",
        "https://files.example.org@evil.example/a.csv",
        "https://user:pass@files.example.org/a.csv",
        "https://files.example.org.evil.example/a.csv",
        "https://evil.example/files.example.org/a.csv",
        "https://evil.example\\@files.example.org/a.csv",
        "https://files.example.org/a.csv?x=1",
        "https://files.example.org/a.csv#x",
        "https://127.0.0.1/a.csv",
        "https://127.1/a.csv",
        "https://2130706433/a.csv",
        "https://0x7f000001/a.csv",
        "https://0177.0.0.1/a.csv",
        "https://[::1]/a.csv",
        "https://[::ffff:169.254.169.254]/a.csv",
        "https://[fd00:ec2::254]/a.csv",
        "https://169.254.169.254/latest/meta-data/a.csv",
        "https://metadata.google.internal/a.csv",
        "https://localhost/a.csv",
        "https://localhost./a.csv",
        "https://127.0.0.1.nip.io/a.csv",
        // Other schemes.
        "ftp://files.example.org/a.csv",
        "gopher://127.0.0.1:6379/a.csv",
        "dict://127.0.0.1:11211/a.csv",
        "data:text/csv,text",
        "unix:///var/run/docker.sock",
    ];

    #[test]
    fn nothing_else_is_read() {
        let (dir, roots, storage) = setup();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        let path = |name: &str| root.join(name).to_str().unwrap().to_owned();
        #[cfg(unix)]
        {
            let digest = "1".repeat(64);
            std::os::unix::fs::symlink(root.join("outside/secret.csv"), root.join("data/link.csv")).unwrap();
            std::os::unix::fs::symlink(root.join("outside"), root.join("data/linked")).unwrap();
            std::os::unix::fs::symlink(root.join("outside/gone.csv"), root.join("data/dangling")).unwrap();
            std::fs::create_dir(root.join(format!("storage/uploads/{digest}"))).unwrap();
            std::os::unix::fs::symlink(
                root.join("outside/secret.csv"),
                root.join(format!("storage/uploads/{digest}/a.csv")),
            )
            .unwrap();
        }
        let mut hostile = vec![
            path("outside/secret.csv"),
            path("data2/c.csv"),
            path("data/../outside/secret.csv"),
            path("data/sub/../../outside/secret.csv"),
            path("data/%2e%2e/outside/secret.csv"),
            path("data/%2E%2e/outside/secret.csv"),
            path("data/link.csv"),
            path("data/linked/secret.csv"),
            path("data/linked/gone.csv"),
            path("data/linked/gone/gone.csv"),
            path("data/dangling"),
            path("data/dangling/gone.csv"),
            path("data/../outside/gone.csv"),
            path("data/../data/gone.csv"),
            path("data/./gone/../../outside/gone.csv"),
            path("data/%2e%2e/outside/gone.csv"),
            path("data/a.csv/gone.csv"),
            path("outside/gone.csv"),
            path("data2/gone.csv"),
            path("gone/data/gone.csv"),
            "/gone.csv".to_owned(),
            format!("{}\0.csv", path("data/a.csv")),
            format!("file://{}", path("data/%2e%2e/outside/secret.csv")),
            format!("file://elsewhere{}", path("data/a.csv")),
            format!("{storage}/uploads/{}/a.csv", "1".repeat(64)),
            format!("{storage}/uploads/../jobs/x.csv"),
            format!("{storage}/jobs/other/shards/00000000/x.parquet"),
            "data/a.csv".to_owned(),
            "/etc/passwd".to_owned(),
            "/proc/self/environ".to_owned(),
            String::new(),
        ];
        hostile.extend(HOSTILE.iter().map(|uri| (*uri).to_owned()));
        for uri in &hostile {
            let refused = roots.check(uri, &storage).expect_err(uri);
            // Whether there is a file must make no difference.
            assert!(matches!(refused, RootError::NotAllowed { .. } | RootError::Bad(_)), "{uri}: {refused}");
            assert!(!refused.to_string().contains("pass@"));
        }
        assert!(hostile.len() > 50);
    }

    #[test]
    fn a_file_missing_below_a_root_is_named_as_missing() {
        let (dir, roots, storage) = setup();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(root.join("data/sub"), root.join("data/short")).unwrap();
        for name in ["data/gone.csv", "data/sub/gone.csv", "data/gone/gone.csv", "data/short/gone.csv"] {
            let uri = root.join(name).to_str().unwrap().to_owned();
            for uri in [format!("file://{uri}"), uri] {
                let missing = roots.check(&uri, &storage).unwrap_err();
                assert!(matches!(missing, RootError::SourceMissing { .. }), "{uri}: {missing}");
                assert!(missing.to_string().contains(&uri), "{missing}");
            }
        }
    }

    #[test]
    fn an_upload_that_is_away_is_not_called_forbidden() {
        let (dir, roots, storage) = setup();
        let upload = format!("{storage}/uploads/{}/a.csv", "2".repeat(64));
        assert!(matches!(roots.check(&upload, &storage), Err(RootError::UploadMissing { .. })));
        let folder = Path::new(&upload).parent().unwrap();
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(&upload, "text\nx\n").unwrap();
        roots.check(&upload, &storage).unwrap();
        // It must not reveal whether other files exist.
        let gone = dir.path().join("outside/gone.csv");
        assert!(matches!(roots.check(gone.to_str().unwrap(), &storage), Err(RootError::NotAllowed { .. })));
    }

    #[test]
    fn private_hosts_are_refused_even_where_they_are_listed() {
        let listed: Vec<String> =
            ["https://127.0.0.1", "https://10.0.0.8", "https://intranet"].map(str::to_owned).into();
        let roots = Roots::listed(&listed).unwrap();
        for uri in ["https://127.0.0.1/a.csv", "https://10.0.0.8/a.csv", "https://intranet/a.csv"] {
            assert!(roots.check(uri, "/storage").is_err(), "{uri}");
        }
    }

    #[test]
    fn a_root_that_is_none_is_named() {
        for root in ["/nowhere/at/all", "https://host/path", "https://u:p@host", "ftp://host"] {
            assert!(Roots::listed(&[root.to_owned()]).is_err(), "{root}");
        }
    }
}
