//! The way to the API server, and whether it answers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::config::Access;

/// For a connection; a server in the same fabric takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A watch is ended by the server after this time and begun again, so that a connection that broke without a word is noticed.
pub(super) const WATCH_TIMEOUT_S: u32 = 60;
/// Silence after which a watch is taken for broken: the server has not ended it when it should have.
pub(super) const WATCH_SILENCE: Duration = Duration::from_secs(70);
/// For anything else, from the question to the end of the answer: the server itself gives up on most after 60 s, but one that
/// is so slow is better asked anew, perhaps another behind the same address.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
/// Silence of a connection, whatever is asked over it: longer than a watch is silent.
const READ_TIMEOUT: Duration = Duration::from_secs(75);
/// For the files that say how to get there. A disk that hangs must hold up nobody.
const FILES_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries of anything, doubled from the least to the most.
const LEAST_PAUSE: Duration = Duration::from_millis(250);
pub(super) const MOST_PAUSE: Duration = Duration::from_secs(10);

/// Why there is no way to the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The file is not there, or makes no sense.
    #[error("cannot use kubeconfig {path}")]
    Kubeconfig {
        /// Where it should be.
        path: PathBuf,
        /// What is the matter with it.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// The file cannot be read.
    #[error("cannot read kubeconfig {path}")]
    Unreadable {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not answer.
    #[error("the disk with the kubeconfig, or what that names, does not answer")]
    DiskHangs,
    /// This is no pod, or one without a service account.
    #[error("cannot use the service account of this pod")]
    ServiceAccount(#[source] kube::config::InClusterError),
    /// The certificates make no sense.
    #[error("cannot prepare a connection to the API server")]
    Client(#[source] Box<kube::Error>),
}

/// The files that say who we are and where the server is, read one at a time where it holds up nobody.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Somebody still waits for a disk.
    are_awaited: Arc<AtomicBool>,
}

/// Tells one content of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checksum(u32);

impl Files {
    /// A client for the server, and what the kubeconfig was, where there is one. Nothing is sent yet. Tokens that stand in
    /// files of their own are read anew as they change; whatever else a kubeconfig says is read here.
    pub(super) async fn connect(&self, access: &Access) -> Result<(Client, Option<Checksum>), ConnectError> {
        let access = access.clone();
        // Certificates in files of their own are read by what looks as if it did not wait.
        let load = move || Handle::current().block_on(load(&access));
        let (mut config, checksum) = self.read(load).await.ok_or(ConnectError::DiskHangs)??;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.reset_reader_on_write = true;
        // Tries again by ourselves, with a pause that is known and shown.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))?;
        Ok((client, checksum))
    }

    /// Whether the kubeconfig is there and is another than this.
    pub(super) async fn have_changed(&self, access: &Access, since: Option<Checksum>) -> bool {
        let Access::Kubeconfig(path) = access else { return false };
        let path = path.clone();
        let now = self.read(move || checksum(&path).ok()).await.flatten();
        now.is_some() && now != since
    }

    async fn read<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        if self.are_awaited.swap(true, Ordering::AcqRel) {
            return None;
        }
        let are_awaited = Arc::clone(&self.are_awaited);
        let reading = spawn_blocking(move || {
            let read = read();
            are_awaited.store(false, Ordering::Release);
            read
        });
        // An error of the join is the end of the runtime.
        timeout(FILES_TIMEOUT, reading).await.ok()?.ok()
    }
}

async fn load(access: &Access) -> Result<(kube::Config, Option<Checksum>), ConnectError> {
    match access {
        Access::Kubeconfig(path) => {
            let checksum =
                checksum(path).map_err(|source| ConnectError::Unreadable { path: path.clone(), source })?;
            let failed = |source| ConnectError::Kubeconfig { path: path.clone(), source: Box::new(source) };
            let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            let options = KubeConfigOptions::default();
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed)?;
            Ok((config, Some(checksum)))
        }
        Access::ServiceAccount => {
            Ok((kube::Config::incluster().map_err(ConnectError::ServiceAccount)?, None))
        }
    }
}

fn checksum(path: &Path) -> io::Result<Checksum> {
    // A pipe would have it wait for somebody who writes.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(Checksum(crc32fast::hash(&fs::read(path)?)))
}

/// Pauses between tries: doubled each time, with a part drawn by lot, so that a thousand nodes do not come back at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause =
            LEAST_PAUSE.saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX)).min(MOST_PAUSE);
        self.tries = self.tries.saturating_add(1).min(31);
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

/// Whether the server answers, as far as can be told from what became of the requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// It has not been heard yet, and there was no failure either.
    Untried,
    /// It answers.
    Answers,
    /// It does not.
    Away {
        /// Since when.
        since: Instant,
        /// The last failure.
        why: String,
    },
}

/// What is to be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// It went away.
    Away,
    /// It is back.
    Back {
        /// For how long it was away.
        away_for: Duration,
    },
    /// It answers for the first time.
    First,
}

impl Reach {
    /// A request failed.
    pub(super) fn failed(&mut self, why: String, now: Instant) -> Option<Notice> {
        match self {
            Self::Away { why: last, .. } => {
                *last = why;
                None
            }
            Self::Untried | Self::Answers => {
                *self = Self::Away { since: now, why };
                Some(Notice::Away)
            }
        }
    }

    /// A request was answered, whatever the answer.
    pub(super) fn answered(&mut self, now: Instant) -> Option<Notice> {
        match std::mem::replace(self, Self::Answers) {
            Self::Answers => None,
            Self::Untried => Some(Notice::First),
            Self::Away { since, .. } => Some(Notice::Back { away_for: now.saturating_duration_since(since) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_begin_again() {
        let mut backoff = Backoff::default();
        for try_number in 0..100 {
            let pause = backoff.next_pause();
            assert!(pause <= MOST_PAUSE, "{try_number}: {pause:?}");
            assert!(pause >= LEAST_PAUSE / 2, "{try_number}: {pause:?}");
            assert!(try_number < 8 || pause >= MOST_PAUSE / 2, "{try_number}: {pause:?}");
        }
        backoff.reset();
        assert!(backoff.next_pause() <= LEAST_PAUSE);
    }

    #[test]
    fn an_absence_is_noticed_once_and_so_is_its_end() {
        let begin = Instant::now();
        let mut reach = Reach::Untried;
        let why = || "connection refused".to_owned();
        assert_eq!(reach.failed(why(), begin), Some(Notice::Away));
        assert_eq!(reach.failed(why(), begin + Duration::from_secs(1)), None);
        let back = reach.answered(begin + Duration::from_secs(5));
        assert_eq!(back, Some(Notice::Back { away_for: Duration::from_secs(5) }));
        assert_eq!(reach.answered(begin), None);
        assert_eq!(Reach::Untried.answered(begin), Some(Notice::First));
    }
}
