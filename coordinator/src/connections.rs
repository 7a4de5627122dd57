//! How many clients are connected at once, and how long one may be silent. When all places are taken, a new connection
//! replaces the oldest one that has not sent its greeting yet, and otherwise waits for a place: a crowd of idle connections
//! costs neither memory nor descriptors, and does not keep out clients that speak.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use proto::transport::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;
use tracing::warn;

/// What every client sends at once: the preface of HTTP/2 and its settings, or more in a TLS handshake.
const GREETING_BYTES: usize = 24 + 9;
/// Clients answer pings. One that sends nothing for so long is not there, or has not even begun to speak HTTP/2.
const SILENCE: Duration = Duration::from_secs(KEEPALIVE_INTERVAL.as_secs() + 2 * KEEPALIVE_TIMEOUT.as_secs());

/// After an accept that failed, as for lack of descriptors: the next one would fail at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// A connection that takes one of the places.
pub(crate) struct Counted<IO> {
    io: IO,
    heard: Heard,
    newcomer: Arc<Newcomer>,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
}

/// A connection as the others see it while it has not sent its greeting.
#[derive(Default)]
struct Newcomer {
    greeted: AtomicBool,
    evict: CancellationToken,
}

impl<IO> Counted<IO> {
    fn new(io: IO, greeting_within: Duration, place: OwnedSemaphorePermit) -> Self {
        let newcomer = Arc::new(Newcomer::default());
        let evicted = Box::pin(newcomer.evict.clone().cancelled_owned());
        Self { io, heard: Heard::new(greeting_within), newcomer, evicted, _place: place }
    }

    /// Ready once the connection has to end: evicted before its greeting, or silent for too long.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !self.heard.has_greeted() && self.evicted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, "replaced by another connection"));
        }
        self.heard.poll(cx)
    }
}

/// When something was heard of a client, and how long it may be silent.
struct Heard {
    greeting: usize,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Heard {
    fn new(greeting_within: Duration) -> Self {
        Self { greeting: 0, last: Instant::now(), alarm: Box::pin(sleep(greeting_within)) }
    }

    fn has_greeted(&self) -> bool {
        self.greeting >= GREETING_BYTES
    }

    fn note(&mut self, bytes: usize) {
        self.greeting = self.greeting.saturating_add(bytes);
        // Until the greeting is whole, every byte counts against the first deadline.
        if self.has_greeted() {
            self.last = Instant::now();
        }
    }

    /// Ready once the client has been silent for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let until = self.last + SILENCE;
            if !self.has_greeted() || until <= Instant::now() {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client says nothing"));
            }
            self.alarm.as_mut().reset(until);
        }
    }
}

/// Takes connections from `incoming` while fewer than `max` are open. One has to greet within `greeting_within`.
pub(crate) fn capped<I, IO>(
    incoming: I,
    max: usize,
    greeting_within: Duration,
) -> impl Stream<Item = io::Result<Counted<IO>>> + Send
where
    I: Stream<Item = io::Result<IO>> + Send + 'static,
    IO: Send + 'static,
{
    let places = Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)));
    let state = (Box::pin(incoming), places, Newcomers::default());
    futures::stream::unfold(state, move |(mut incoming, places, mut newcomers)| async move {
        let counted = match incoming.next().await? {
            Ok(io) => {
                if places.available_permits() == 0 {
                    newcomers.evict_oldest();
                }
                let place = Arc::clone(&places).acquire_owned().await.ok()?;
                let counted = Counted::new(io, greeting_within, place);
                newcomers.add(&counted.newcomer);
                Ok(counted)
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                Err(error)
            }
        };
        Some((counted, (incoming, places, newcomers)))
    })
}

/// Connections that have not sent their greeting, oldest first. Those that have, or are closed, leave when they are met.
#[derive(Default)]
struct Newcomers(VecDeque<Weak<Newcomer>>);

impl Newcomers {
    fn add(&mut self, newcomer: &Arc<Newcomer>) {
        while self.0.front().is_some_and(|first| waiting(first).is_none()) {
            self.0.pop_front();
        }
        self.0.push_back(Arc::downgrade(newcomer));
    }

    fn evict_oldest(&mut self) {
        while let Some(first) = self.0.pop_front() {
            if let Some(newcomer) = waiting(&first) {
                newcomer.evict.cancel();
                return;
            }
        }
    }
}

