//! Named network namespaces, made with system calls alone: no `ip` needed.
//!
//! A namespace belongs to a *thread*: a socket, and what `/proc/sys/net` shows, follow the thread that opens
//! them. So work in a namespace is done in a thread of its own that enters it and ends there.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::future::Future;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::Stream;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, sethostname};
use rtnetlink::{Handle, MulticastGroup};

use crate::error::{Doing, Error, Result};

/// Where `ip netns` looks for names.
const DIRECTORY: &str = "/run/netns";

/// A network namespace with a name that `ip netns` knows. Deleted when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: Arc<File>,
}

/// The way into a namespace, for what starts programs in it later than it can borrow it. When the namespace has been
/// deleted, it leads into one that nobody else finds.
#[derive(Debug, Clone)]
pub(crate) struct Entrance(Arc<File>);

impl Netns {
    /// Makes a namespace, with its loopback interface up. Needs root.
    ///
    /// # Errors
    /// The name is taken, or the kernel refuses.
    pub fn create(name: &str) -> Result<Self> {
        let path = path_of(name);
        fs::create_dir_all(DIRECTORY).doing(|| format!("make {DIRECTORY}"))?;
        File::create_new(&path).doing(|| format!("make {}", path.display()))?;
        match bind_new_namespace(&path) {
            Ok(file) => {
                let netns = Self { name: name.to_owned(), file: Arc::new(file) };
                netns.set_up("lo")?;
                Ok(netns)
            }
            Err(error) => {
                // The empty file alone would look like a namespace to `ip netns`.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// The name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its name leads to it: what programs want that are to enter it by themselves.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        path_of(&self.name)
    }

    /// The namespace as a file: what netlink wants when an interface is put into it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The way into it.
    pub(crate) fn entrance(&self) -> Entrance {
        Entrance(Arc::clone(&self.file))
    }

    /// Runs code in a thread inside the namespace and waits for it.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the code panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let outcome = thread::scope(|scope| {
            scope
                .spawn(|| -> Result<T> {
                    self.enter()?;
                    Ok(work())
                })
                .join()
        });
        outcome.unwrap_or_else(|_panic| Err(Error::Panicked { netns: self.name.clone() }))
    }

    /// Starts a thread that stays inside the namespace.
    ///
    /// # Errors
    /// The system refuses another thread. What the thread returns is `None` where it could not enter.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<Option<T>>> {
        let file = Arc::clone(&self.file);
        thread::Builder::new()
            .name(self.name.clone())
            .spawn(move || setns(file.as_fd(), CloneFlags::CLONE_NEWNET).ok().map(|()| work()))
            .doing(|| format!("start a thread in {}", self.name))
    }

    /// A command whose process will be inside the namespace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.entrance().command(program)
    }

    /// The same for a program that is to find itself on a host of this name: with the name of the machine, all routers
    /// of a rack would introduce themselves alike (`vm(tor1)`, `vm(tor2)`).
    pub fn command_on(&self, hostname: &str, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command(program);
        let hostname = hostname.to_owned();
        // SAFETY: between fork and exec the closure makes two system calls, unshare and sethostname, and allocates
        // nothing; it owns the name.
        unsafe {
            command.pre_exec(move || {
                unshare(CloneFlags::CLONE_NEWUTS)?;
                sethostname(&hostname).map_err(std::io::Error::from)
            });
        }
        command
    }

    /// Runs netlink requests inside the namespace.
    ///
    /// # Errors
    /// What the work fails with, or a netlink socket that cannot be had.
    pub fn netlink<T, F, W>(&self, work: W) -> Result<T>
    where
        T: Send,
        W: FnOnce(Handle) -> F + Send,
        F: Future<Output = Result<T>>,
    {
        self.run(|| {
            runtime()?.block_on(async {
                let (connection, handle, _) =
                    rtnetlink::new_connection().doing(|| "open a netlink socket".to_owned())?;
                tokio::spawn(connection);
                work(handle).await
            })
        })?
    }

    fn enter(&self) -> Result<()> {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).doing(|| format!("enter {}", self.name))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

