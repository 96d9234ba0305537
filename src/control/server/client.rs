//! Connections: how many, and for how long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep};

use super::{Limits, REFUSALS_MAX};

/// After accept() failed for want of descriptors or memory: time for something to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The listener, with the places it has to give.
pub(super) struct Clients {
    listener: UnixListener,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    exchange: Duration,
    connections: watch::Receiver<Connections>,
}

/// What is to become of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connections {
    Served,
    /// Their time to end by themselves is over.
    Cut,
}

/// What is known of a client: the kernel's word (SO_PEERCRED), not its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientInfo {
    pub(super) admission: Admission,
    pub(super) pid: Option<i32>,
    pub(super) uid: Option<u32>,
}

/// Whether there was a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted,
    /// Only to be told that there was none.
    Refused,
}

impl Clients {
    pub(super) fn new(
        listener: UnixListener,
        limits: Limits,
        connections: watch::Receiver<Connections>,
    ) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(limits.clients)),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
            exchange: limits.exchange,
            connections,
        }
    }

    fn admit(&self) -> Option<(Admission, OwnedSemaphorePermit)> {
        let place = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned().ok();
        place(&self.places)
            .map(|permit| (Admission::Admitted, permit))
            .or_else(|| place(&self.refusals).map(|permit| (Admission::Refused, permit)))
    }
}

impl axum::serve::Listener for Clients {
    type Io = Client;
    type Addr = ClientInfo;

    async fn accept(&mut self) -> (Client, ClientInfo) {
        let mut warned = false;
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if !warned {
                        tracing::warn!(%error, "cannot accept on the control socket; trying again");
                    }
                    warned = true;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some((admission, permit)) = self.admit() else {
                continue;
            };
            let credentials = stream.peer_cred().ok();
            let info = ClientInfo {
                admission,
                pid: credentials.and_then(|credentials| credentials.pid()),
                uid: credentials.map(|credentials| credentials.uid()),
            };
            return (Client::new(stream, self.exchange, self.connections.clone(), permit), info);
        }
    }

    fn local_addr(&self) -> io::Result<ClientInfo> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Connected<IncomingStream<'_, Clients>> for ClientInfo {
    fn connect_info(stream: IncomingStream<'_, Clients>) -> Self {
        *stream.remote_addr()
    }
}

/// A connection that breaks at its deadline. The deadline moves only when an answer has been handed to the
/// kernel to the last byte, so neither a dribble of request bytes nor a trickle of reads holds a place.
pub(super) struct Client {
    /// The first to be dropped: who sees the connection closed finds the place free.
    _place: OwnedSemaphorePermit,
    stream: UnixStream,
    deadline: Pin<Box<Sleep>>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    exchange: Duration,
    answering: bool,
}

impl Client {
    fn new(
        stream: UnixStream,
        exchange: Duration,
        mut connections: watch::Receiver<Connections>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let cut = Box::pin(async move {
            // A sender that is gone is a server that is gone.
            let _ = connections.wait_for(|connections| *connections == Connections::Cut).await;
        });
        let deadline = Box::pin(tokio::time::sleep(exchange));
        Self { _place: place, stream, deadline, cut, exchange, answering: false }
    }

    /// What a call that has to wait returns: an error once the deadline has passed, or the server stops.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.wait(cx),
        }
    }
}

impl AsyncWrite for Client {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answering = true;
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.wait(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.answering = true;
        match Pin::new(&mut self.stream).poll_write_vectored(cx, slices) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.wait(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if std::mem::take(&mut self.answering) {
            let next = Instant::now() + self.exchange;
            self.deadline.as_mut().reset(next);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