/// Returns a connection that is open and has not sent its greeting.
fn waiting(newcomer: &Weak<Newcomer>) -> Option<Arc<Newcomer>> {
    newcomer.upgrade().filter(|newcomer| !newcomer.greeted.load(Ordering::Relaxed))
}

impl<IO: Connected> Connected for Counted<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buf) {
            let bytes = buf.filled().len() - before;
            self.heard.note(bytes);
            if self.heard.has_greeted() {
                self.newcomer.greeted.store(true, Ordering::Relaxed);
            }
            return Poll::Ready(read);
        }
        self.poll_end(cx).map(Err)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn nobody_is_accepted_beyond_the_cap_until_somebody_leaves() {
        let incoming = tokio_stream::iter((0..3).map(Ok::<_, io::Error>));
        let mut accepted = Box::pin(capped(incoming, 2, SILENCE));
        let first = accepted.next().await.unwrap().unwrap();
        let second = accepted.next().await.unwrap().unwrap();
        assert!(futures::poll!(std::pin::pin!(accepted.next())).is_pending());
        drop(first);
        assert_eq!(accepted.next().await.unwrap().unwrap().io, 2);
        drop(second);
        assert!(accepted.next().await.is_none());
    }

    #[tokio::test]
    async fn a_new_connection_replaces_the_oldest_that_has_not_greeted() {
        let (mut clients, servers): (Vec<_>, Vec<_>) = (0..3).map(|_| tokio::io::duplex(64)).unzip();
        let incoming = tokio_stream::iter(servers.into_iter().map(Ok::<_, io::Error>));
        let mut accepted = Box::pin(capped(incoming, 2, SILENCE));
        let mut speaking = accepted.next().await.unwrap().unwrap();
        clients[0].write_all(&[0; GREETING_BYTES]).await.unwrap();
        speaking.read_exact(&mut [0; GREETING_BYTES]).await.unwrap();
        let mut silent = accepted.next().await.unwrap().unwrap();
        let evicted = tokio::spawn(async move { silent.read(&mut [0; 8]).await.unwrap_err().kind() });
        let third = accepted.next().await.unwrap();
        assert!(third.is_ok());
        assert_eq!(evicted.await.unwrap(), io::ErrorKind::ConnectionAborted);
        clients[0].write_all(b"more").await.unwrap();
        assert_eq!(speaking.read(&mut [0; 8]).await.unwrap(), 4, "a client that has greeted stays");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_accept_is_not_repeated_at_once() {
        let failures = (0..4).map(|_| Err::<(), _>(io::Error::other("no descriptors")));
        let started = Instant::now();
        let accepted: Vec<_> = capped(tokio_stream::iter(failures), 2, SILENCE).collect().await;
        assert_eq!((accepted.len(), started.elapsed()), (4, 4 * ACCEPT_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_greets_slowly_or_falls_silent_loses_its_place() {
        let greeting_within = Duration::from_secs(20);
        let (mut client, server) = tokio::io::duplex(64);
        let incoming = tokio_stream::iter([Ok::<_, io::Error>(server)]);
        let mut accepted = Box::pin(capped(incoming, 1, greeting_within));
        let mut taken = accepted.next().await.unwrap().unwrap();
        let mut buffer = [0; 64];
        // A byte a second is no greeting.
        let started = Instant::now();
        tokio::spawn(async move {
            loop {
                client.write_all(b"P").await.ok();
                sleep(Duration::from_secs(1)).await;
            }
        });
        let error = loop {
            if let Err(error) = taken.read(&mut buffer).await {
                break error;
            }
        };
        assert_eq!((error.kind(), started.elapsed().as_secs()), (io::ErrorKind::TimedOut, 20));

        let (mut client, server) = tokio::io::duplex(64);
        let mut accepted = Box::pin(capped(tokio_stream::iter([Ok::<_, io::Error>(server)]), 1, greeting_within));
        let mut taken = accepted.next().await.unwrap().unwrap();
        client.write_all(&[0; GREETING_BYTES]).await.unwrap();
        assert_eq!(taken.read(&mut buffer).await.unwrap(), GREETING_BYTES);
        let started = Instant::now();
        assert_eq!(taken.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed(), SILENCE);
    }
}
