//! The server's side of a client's connection, as it has to be for every client to see its answer: a client must read
//! what it is sent, an answer that hyper makes by itself gets a body, and a connection is not cut while its client still
//! sends.

use crate::bare_answer;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How long a client that still sends may take to read the last answer. A connection that is closed with bytes unread
/// is reset, and a reset takes away what the client has not read yet.
const LINGER: Duration = Duration::from_secs(2);

/// The state of a connection whose bodies were not read to their end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    unread: AtomicBool,
    not_asked_for: AtomicBool,
}

impl Unread {
    /// Whether something that the client has sent, or still sends, was not read.
    pub(crate) fn set(&self, unread: bool) {
        self.0.unread.store(unread, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.unread.load(Ordering::Relaxed)
    }

    /// Marks that the client waits for `100 Continue` and will not get it.
    pub(crate) fn set_not_asked_for(&self) {
        self.0.not_asked_for.store(true, Ordering::Relaxed);
    }

    /// Whether that is marked: the client's next bytes are then ambiguous, and the connection ends.
    pub(crate) fn is_not_asked_for(&self) -> bool {
        self.0.not_asked_for.load(Ordering::Relaxed)
    }
}

/// A stream that fails once the other side has taken nothing for too long while there was something to send, and that
/// ends in such a way that the other side sees everything.
pub(crate) struct ClientStream {
    stream: TcpStream,
    timeout: Duration,
    /// The limit that hyper's own answers do not name. None for HTTP/2, which has no such answers.
    header_bytes_max: Option<usize>,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    /// The rest of the response to be sent in place of hyper's own.
    instead: Vec<u8>,
    unread: Unread,
    /// Runs once everything is sent and the client may still send.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl ClientStream {
    pub(crate) fn new(stream: TcpStream, timeout: Duration, header_bytes_max: Option<usize>, unread: Unread) -> Self {
        Self { stream, timeout, header_bytes_max, stalled: None, instead: Vec::new(), unread, lingering: None }
    }

    fn guard<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read the response")))
    }

    /// Whether an answer of hyper's own stands in `head`; then another will be sent.
    fn replaces(&mut self, head: &[u8]) -> bool {
        let Some(header_bytes_max) = self.header_bytes_max else { return false };
        let Some(answer) = bare_answer::with_problem(head, header_bytes_max) else { return false };
        self.instead = answer;
        // hyper reads no further than the mistake.
        self.unread.set(true);
        true
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.instead);
            match ready!(self.guard(cx, written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => drop(self.instead.drain(..n)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and discards what the client still sends, until it ends or the time is over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let lingering = self.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        loop {
            if lingering.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; 8 << 10];
            let mut read = ReadBuf::new(&mut bytes);
            // An error is an end as well.
            let open = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)).is_ok();
            if !open || read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(cx))?;
        if self.replaces(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.guard(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(cx))?;
        if let Some(head) = bufs.first()
            && self.replaces(head)
        {
            return Poll::Ready(Ok(head.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.guard(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.guard(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        match self.unread.get() {
            true => self.poll_linger(cx),
            false => Poll::Ready(Ok(())),
        }
    }
}
