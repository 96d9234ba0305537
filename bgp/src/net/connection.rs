//! One TCP connection as a pump of bytes, without a task of its own: its peer task polls it.
//!
//! Out: what was read, how much was written, that it ended. A connection that is to be closed first writes what
//! it still has, then says FIN and reads on until the peer does the same: a close with unread input would be
//! a RST, and the peer might never see our NOTIFICATION.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

use crate::memory::Usage;
use crate::session::ConnectionId;

/// Octets read in one go: four of the longest classic messages, so that the RIB takes each read in within a turn.
const READ_SIZE: usize = 16384;
/// How long a closing connection may take to write and to be answered.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// What became of a connection.
#[derive(Debug)]
pub(super) enum Io {
    /// Bytes came in.
    Read(Bytes),
    /// The socket took that many octets.
    Written(usize),
    /// The peer closed, or the connection broke.
    Ended,
}

/// Whether the owner can take input now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Yes.
    Open,
    /// Not now: bytes stay in the socket.
    Paused,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    stream: TcpStream,
    output: VecDeque<Bytes>,
    output_length: usize,
    writing: Writing,
    closing: Option<Closing>,
}

/// Whether the socket still takes output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// A write failed. What the peer said before, perhaps a NOTIFICATION, may still be there to be read.
    Broken,
}

