//! The socket file: who may make it, replace it and remove it.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Type};
use tokio::net::UnixListener;

/// For whoever runs the daemon, for its group, and for root.
const SOCKET_MODE: u32 = 0o660;
/// Of a directory that is made for the socket.
const DIRECTORY_MODE: u32 = 0o750;
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 16;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers at that path.
    #[error("{}: another daemon is listening on this control socket", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The path names a file or a directory, which is not ours to remove.
    #[error("{}: exists and is not a socket; remove it or choose another path", path.display())]
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// Another process is making a socket in the same directory at this moment.
    #[error("{}: locked by another process that is just starting", directory.display())]
    Locked {
        /// The directory of the socket.
        directory: PathBuf,
    },
    /// The path has no directory or no file name.
    #[error("{}: not a path for a socket", path.display())]
    Path {
        /// As given.
        path: PathBuf,
    },
    /// Its directory is there and may not be used: perhaps a daemon of that user runs, which this one cannot see.
    #[error("{}: belongs to user {owner}: go on as that user (--user), or name another socket", directory.display())]
    NotOurs {
        /// The directory.
        directory: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The kernel refused a step.
    #[error("{}: cannot {step}: {source}", path.display())]
    Io {
        /// What was to be done.
        step: &'static str,
        /// With which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl BindError {
    /// Whether another daemon is there, or just starting, or may be: this one is the second. Anything else is the file
    /// system's.
    #[must_use]
    pub fn is_another_daemon(&self) -> bool {
        match self {
            Self::InUse { .. } | Self::Locked { .. } | Self::NotOurs { .. } => true,
            Self::NotASocket { .. } | Self::Path { .. } | Self::Io { .. } => false,
        }
    }
}

/// A listening socket and its file.
#[derive(Debug)]
pub(super) struct Socket {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
    /// Device and inode: the file at `path` may be somebody else's by the time we stop.
    identity: (u64, u64),
}

impl Socket {
    pub(super) fn bind(path: &Path) -> Result<Self, BindError> {
        let directory = directory_of(path)?;
        let io = |step| move |source| refused(path, directory, step, source);
        if !directory.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(directory)
                .map_err(io("make the directory"))?;
        }
        // Held until the socket listens: of two daemons that start at the same moment, neither can take
        // the other's socket, bound but not yet listening, for a stale one.
        let lock = File::open(directory).map_err(io("open the directory"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(BindError::Locked { directory: directory.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(io("lock the directory")(source)),
        }
        remove_stale(path, directory)?;

        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).map_err(io("open a socket"))?;
        let address = SockAddr::unix(path).map_err(io("use the path"))?;
        socket.bind(&address).map_err(io("bind"))?;
        // Before listen(), so that there is no moment at which others may connect.
        fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE)).map_err(io("set the mode"))?;
        let identity = identity(path).map_err(io("look at the socket"))?;
        socket.listen(BACKLOG).map_err(io("listen"))?;
        socket.set_nonblocking(true).map_err(io("set up the socket"))?;
        Ok(Self { listener: socket.into(), path: path.to_owned(), identity })
    }

    /// The listener in the form of the runtime; the file stays with `self`.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|present| present == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
    }
}

fn directory_of(path: &Path) -> Result<&Path, BindError> {
    let bad = || BindError::Path { path: path.to_owned() };
    path.file_name().ok_or_else(bad)?;
    let directory = path.parent().ok_or_else(bad)?;
    Ok(if directory.as_os_str().is_empty() { Path::new(".") } else { directory })
}

/// What the kernel's answer means. Root without its privileges is refused as anybody else is.
fn refused(path: &Path, directory: &Path, step: &'static str, source: io::Error) -> BindError {
    let there = fs::symlink_metadata(path).or_else(|_| fs::metadata(directory));
    match there {
        Ok(there) if source.kind() == ErrorKind::PermissionDenied => {
            BindError::NotOurs { directory: directory.to_owned(), owner: there.uid() }
        }
        Ok(_) | Err(_) => BindError::Io { step, path: path.to_owned(), source },
    }
}

/// Only what is a socket, and only when nobody answers.
fn remove_stale(path: &Path, directory: &Path) -> Result<(), BindError> {
    let io = |step| move |source| refused(path, directory, step, source);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("look at the path")(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    let address = SockAddr::unix(path).map_err(io("use the path"))?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).map_err(io("open a socket"))?;
    // A daemon that hangs with a full backlog must not make this one hang too.
    socket.set_nonblocking(true).map_err(io("set up a socket"))?;
    match socket.connect(&address) {
        Ok(()) => Err(BindError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(io("remove the stale socket"))
        }
        // A full backlog: somebody listens, and is busy.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(BindError::InUse { path: path.to_owned() })
        }
        Err(error) => Err(io("ask whether somebody listens")(error)),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}
