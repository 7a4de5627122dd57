//! Authentication and authorization: certificates good and bad, tokens, roles, and secrets that stay secret.
#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::Secret;
use proto::revision::REVISION;
use proto::work::WorkerInfo;
use proto::{ClientSecurity, Connection, RequestId, RpcErrorKind, WorkClient};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::harness::corpora::{self, sentences};
use crate::harness::daemon::{Daemon, coordinator, submit, worker};
use crate::harness::{Ran, TestEnv, model, wait_for};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a coordinator with certificates and tokens is started with.
const SECURE: &[&str] = &[
    "--tls-cert",
    "certs/server.pem",
    "--tls-key",
    "certs/server-key.pem",
    "--tls-client-ca",
    "certs/ca.pem",
    "--tokens",
    "tokens",
];

/// Makes certificates as the manual says, and a token per scope. Returns the tokens.
fn secured(env: &TestEnv) -> Tokens {
    env.encaje(["certs", "--out", "certs", "--worker", "w1", "--worker", "w2"]).expect_code(0);
    let token = |scope: &str| {
        let ran = env.encaje(["token", "new", "--tokens", "tokens", "--name", scope, "--scope", scope]);
        ran.expect_code(0);
        env.write(&format!("{scope}.token"), &ran.stdout);
        ran.stdout.trim().to_owned()
    };
    Tokens { submit: token("submit"), read: token("read"), admin: token("admin") }
}

struct Tokens {
    submit: String,
    read: String,
    admin: String,
}

/// Asks for the list of jobs.
fn list(env: &TestEnv, url: &str, more: &[&str]) -> Ran {
    let words = ["list", "--coordinator", url, "--json"];
    env.encaje(words.iter().chain(more))
}

fn token_words<'a>(ca: &'a str, token: &'a str) -> [&'a str; 4] {
    ["--tls-ca", ca, "--token-file", token]
}

