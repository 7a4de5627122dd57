//! A PostgreSQL of the test's own: data in a temporary folder, a Unix socket, `fsync` on; gone when the test is.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

/// How long the server may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server. It ends with this value, and also when the process dies without dropping it: the shell that runs it
/// waits for the end of its standard input, which only this process holds open.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    shell: Child,
}

impl Server {
    /// Starts a server without databases.
    pub async fn start() -> Self {
        let programs = programs();
        let folder = TempDir::with_prefix("encaje-postgres-").expect("a temporary folder");
        let account = Account::for_postgres();
        account.give(folder.path());
        let data = folder.path().join("data");
        let mut initdb = account.command(&programs.join("initdb"));
        initdb.args(["--username=encaje", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"]);
        let made = initdb.arg(&data).current_dir(folder.path()).output().expect("initdb starts");
        assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));

        let shell = spawn(folder.path());
        let server = Self { folder, shell };
        server.wait_until_it_answers().await;
        server
    }

    /// Makes an empty database and returns its URL.
    pub async fn database(&self, name: &str) -> String {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.expect("the server answers");
        let create = AssertSqlSafe(format!("CREATE DATABASE \"{name}\""));
        connection.execute(create).await.expect("the database is new");
        self.url(name)
    }

    /// Ends it without a word to its clients; what was committed stays.
    pub fn stop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().ok();
    }

    /// Starts it again after [`Server::stop`].
    pub async fn start_again(&mut self) {
        self.shell = spawn(self.folder.path());
        self.wait_until_it_answers().await;
    }

    /// The folder of its socket.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://encaje@localhost/{database}?host={}", self.folder.path().display())
    }

    async fn wait_until_it_answers(&self) {
        let started = Instant::now();
        while let Err(error) = PgConnection::connect(&self.url("postgres")).await {
            assert!(started.elapsed() < START_TIMEOUT, "PostgreSQL does not answer: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs the server on the data in a folder, until its standard input ends.
fn spawn(folder: &Path) -> Child {
    let account = Account::for_postgres();
    let mut shell = account.command(Path::new("/bin/sh"));
    shell.args(["-c", r#""$0" "$@" & server=$!; cat; kill -QUIT $server; wait $server"#]);
    shell.arg(programs().join("postgres")).arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
    shell.args(["-c", "listen_addresses=", "-c", "fsync=on", "-c", "max_connections=100"]);
    shell.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.spawn().expect("the shell starts")
}

/// Returns the folder of PostgreSQL's programs, the newest where there are several.
fn programs() -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")))
        })
        .filter(|(_, folder)| folder.join("postgres").is_file())
        .collect();
    versions.sort();
    if let Some((_, folder)) = versions.pop() {
        return folder;
    }
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .find(|folder| folder.join("postgres").is_file() && folder.join("initdb").is_file());
    found.expect("PostgreSQL is not installed, and the store must be proved on it: run `make setup`")
}

/// The user that the server runs as: it refuses to be root.
struct Account(Option<(u32, u32)>);

impl Account {
    fn for_postgres() -> Self {
        let own = std::fs::metadata("/proc/self").map_or(1, |this| this.uid());
        if own != 0 {
            return Self(None);
        }
        let users = std::fs::read_to_string("/etc/passwd").expect("the list of users");
        let entry = users.lines().find(|line| line.starts_with("postgres:"));
        let fields: Vec<&str> = entry.expect("a user `postgres`: run `make setup`").split(':').collect();
        Self(Some((fields[2].parse().expect("a user id"), fields[3].parse().expect("a group id"))))
    }

    fn give(&self, folder: &Path) {
        if let Some((user, group)) = self.0 {
            chown(folder, Some(user), Some(group)).expect("root may give a folder away");
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((user, group)) = self.0 {
            command.gid(group).uid(user);
        }
        command
    }
}
