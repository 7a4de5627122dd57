//! How many clients are connected at once: beyond the cap nobody is accepted until somebody leaves, so that a flood of
//! connections costs no memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

/// A connection that counts.
pub(crate) struct Counted<IO> {
    io: IO,
    _place: OwnedSemaphorePermit,
}

/// Takes connections from `incoming` while fewer than `max` are open.
pub(crate) fn capped<I, IO>(incoming: I, max: usize) -> impl Stream<Item = io::Result<Counted<IO>>> + Send
where
    I: Stream<Item = io::Result<IO>> + Send + 'static,
    IO: Send + 'static,
{
    let places = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
    let state = (Box::pin(incoming), places);
    futures::stream::unfold(state, |(mut incoming, places)| async move {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let next = incoming.next().await?;
        Some((next.map(|io| Counted { io, _place: place }), (incoming, places)))
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
        Pin::new(&mut self.io).poll_read(cx, buf)
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
    use super::*;

    #[tokio::test]
    async fn nobody_is_accepted_beyond_the_cap_until_somebody_leaves() {
        let incoming = tokio_stream::iter((0..3).map(Ok::<_, io::Error>));
        let mut accepted = Box::pin(capped(incoming, 2));
        let first = accepted.next().await.unwrap().unwrap();
        let second = accepted.next().await.unwrap().unwrap();
        assert!(futures::poll!(std::pin::pin!(accepted.next())).is_pending());
        drop(first);
        assert_eq!(accepted.next().await.unwrap().unwrap().io, 2);
        drop(second);
        assert!(accepted.next().await.is_none());
    }
}