#[test]
fn a_secured_cluster_does_its_work_and_keeps_its_secrets() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(200)));
    let tokens = secured(&env);
    for name in ["certs/ca-key.pem", "certs/server-key.pem", "certs/w1-key.pem", "tokens"] {
        let mode = std::fs::metadata(env.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    env.encaje(["certs", "--out", "certs"]).expect_code(2);

    let more: Vec<&str> = SECURE.iter().copied().chain(["-vv"]).collect();
    let (coordinator, url) = coordinator(&env, "c", "state.db", &more);
    assert!(url.starts_with("https://"), "{url}");
    let certificate = ["--tls-ca", "certs/ca.pem", "--tls-cert", "certs/w1.pem", "--tls-key", "certs/w1-key.pem"];
    let words = ["worker", "--coordinator", &url, "--spool", "spool", "--threads", "1", "--json", "-vv"];
    let words: Vec<&str> = words.into_iter().chain(certificate).collect();
    let worker = Daemon::start(&env, "w", &words);

    let model = model().display().to_string();
    let ca = ["--tls-ca", "certs/ca.pem", "-vv"];
    let words = ["submit", "a.csv", "--model", &model, "--coordinator", &url, "--shard-rows", "40"];
    let submitted = Ran::of(env.command(words.iter().chain(&ca)).env("ENCAJE_TOKEN", &tokens.submit).output().unwrap());
    submitted.expect_code(0);
    let job = submitted.stdout.trim().to_owned();
    let words = ["download", &job, "--coordinator", &url, "--out", "out", "--wait"];
    let fetched = env.encaje(words.iter().chain(&token_words("certs/ca.pem", "read.token")).chain(&["-vv"]));
    fetched.expect_code(0);
    env.encaje(["verify", "out", "--corpus", "a.csv"]).expect_code(0);

    let key = std::fs::read_to_string(env.path("certs/w1-key.pem")).unwrap();
    let key = key.lines().nth(1).unwrap().to_owned();
    let secrets = [tokens.submit, tokens.read, tokens.admin, key];
    let said = [coordinator.log(), worker.log(), submitted.stderr, fetched.stderr];
    let kept = crate::harness::files_below(env.path("").as_path(), &|path| {
        let is_secret = path.starts_with(env.path("certs")) || path.extension().is_some_and(|end| end == "token");
        !is_secret
    });
    assert!(kept.iter().any(|path| path.ends_with("state.db")), "the database is looked at");
    for secret in &secrets {
        assert!(said.iter().all(|text| !text.contains(secret.as_str())), "a secret was logged");
        for path in &kept {
            let holds = contains(&std::fs::read(path).unwrap_or_default(), secret.as_bytes());
            assert!(!holds, "{} holds a secret", path.display());
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[test]
fn certificates_are_replaced_while_a_cluster_works() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(60)));
    secured(&env);
    let (mut coordinator, url) = coordinator(&env, "c", "state.db", SECURE);
    let certificate = ["--tls-ca", "certs/ca.pem", "--tls-cert", "certs/w1.pem", "--tls-key", "certs/w1-key.pem"];
    let _worker = worker(&env, "w", &url, &certificate);
    let user = token_words("certs/ca.pem", "submit.token");
    let embed = |out: &str| {
        let again: Vec<&str> = ["--shard-rows", "20", "--again"].into_iter().chain(user).collect();
        let job = submit(&env, &url, "a.csv", &again);
        let words = ["download", &job, "--coordinator", &url, "--out", out, "--wait"];
        env.encaje(words.iter().chain(&user)).expect_code(0);
        env.encaje(["verify", out, "--corpus", "a.csv"]).expect_code(0);
    };
    embed("before");

    env.encaje(["certs", "--out", "fresh", "--worker", "w1"]).expect_code(0);
    std::fs::copy(env.path("certs/ca.pem"), env.path("old-ca.pem")).unwrap();
    let replace = |name: &str| std::fs::rename(env.path(&format!("fresh/{name}")), env.path(&format!("certs/{name}")));
    // A certificate whose key has not come yet.
    replace("server.pem").unwrap();
    wait_for("the coordinator to notice", || {
        list(&env, &url, &user).expect_code(0);
        coordinator.log().contains("those before them still are").then_some(())
    });
    for name in ["server-key.pem", "w1.pem", "w1-key.pem", "ca.pem"] {
        replace(name).unwrap();
    }
    wait_for("the new certificates", || (list(&env, &url, &user).code == Some(0)).then_some(()));
    list(&env, &url, &token_words("old-ca.pem", "submit.token")).expect_code(1);
    embed("after");

    coordinator.kill();
    let address = url.strip_prefix("https://").unwrap();
    let words = ["coordinator", "--listen", address, "--database", "state.db", "--storage", "storage", "--json"];
    let words: Vec<&str> = words.iter().chain(SECURE).copied().collect();
    let mut second = Daemon::start(&env, "c2", &words);
    assert_eq!(second.event()["event"], "listening");
    embed("restarted");
}

#[test]
fn each_role_may_do_its_own_and_no_more() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(5)));
    secured(&env);
    let (_coordinator, url) = coordinator(&env, "c", "state.db", SECURE);
    let ca = "certs/ca.pem";
    for role in ["submit", "read", "admin"] {
        list(&env, &url, &token_words(ca, &format!("{role}.token"))).expect_code(0);
    }
    let model = model().display().to_string();
    let submit = ["submit", "a.csv", "--model", &model, "--coordinator", &url];
    for (token, code) in [("read.token", 1), ("submit.token", 0), ("admin.token", 0)] {
        let ran = env.encaje(submit.iter().chain(&token_words(ca, token)));
        ran.expect_code(code);
        assert_eq!(code == 0, !ran.stderr.contains("may not do this"), "{token}: {}", ran.stderr);
    }

    let certificate = ["--tls-ca", ca, "--tls-cert", "certs/w1.pem", "--tls-key", "certs/w1-key.pem"];
    let refused = list(&env, &url, &certificate);
    refused.expect_code(1);
    refused.expect_said(&["`w1` has the role `worker`"]);
    let anonymous = list(&env, &url, &["--tls-ca", ca]);
    anonymous.expect_code(1);
    anonymous.expect_said(&["--token-file", "--tls-cert"]);
    env.write("wrong.token", "encaje_0123");
    let wrong = list(&env, &url, &token_words(ca, "wrong.token"));
    wrong.expect_code(1);
    wrong.expect_said(&["not valid"]);
    let worker = ["worker", "--coordinator", &url, "--spool", "spool"];
    let worker = env.encaje(worker.iter().chain(&token_words(ca, "submit.token")));
    worker.expect_code(1);
    worker.expect_said(&["refuses this worker", "`submit` has the role `submit`"]);

    env.encaje(["token", "revoke", "read", "--tokens", "tokens"]).expect_code(0);
    wait_for("the revocation", || (list(&env, &url, &token_words(ca, "read.token")).code == Some(1)).then_some(()));
    list(&env, &url, &token_words(ca, "submit.token")).expect_code(0);
}

