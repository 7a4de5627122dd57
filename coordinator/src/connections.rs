//! How many clients are connected at once, and how long one may say nothing: beyond the cap nobody is accepted until
//! somebody leaves, so that a flood of connections costs no memory; and whoever takes a place without using it loses it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use proto::transport::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

/// What every client sends at once: the preface of HTTP/2 and its settings, or more in a TLS handshake.
const GREETING_BYTES: usize = 24 + 9;
/// Clients answer pings. One that sends nothing for so long is not there, or has not even begun to speak HTTP/2.
const SILENCE: Duration = Duration::from_secs(KEEPALIVE_INTERVAL.as_secs() + 2 * KEEPALIVE_TIMEOUT.as_secs());

/// A connection that counts.
pub(crate) struct Counted<IO> {
    io: IO,
    heard: Heard,
    _place: OwnedSemaphorePermit,
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

    fn note(&mut self, bytes: usize) {
        self.greeting = self.greeting.saturating_add(bytes);
        // Until the greeting is whole, every byte counts against the first deadline.
        if self.greeting >= GREETING_BYTES {
            self.last = Instant::now();
        }
    }

    /// Ready once the client has been silent for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let until = self.last + SILENCE;
            if self.greeting < GREETING_BYTES || until <= Instant::now() {
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
    let places = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
    let state = (Box::pin(incoming), places);
    futures::stream::unfold(state, move |(mut incoming, places)| async move {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let next = incoming.next().await?;
        let counted = |io| Counted { io, heard: Heard::new(greeting_within), _place: place };
        Some((next.map(counted), (incoming, places)))
    })
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
            self.heard.note(buf.filled().len() - before);
            return Poll::Ready(read);
        }
        self.heard.poll(cx).map(Err)
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