/// How far the end of a connection has come.
#[derive(Debug, Clone, Copy)]
struct Closing {
    deadline: Instant,
    fin_sent: bool,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, stream: TcpStream) -> Self {
        Self { id, stream, output: VecDeque::new(), output_length: 0, writing: Writing::Open, closing: None }
    }

    /// Our own end.
    pub(super) fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Queues bytes. Those for a socket that takes no more are dropped: its end is about to be read.
    pub(super) fn transmit(&mut self, bytes: Bytes) {
        match self.writing {
            Writing::Open => {
                self.output_length += bytes.len();
                self.output.push_back(bytes);
            }
            Writing::Broken => {}
        }
    }

    /// Octets that the socket has not taken yet.
    pub(super) fn unsent(&self) -> usize {
        self.output_length
    }

    /// What waits for the socket: pieces, and octets with what keeps them in order.
    pub(super) fn output(&self) -> Usage {
        let list = self.output.capacity() * size_of::<Bytes>();
        Usage::new(self.output.len(), self.output_length + list)
    }

    /// Whether the socket holds input that somebody still wants.
    pub(super) fn has_input(&self) -> bool {
        if self.closing.is_some() {
            return false;
        }
        let mut octet = [std::mem::MaybeUninit::uninit()];
        matches!(socket2::SockRef::from(&self.stream).peek(&mut octet), Ok(length) if length > 0)
    }

    /// Begins the end; no more [`Io`] but `Ended` comes out. The last words are said at once where the socket has room:
    /// what others do because of the end comes after them.
    pub(super) fn close(&mut self, now: Instant) {
        self.write_what_fits();
        self.closing.get_or_insert(Closing { deadline: now + LINGER, fin_sent: false });
    }

    /// When a closing connection is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.closing.map(|closing| closing.deadline)
    }

    /// Waits for the next thing to happen.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, reading: Reading) -> Poll<Io> {
        if self.closing.is_some() {
            return self.poll_closing(cx);
        }
        match self.poll_write(cx) {
            Poll::Ready(Ok(written)) => return Poll::Ready(Io::Written(written)),
            Poll::Ready(Err(_)) => self.give_up_writing(),
            Poll::Pending => {}
        }
        match reading {
            Reading::Open => self.poll_read(cx).map(|result| match result {
                Ok(bytes) if bytes.is_empty() => Io::Ended,
                Ok(bytes) => Io::Read(bytes),
                Err(_) => Io::Ended,
            }),
            Reading::Paused => Poll::Pending,
        }
    }

    fn write_what_fits(&mut self) {
        while let Some(front) = self.output.front_mut() {
            // What fails here fails again where it is waited for.
            let Ok(written) = self.stream.try_write(front) else { return };
            front.advance(written);
            if front.is_empty() {
                self.output.pop_front();
            }
            self.output_length -= written;
        }
    }

    fn give_up_writing(&mut self) {
        self.writing = Writing::Broken;
        self.output.clear();
        self.output_length = 0;
    }

    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<Io> {
        while !self.output.is_empty() {
            if ready!(self.poll_write(cx)).is_err() {
                return Poll::Ready(Io::Ended);
            }
        }
        if let Some(closing) = self.closing.as_mut().filter(|closing| !closing.fin_sent) {
            closing.fin_sent = true;
            if socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write).is_err() {
                return Poll::Ready(Io::Ended);
            }
        }
        loop {
            match ready!(self.poll_read(cx)) {
                Ok(bytes) if !bytes.is_empty() => {}
                Ok(_) | Err(_) => return Poll::Ready(Io::Ended),
            }
        }
    }

    /// Pending when there is nothing to write or no room for it.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some(front) = self.output.front_mut() {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write(front) {
                Ok(written) => {
                    front.advance(written);
                    if front.is_empty() {
                        self.output.pop_front();
                    }
                    self.output_length -= written;
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let mut buffer = bytes::BytesMut::with_capacity(READ_SIZE);
            match self.stream.try_read_buf(&mut buffer) {
                Ok(_) => return Poll::Ready(Ok(buffer.freeze())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        (Connection::new(ConnectionId(1), ours), theirs)
    }

    async fn next(connection: &mut Connection) -> Io {
        poll_fn(|cx| connection.poll(cx, Reading::Open)).await
    }

    /// A peer that sends a NOTIFICATION and closes while our output is on its way answers that output with a RST.
    #[tokio::test]
    async fn the_last_words_of_a_peer_are_read_though_it_takes_nothing_more() {
        let (mut connection, mut peer) = pair().await;
        connection.transmit(Bytes::from_static(b"unread"));
        assert!(matches!(next(&mut connection).await, Io::Written(6)));
        peer.write_all(b"last words").await.unwrap();
        peer.readable().await.unwrap();
        // With unread input, this is a RST behind the words.
        drop(peer);
        connection.transmit(Bytes::from_static(b"to nobody"));
        assert!(matches!(next(&mut connection).await, Io::Read(words) if words == "last words"[..]));
        assert!(matches!(next(&mut connection).await, Io::Ended));
        assert_eq!(connection.unsent(), 0);
    }

    #[tokio::test]
    async fn input_of_a_closing_connection_is_nobodys_sign_of_life() {
        let (mut connection, mut peer) = pair().await;
        assert!(!connection.has_input());
        peer.write_all(b"alive").await.unwrap();
        connection.stream.readable().await.unwrap();
        assert!(connection.has_input());
        connection.close(tokio::time::Instant::now().into_std());
        assert!(!connection.has_input());
    }

    #[tokio::test]
    async fn the_last_words_are_with_the_kernel_when_the_end_begins() {
        let (mut connection, peer) = pair().await;
        // The socket is known to be writable.
        connection.stream.writable().await.unwrap();
        connection.transmit(Bytes::from_static(b"good"));
        connection.transmit(Bytes::from_static(b"bye"));
        connection.close(tokio::time::Instant::now().into_std());
        assert_eq!(connection.unsent(), 0);
        peer.readable().await.unwrap();
        let mut heard = [0; 8];
        assert_eq!(peer.try_read(&mut heard).unwrap(), 7);
    }

    #[tokio::test]
    async fn a_closing_connection_says_everything_and_ends_with_its_peer() {
        use tokio::io::AsyncReadExt;
        let (mut connection, mut peer) = pair().await;
        connection.transmit(Bytes::from_static(b"goodbye"));
        connection.close(tokio::time::Instant::now().into_std());
        let farewell = async move {
            let mut heard = Vec::new();
            peer.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let (ended, heard) = tokio::join!(next(&mut connection), farewell);
        assert!(matches!(ended, Io::Ended));
        assert_eq!(heard, b"goodbye");
    }
}