impl Entrance {
    /// A command whose process will be inside the namespace.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let file = Arc::clone(&self.0);
        // SAFETY: between fork and exec the closure makes one system call, setns, and allocates nothing; the
        // descriptor is open because the closure owns the file.
        unsafe {
            command.pre_exec(move || {
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from)
            });
        }
        command
    }

    /// Listens on a TCP port of the namespace.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub(crate) fn listen(&self, at: SocketAddr) -> std::io::Result<TcpListener> {
        let work = || {
            setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET)?;
            TcpListener::bind(at)
        };
        let listening = thread::scope(|scope| scope.spawn(work).join());
        listening.unwrap_or_else(|_panic| Err(std::io::ErrorKind::Other.into()))
    }

    /// Connects to a TCP port as programs inside the namespace do.
    ///
    /// # Errors
    /// Nobody listens there, or nobody answers in time.
    pub(crate) fn connect(&self, to: SocketAddr, limit: Duration) -> std::io::Result<TcpStream> {
        let work = || {
            setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET)?;
            TcpStream::connect_timeout(&to, limit)
        };
        let connected = thread::scope(|scope| scope.spawn(work).join());
        connected.unwrap_or_else(|_panic| Err(std::io::ErrorKind::Other.into()))
    }
}

/// A runtime for the thread that calls.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .doing(|| "start a tokio runtime".to_owned())
}

/// Opens two connections in the namespace of this thread: requests on one, events on the other. An event carries the
/// sequence number of whoever caused it, so on a shared connection it would pass for the answer to a request.
pub(crate) fn watch(groups: &[MulticastGroup]) -> Result<(Handle, impl Stream<Item = impl Sized> + Unpin)> {
    let doing = || "open a netlink socket".to_owned();
    let (requests, handle, _) = rtnetlink::new_connection().doing(doing)?;
    tokio::spawn(requests);
    let (listener, _, events) = rtnetlink::new_multicast_connection(groups).doing(doing)?;
    tokio::spawn(listener);
    Ok((handle, events))
}

/// Removes a name that an earlier run left, after ending the processes that still live in the namespace: it is
/// ours, so they are too.
pub(crate) fn clear_leftover(name: &str) {
    use std::os::linux::fs::MetadataExt;
    let path = path_of(name);
    // Before the namespace is mounted over it, the file is an empty one on another device: nothing lives there.
    if let (Ok(left), Ok(own)) = (fs::metadata(&path), fs::metadata("/proc/self/ns/net"))
        && left.st_dev() == own.st_dev()
        && left.st_ino() != own.st_ino()
    {
        for pid in processes_in(left.st_ino()) {
            // Gone already is as good as ended.
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
    remove(name);
}

/// Processes whose network namespace has this inode number.
fn processes_in(inode: u64) -> Vec<Pid> {
    use std::os::linux::fs::MetadataExt;
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok().map(|pid| (pid, entry.path())))
        .filter(|(_, path)| fs::metadata(path.join("ns/net")).is_ok_and(|ns| ns.st_ino() == inode))
        .map(|(pid, _)| Pid::from_raw(pid))
        .collect()
}

fn remove(name: &str) {
    let path = path_of(name);
    // Nothing can be done about either failure here; the next run of the same name says so.
    let _ = umount2(&path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(&path);
}

fn path_of(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Makes a namespace in a thread of its own and mounts it over `path`, which keeps it when the thread ends.
fn bind_new_namespace(path: &Path) -> Result<File> {
    let made = thread::scope(|scope| {
        scope
            .spawn(|| -> Result<File> {
                unshare(CloneFlags::CLONE_NEWNET)
                    .doing(|| "make a network namespace (this needs root)".to_owned())?;
                mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                    .doing(|| format!("mount a namespace on {}", path.display()))?;
                File::open(path).doing(|| format!("open {}", path.display()))
            })
            .join()
    });
    made.unwrap_or_else(|_panic| Err(Error::Panicked { netns: path.display().to_string() }))
}
