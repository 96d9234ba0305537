//! The task that serves the control socket.
//!
//! A second daemon finds out by the socket that it is the second, and must not start. Everything else that is in the
//! way of one (a file system that is full or read-only, a directory that cannot be made) leaves the operators without
//! their tool, and the node must not lose its routes for that: the agent runs, says so once, and tries again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::ended;
use crate::control::{BindError, Request, Server};

/// Between two tries to make a socket that could not be made.
const RETRY: Duration = Duration::from_secs(5);

/// What there is to serve on.
#[derive(Debug)]
pub(super) enum Control {
    Bound(Server),
    /// To be tried again.
    Missing(PathBuf),
}

impl Control {
    /// Tries to make the socket.
    ///
    /// # Errors
    /// Another daemon has it.
    pub(super) fn bind(path: &Path) -> Result<Self, BindError> {
        match Server::bind(path) {
            Ok(server) => Ok(Self::Bound(server)),
            Err(error) if error.is_another_daemon() => Err(error),
            Err(error) => {
                warn!(%error, "no control socket: bgpctl cannot reach this daemon; trying again");
                Ok(Self::Missing(path.to_owned()))
            }
        }
    }

    /// Serves until the other end of `stop` says so or is dropped.
    pub(super) async fn serve(
        self,
        requests: mpsc::Sender<Request>,
        mut stop: oneshot::Receiver<()>,
    ) -> &'static str {
        const NAME: &str = "control";
        let server = match self {
            Self::Bound(server) => server,
            Self::Missing(path) => tokio::select! {
                server = bind_at_last(&path, RETRY) => server,
                _ = &mut stop => return NAME,
            },
        };
        let stop = async {
            // Ready as well when the other end is dropped.
            let _ = stop.await;
        };
        ended(NAME, server.serve(requests, stop).await)
    }
}

async fn bind_at_last(path: &Path, every: Duration) -> Server {
    loop {
        tokio::time::sleep(every).await;
        if let Ok(server) = Server::bind(path) {
            info!(path = %path.display(), "the control socket is there at last");
            return server;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A directory of the test, removed with it.
    struct Directory(PathBuf);

    impl Directory {
        fn make(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("selvedge-{test}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_second_daemon_is_told_so() {
        let directory = Directory::make("serve-second");
        let path = directory.0.join("control.sock");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let _first = Control::bind(&path).unwrap();
        assert!(matches!(Control::bind(&path), Err(BindError::InUse { .. })));
    }

    #[tokio::test]
    async fn a_socket_that_cannot_be_made_is_made_when_it_can_be() {
        let directory = Directory::make("serve-later");
        // A file where the directory of the socket has to be: also root cannot make one there.
        let obstacle = directory.0.join("run");
        fs::write(&obstacle, "").unwrap();
        let path = obstacle.join("control.sock");
        assert!(matches!(Control::bind(&path), Ok(Control::Missing(_))));
        let removed = async {
            tokio::task::yield_now().await;
            fs::remove_file(&obstacle).unwrap();
        };
        let (_server, ()) = tokio::join!(bind_at_last(&path, Duration::from_millis(1)), removed);
        assert!(path.exists());
    }
}