#[test]
fn people_see_and_steer_their_own_jobs() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(5)));
    secured(&env);
    let ran = env.encaje(["token", "new", "--tokens", "tokens", "--name", "luis", "--scope", "submit"]);
    env.write("luis.token", &ran.stdout);
    let (_coordinator, url) = coordinator(&env, "c", "state.db", SECURE);
    let ask = |token: &str, words: &[&str]| {
        let identity = ["--tls-ca", "certs/ca.pem", "--token-file", token, "--coordinator", &url];
        env.encaje(words.iter().chain(&identity))
    };
    let jobs_of = |token: &str| ask(token, &["list", "--json"]).json().as_array().unwrap().len();
    let model = model().display().to_string();
    let submit = ["submit", "a.csv", "--model", &model];
    let job = ask("submit.token", &submit).stdout.trim().to_owned();
    assert_eq!(["submit.token", "luis.token", "read.token", "admin.token"].map(jobs_of), [1, 0, 1, 1]);
    for words in [["status", &job], ["cancel", &job], ["retry", &job], ["repair", &job]] {
        let refused = ask("luis.token", &words);
        refused.expect_code(1);
        refused.expect_said(&[&job]);
    }
    // The same command is the same job, which is somebody else's.
    let taken = ask("luis.token", &submit);
    taken.expect_code(1);
    taken.expect_said(&["somebody else", "--again"]);
    let own = ask("luis.token", &[&submit[..], &["--again"]].concat());
    own.expect_code(0);
    assert_eq!(["submit.token", "luis.token", "admin.token"].map(jobs_of), [1, 1, 2]);
    ask("luis.token", &["cancel", own.stdout.trim()]).expect_code(0);
    ask("admin.token", &["cancel", &job]).expect_code(0);
}

#[test]
fn a_session_belongs_to_the_certificate_that_opened_it() {
    let env = TestEnv::new();
    secured(&env);
    let (_coordinator, url) = coordinator(&env, "c", "state.db", SECURE);
    let read = |name: &str| std::fs::read_to_string(env.path(&format!("certs/{name}.pem"))).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = |name: &str| {
            let identity_pem = Some((read(name), Secret::new(&read(&format!("{name}-key")))));
            let security = ClientSecurity { ca_pem: Some(read("ca")), identity_pem, ..Default::default() };
            WorkClient::new(Connection::open(std::slice::from_ref(&url), &security).unwrap())
        };
        let (own, other) = (client("w1"), client("w2"));
        let info =
            WorkerInfo { name: "n".into(), devices: vec!["cpu".into()], version: "0".into(), revision: REVISION };
        let session = own.open_session(&info).await.unwrap().id;
        own.lease(session, RequestId::generate(), 1).await.unwrap();
        own.heartbeat(session, &[]).await.unwrap();
        let refused = [
            other.lease(session, RequestId::generate(), 1).await.unwrap_err(),
            other.heartbeat(session, &[]).await.unwrap_err(),
            other.close_session(session).await.unwrap_err(),
        ];
        assert!(refused.iter().all(|error| error.kind == RpcErrorKind::PermissionDenied), "{refused:?}");
        own.close_session(session).await.unwrap();
    });
}

/// An authority of the test's own, which also signs what no good one would.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key) }
    }

    /// Signs a certificate that became valid so many days ago, for ten days.
    fn issue(&self, folder: &Path, name: &str, san: SanType, days_ago: u32) {
        let (params, key) = (params(san, days_ago), KeyPair::generate().unwrap());
        write(folder, name, &params.signed_by(&key, &self.issuer).unwrap().pem(), &key);
    }
}

fn params(san: SanType, days_ago: u32) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.subject_alt_names = vec![san];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let start = SystemTime::now() - DAY * days_ago;
    params.not_before = start.into();
    params.not_after = (start + DAY * 10).into();
    params
}

