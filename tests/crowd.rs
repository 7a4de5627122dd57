//! A crowd of connections that say nothing: it must not keep a coordinator from its clients, nor make it spin.
#![cfg(unix)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::TestEnv;
use crate::harness::daemon::Daemon;

/// More than the descriptors that the coordinator may have in this test.
const IDLE: usize = 1_100;
/// What a client waits at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a coordinator with metrics that may have 1,024 descriptors. Returns it, its URL and the address of its metrics.
fn limited_coordinator(env: &TestEnv) -> (Daemon, String, SocketAddr) {
    let words = ["coordinator", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--json"];
    let program = env.command(words.iter().chain(&["--database", "state.db", "--storage", "storage"]));
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 1024 && exec \"$0\" \"$@\""]).arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(env.path("")).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let mut daemon = Daemon::spawn(env, "coordinator", command);
    let event = daemon.event();
    let url = event["url"].as_str().unwrap().to_owned();
    let metrics = event["metrics"].as_str().unwrap().trim_start_matches("http://").trim_end_matches("/metrics");
    (daemon, url, metrics.parse().unwrap())
}

/// This process needs a descriptor for each connection too.
fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

fn crowd(address: SocketAddr) -> Vec<TcpStream> {
    (0..IDLE).map(|_| TcpStream::connect(address).unwrap()).collect()
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: encaje\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Processor time that a process has used, in clock ticks of 10 ms.
fn processor_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

#[test]
fn idle_connections_neither_block_a_coordinator_nor_make_it_spin() {
    raise_own_limit();
    let env = TestEnv::new();
    let (daemon, url, metrics) = limited_coordinator(&env);
    let grpc: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
    let idle = [crowd(metrics), crowd(grpc)];

    let started = Instant::now();
    assert!(get(metrics, "/healthz").starts_with("HTTP/1.1 200"), "log:\n{}", daemon.log());
    assert!(get(metrics, "/metrics").contains("encaje_store_up 1"));
    env.encaje(["list", "--coordinator", &url]).expect_code(0);
    assert!(started.elapsed() < PATIENCE, "answered after {:?}", started.elapsed());

    let (before, second) = (processor_ticks(daemon.id()), Duration::from_secs(1));
    std::thread::sleep(second);
    let used = processor_ticks(daemon.id()) - before;
    assert!(used < 50, "idle connections cost {used} ticks of 10 ms in {second:?}");
    drop(idle);
}
