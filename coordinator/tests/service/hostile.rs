//! Clients that mean no good: floods of streams that are given up at once, header blocks without end, silence. None of
//! them keeps the coordinator from serving others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coordinator::{Config, Store, SystemClock};
use dataset::Storage;
use proto::JobsClient;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Frames of HTTP/2, by their type.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// What a request needs at least: `POST`, `http`, `/`, from the static table of HPACK.
const REQUEST: [u8; 3] = [0x83, 0x86, 0x84];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Starts a coordinator on a port. It has no more to do than its folder lives.
async fn listening(config: Config) -> (SocketAddr, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let store = Store::open(&path("state.db"), Arc::new(SystemClock::new())).await.unwrap();
    let storage = Storage::open(&path("storage")).unwrap();
    let incoming = proto::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = incoming.local_addr().unwrap();
    tokio::spawn(coordinator::run(config, store, storage, incoming, CancellationToken::new()));
    (address, dir)
}

/// A client that means well is served.
async fn serves(address: SocketAddr) {
    let jobs = JobsClient::new(proto::connect(&format!("http://{address}")).await.unwrap());
    assert!(jobs.list(9).await.unwrap().jobs.is_empty());
}

/// Connects and greets.
async fn greeted(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let greeting = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &[])].concat();
    socket.write_all(&greeting).await.unwrap();
    socket
}

/// Whether the server says goodbye or hangs up; it reads on meanwhile.
async fn is_thrown_out(mut socket: TcpStream, mut more: impl FnMut() -> Vec<u8>) -> bool {
    let mut said = Vec::new();
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while tokio::time::Instant::now() < until {
        // A connection that is reset may fail either way.
        if socket.write_all(&more()).await.is_err() {
            return true;
        }
        let mut buffer = [0; 4096];
        match tokio::time::timeout(Duration::from_millis(1), socket.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(read)) => said.extend_from_slice(&buffer[..read]),
            Err(_) => {}
        }
        if types(&said).contains(&GOAWAY) {
            return true;
        }
    }
    false
}

/// The types of the whole frames in some bytes.
fn types(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [a, b, c, kind, ..] = *bytes {
        let length = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        if bytes.len() < length {
            break;
        }
        types.push(kind);
        bytes = &bytes[length..];
    }
    types
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_are_thrown_out_and_others_are_served() {
    let (address, _dir) = listening(Config::default()).await;
    let resets = {
        let mut stream = 1;
        move || {
            let mut frames = Vec::new();
            for _ in 0..100 {
                frames.extend(frame(HEADERS, END_HEADERS, stream, &REQUEST));
                frames.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
                stream += 2;
            }
            frames
        }
    };
    assert!(is_thrown_out(greeted(address).await, resets).await, "streams that are given up at once");

    // A header without an end: a literal of 4 KB in every frame, never END_HEADERS.
    let literal = [[0x00, 0x01, b'x', 0x7f, 0x81, 0x1e].as_slice(), &[b'v'; 3_968]].concat();
    let mut begun = false;
    let endless = move || {
        let first = if begun { Vec::new() } else { frame(HEADERS, 0, 1, &REQUEST) };
        begun = true;
        [first, frame(CONTINUATION, 0, 1, &literal)].concat()
    };
    assert!(is_thrown_out(greeted(address).await, endless).await, "headers without end");
    serves(address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_make_room_for_others() {
    const MOST: usize = 8;
    let greeting_within = Duration::from_millis(300);
    let config = Config { connections_max: MOST, greeting_within, ..Config::default() };
    let (address, _dir) = listening(config).await;
    let mut silent = Vec::new();
    for _ in 0..MOST {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    serves(address).await;
    for mut socket in silent {
        // The server has said its settings, and then hung up.
        let end = tokio::time::timeout(Duration::from_secs(30), socket.read_to_end(&mut Vec::new())).await;
        assert!(end.is_ok(), "it was hung up");
    }
}
