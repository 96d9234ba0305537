//! HTTP/1.1 over a Unix socket.
//!
//! Owns the socket file and the connections; passes each request on as a [`Request`] and waits a bounded time
//! for the answer. Whoever can open the socket file may do everything: the file is for the daemon's user and group.
//!
//! Every bound is in [`Limits`] or beside it. A client that sends its request too slowly, or takes its answer
//! too slowly, is dropped: one deadline runs from the end of an answer to the end of the next ([`client`]).

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::Request;
use client::{ClientInfo, Clients, Connections};
use socket::Socket;

mod client;
mod routes;
mod socket;

pub use socket::BindError;

/// Length of the channel of [`Request`]s: one for each client that is served. More cannot be waiting.
pub const REQUEST_QUEUE: usize = CLIENTS_MAX;

/// Clients served at a time: a few people and a few scripts; 16 answers of a megabyte are no burden.
const CLIENTS_MAX: usize = 16;

/// Clients over [`CLIENTS_MAX`] that are told so at a time; any more are cut off without a word.
const REFUSALS_MAX: usize = 8;

/// From the end of one answer (or from the connection) until the whole request is there, answered, and
/// the answer taken: generous for a person's pipe, short for one who holds a place for nothing.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(10);

/// How long the agent may take for an answer; shorter than the exchange, so that the client hears of it.
const AGENT_DEADLINE: Duration = Duration::from_secs(5);

/// How long a stop waits for answers that are on their way.
const STOP_DEADLINE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Limits {
    clients: usize,
    exchange: Duration,
    agent: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { clients: CLIENTS_MAX, exchange: EXCHANGE_DEADLINE, agent: AGENT_DEADLINE }
    }
}

/// The control socket, bound and listening. Dropping it removes the socket file.
#[derive(Debug)]
pub struct Server {
    socket: Socket,
    limits: Limits,
}

impl Server {
    /// Makes the socket file, for this user and group (mode 0660), and its directory (0750) where it is missing. A
    /// socket file that nobody listens on is replaced.
    ///
    /// # Errors
    /// [`BindError::InUse`] when another daemon answers there, and what the kernel refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        Ok(Self { socket: Socket::bind(path)?, limits: Limits::default() })
    }

    /// Serves until `stop` is ready, then gives answers on their way a second, and removes the socket file.
    /// Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// When the runtime cannot take the socket. A client never ends the server.
    pub async fn serve(
        self,
        requests: mpsc::Sender<Request>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let (stopping, stopped) = oneshot::channel();
        let (cut, uncut) = watch::channel(Connections::Served);
        let clients = Clients::new(self.socket.listener()?, self.limits, uncut);
        let service =
            routes::router(requests, self.limits.agent).into_make_service_with_connect_info::<ClientInfo>();
        let serving = axum::serve(clients, service).with_graceful_shutdown(async move {
            stop.await;
            // Unheard when the server has ended already.
            let _ = stopping.send(());
        });
        let cutting = async move {
            if stopped.await.is_ok() {
                tokio::time::sleep(STOP_DEADLINE).await;
                cut.send_replace(Connections::Cut);
            }
            // `serving` ends when its last connection does: no task is left behind.
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            result = serving => result,
            never = cutting => match never {},
        }
    }
}

#[cfg(test)]
mod tests;