fn write(folder: &Path, name: &str, certificate: &str, key: &KeyPair) {
    std::fs::write(folder.join(format!("{name}.pem")), certificate).unwrap();
    std::fs::write(folder.join(format!("{name}-key.pem")), key.serialize_pem()).unwrap();
}

fn host() -> SanType {
    SanType::IpAddress([127, 0, 0, 1].into())
}

fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).unwrap())
}

#[test]
fn bad_certificates_do_not_get_in() {
    let env = TestEnv::new();
    let certs = env.path("certs");
    let authority = Authority::new(&certs);
    authority.issue(&certs, "server", host(), 1);
    authority.issue(&certs, "admin", uri("encaje://admin/ana"), 1);
    authority.issue(&certs, "expired", uri("encaje://admin/ana"), 20);
    authority.issue(&certs, "king", uri("encaje://king/ana"), 1);
    authority.issue(&certs, "spiffe", uri("spiffe://domain/w"), 1);
    Authority::new(&env.path("other")).issue(&certs, "foreign", uri("encaje://admin/ana"), 1);
    let key = KeyPair::generate().unwrap();
    let own = params(uri("encaje://admin/ana"), 1).self_signed(&key).unwrap();
    write(&certs, "own", &own.pem(), &key);

    let tls = &SECURE[..6];
    let (_coordinator, url) = coordinator(&env, "c", "state.db", tls);
    let ask = |name: &str| {
        let (certificate, key) = (format!("certs/{name}.pem"), format!("certs/{name}-key.pem"));
        list(&env, &url, &["--tls-ca", "certs/ca.pem", "--tls-cert", &certificate, "--tls-key", &key])
    };
    ask("admin").expect_code(0);
    for (name, said) in [
        ("expired", "no coordinator answers"),
        ("foreign", "no coordinator answers"),
        ("own", "no coordinator answers"),
        ("king", "--tls-cert"),
        ("spiffe", "`spiffe://domain/w` has the role `worker`"),
    ] {
        let ran = ask(name);
        ran.expect_code(1);
        ran.expect_said(&[said]);
    }
    let plain = url.replace("https://", "http://");
    list(&env, &plain, &[]).expect_code(1);
    list(&env, &url, &[]).expect_code(2);
}

#[test]
fn a_client_does_not_believe_a_bad_coordinator() {
    let env = TestEnv::new();
    let certs = env.path("certs");
    let authority = Authority::new(&certs);
    Authority::new(&env.path("other"));
    authority.issue(&certs, "server", host(), 20);
    let (_expired, url) = coordinator(&env, "expired", "a.db", &SECURE[..6]);
    let ran = list(&env, &url, &["--tls-ca", "certs/ca.pem"]);
    ran.expect_code(1);
    ran.expect_said(&["no coordinator answers", "certificate"]);
    authority.issue(&certs, "server", SanType::DnsName(Ia5String::try_from("elsewhere.example").unwrap()), 1);
    let (_misnamed, url) = coordinator(&env, "misnamed", "b.db", &SECURE[..6]);
    list(&env, &url, &["--tls-ca", "certs/ca.pem"]).expect_code(1);
    authority.issue(&certs, "server", host(), 1);
    let (_good, url) = coordinator(&env, "good", "c.db", &SECURE[..6]);
    list(&env, &url, &["--tls-ca", "other/ca.pem"]).expect_said(&["certificate"]);
    list(&env, &url, &["--tls-ca", "certs/ca.pem"]).expect_said(&["give a token"]);
}

#[test]
fn only_what_proves_itself_and_its_callers_is_reachable_by_others() {
    let env = TestEnv::new();
    secured(&env);
    let start = ["coordinator", "--listen", "0.0.0.0:0", "--database", "state.db", "--storage", "storage", "--json"];
    let refused: [&[&str]; 3] = [&["--tokens", "tokens"], &SECURE[..4], &[]];
    for more in refused {
        env.encaje(start.iter().chain(more)).expect_code(2);
    }
    let words: Vec<&str> = start.iter().chain(SECURE).copied().collect();
    assert_eq!(Daemon::start(&env, "open", &words).event()["event"], "listening");
}
