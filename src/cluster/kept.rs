//! What the API server said last, in a file: a node boots, peers and announces its blocks before there is a server.
//!
//! The file is replaced as a whole. Its first line has the checksum of the second; one that does not fit is set aside.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::Snapshot;
use super::desired::{Desired, Sources};
use crate::file::{Outlives, replace};

const MAGIC: &str = "selvedge-cluster-1";
const CHECKSUM: &str = " crc32=";
/// Far more than the blocks and addresses of the largest cluster.
const MAX_SIZE: u64 = 64 << 20;
/// Between two tries to write what could not be written.
const RETRY: Duration = Duration::from_secs(5);
/// A disk that hangs must not keep the node from what the server says.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The file, and what is in it.
#[derive(Debug)]
pub(super) struct KeptDesired {
    path: PathBuf,
    written: Option<Kept>,
    node: String,
    /// Whether the last try failed: said once.
    has_failed: bool,
    /// Whether there is a file of something else, which stays as it is.
    is_foreign: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Whose it is: a disk may be moved to another host, or an image of it made.
    node: String,
    desired: Desired,
}

/// Why a file does not count.
#[derive(Debug, thiserror::Error)]
enum KeptError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("the disk does not answer within {READ_TIMEOUT:?}")]
    Timeout,
    #[error("it is no file of ours")]
    Foreign,
    #[error("it is damaged: {0}")]
    Damaged(String),
}

impl KeptDesired {
    /// Reads what a predecessor left, if it is this node's.
    pub(super) async fn read(path: &Path, sources: &Sources) -> (Self, Desired) {
        let to_read = path.to_owned();
        let reading = timeout(READ_TIMEOUT, spawn_blocking(move || read(&to_read)));
        // An error of the join is the end of the runtime.
        let found = reading.await.map_or(Err(KeptError::Timeout), |read| read.unwrap_or(Ok(None)));
        let mut is_foreign = false;
        let written = match found {
            Ok(written) => written,
            Err(error @ (KeptError::Read(_) | KeptError::Timeout)) => {
                let error = super::watch::with_sources(&error);
                warn!(error, path = %path.display(), "cannot read what the API server said last");
                None
            }
            Err(KeptError::Foreign) => {
                error!(path = %path.display(), "kubernetes.state names a file of something else: nothing is written down");
                is_foreign = true;
                None
            }
            Err(KeptError::Damaged(why)) => {
                set_aside(path, &why);
                None
            }
        };
        let written = written.filter(|kept| {
            let is_ours = kept.node == sources.node;
            if !is_ours {
                warn!(of = kept.node, path = %path.display(), "what is kept there is another node's: not used");
            }
            is_ours
        });
        let desired = written.as_ref().map(|kept| kept.desired.clone()).unwrap_or_default();
        let (blocks, services) = (desired.blocks.len(), desired.services.len());
        if written.is_some() {
            info!(blocks, services, path = %path.display(), "what the API server said last is in force");
        }
        let kept = Self {
            path: path.to_owned(),
            written,
            node: sources.node.clone(),
            has_failed: false,
            is_foreign,
        };
        (kept, desired)
    }

    /// Writes down what changes, for as long as anything does. A disk that is full, read-only or stuck costs the next start
    /// its memory, until it is mended, and nothing else.
    pub(super) async fn follow(mut self, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            self.keep(&snapshot.desired).await;
            let changed = if self.has_failed {
                // A disk that is full, or read-only, may be mended. Waiting for a change can be left and begun again.
                timeout(RETRY, snapshots.changed()).await.unwrap_or(Ok(()))
            } else {
                snapshots.changed().await
            };
            if changed.is_err() {
                return;
            }
        }
    }

    async fn keep(&mut self, desired: &Desired) {
        let desired = Desired { service_addresses: Vec::new(), ..desired.clone() };
        let is_new = match &self.written {
            Some(written) => written.desired != desired,
            None => desired != Desired::default(),
        };
        if !is_new || self.is_foreign {
            self.has_failed = false;
            return;
        }
        let kept = Kept { node: self.node.clone(), desired };
        let (path, to_write) = (self.path.clone(), kept.clone());
        // An error of the join is the end of the runtime.
        let Ok(written) = spawn_blocking(move || write(&path, &to_write)).await else { return };
        match written {
            Ok(()) => {
                if self.has_failed {
                    warn!(path = %self.path.display(), "what the API server says is written down again");
                }
                self.has_failed = false;
                self.written = Some(kept);
            }
            Err(error) => {
                if !self.has_failed {
                    let path = self.path.display();
                    warn!(%error, %path, "cannot write down what the API server says: a restart without it would not know");
                }
                self.has_failed = true;
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<Kept>, KeptError> {
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(KeptError::Read(error)),
    };
    if size > MAX_SIZE {
        return Err(KeptError::Damaged(format!("{size} octets are too many")));
    }
    let bytes = fs::read(path).map_err(KeptError::Read)?;
    if !may_be_ours(&bytes) {
        return Err(KeptError::Foreign);
    }
    let damaged = |why: &str| KeptError::Damaged(why.to_owned());
    let text = String::from_utf8(bytes).map_err(|_| damaged("not UTF-8"))?;
    let (head, body) = text.split_once('\n').ok_or_else(|| damaged("no first line"))?;
    let body = body.strip_suffix('\n').ok_or_else(|| damaged("cut off"))?;
    if head != head_of(body) {
        return Err(damaged("the checksum does not fit"));
    }
    serde_json::from_str(body).map(Some).map_err(|error| KeptError::Damaged(error.to_string()))
}

/// Damage may have met one of the two marks.
fn may_be_ours(bytes: &[u8]) -> bool {
    let head = bytes.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let has_mark = head.windows(CHECKSUM.len()).any(|part| part == CHECKSUM.as_bytes());
    MAGIC.as_bytes().starts_with(head) || head.starts_with(MAGIC.as_bytes()) || has_mark
}

fn head_of(body: &str) -> String {
    format!("{MAGIC}{CHECKSUM}{:08x}", crc32fast::hash(body.as_bytes()))
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let body = serde_json::to_string(kept)?;
    replace(path, format!("{}\n{body}\n", head_of(&body)).as_bytes(), Outlives::PowerLoss)
}

fn set_aside(path: &Path, why: &str) {
    let aside = path.with_extension("damaged");
    let renamed = fs::rename(path, &aside);
    let (path, to) = (path.display(), aside.display());
    match renamed {
        Ok(()) => error!(%path, %to, why, "what the API server said last is damaged and set aside"),
        Err(error) => {
            error!(%path, why, %error, "what the API server said last is damaged, and stays in the way")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::OnCordon;
    use crate::cluster::desired::{Block, BlockSource, BorrowedStanding, Standing};
    use crate::config::Pods;

    fn sources(node: &str) -> Sources {
        Sources {
            node: node.to_owned(),
            pods: Pods::default(),
            services: None,
            on_cordon: OnCordon::KeepServices,
        }
    }

    fn one_block() -> Desired {
        let standing = Standing::OwnedBy("c2".to_owned());
        let block = Block { source: BlockSource::Calico, standing, rivals: ["c2".to_owned()].into() };
        let service = ("192.0.2.1/32".parse().unwrap(), [crate::cluster::AddressKind::External].into());
        Desired {
            blocks: [("10.1.8.192/26".parse().unwrap(), block)].into(),
            borrowed: [("10.1.9.5".parse().unwrap(), BorrowedStanding::Announced)].into(),
            services: [service].into(),
            ..Desired::default()
        }
    }

    /// A folder of its own for the test, and the path of the file in it.
    fn file(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("selvedge-kept-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder.join("cluster.json")
    }

    #[tokio::test]
    async fn what_was_kept_is_read_back_by_the_same_node_alone() {
        let path = file("back");
        let (mut kept, nothing) = KeptDesired::read(&path, &sources("c1")).await;
        assert_eq!(nothing, Desired::default());
        kept.keep(&one_block()).await;
        assert_eq!(KeptDesired::read(&path, &sources("c1")).await.1, one_block());
        assert_eq!(KeptDesired::read(&path, &sources("c2")).await.1, Desired::default());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_cut_off_or_changed_is_set_aside() {
        let path = file("damaged");
        let (mut kept, _) = KeptDesired::read(&path, &sources("c1")).await;
        kept.keep(&one_block()).await;
        let whole = fs::read(&path).unwrap();
        let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
        damaged.extend((0..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            bytes
        }));
        for bytes in damaged {
            fs::write(&path, &bytes).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert_eq!(KeptDesired::read(&path, &sources("c1")).await.1, Desired::default(), "{text}");
            assert_eq!(fs::read(path.with_extension("damaged")).unwrap(), bytes);
            assert!(!path.exists());
        }
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn a_file_of_something_else_is_neither_moved_nor_written_over() {
        let path = file("foreign");
        for text in ["apiVersion: v1\nkind: Config\n", "[bgp]\n", "x"] {
            fs::write(&path, text).unwrap();
            let (mut kept, nothing) = KeptDesired::read(&path, &sources("c1")).await;
            assert_eq!(nothing, Desired::default());
            kept.keep(&one_block()).await;
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_tried_again_though_nothing_has_changed() {
        let path = file("mended");
        let folder = path.parent().unwrap();
        let (mut kept, _) = KeptDesired::read(&path, &sources("c1")).await;
        fs::remove_dir(folder).unwrap();
        kept.keep(&one_block()).await;
        assert!(kept.has_failed);
        fs::create_dir(folder).unwrap();
        kept.keep(&one_block()).await;
        assert!(!kept.has_failed);
        assert_eq!(KeptDesired::read(&path, &sources("c1")).await.1, one_block());
        fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_costs_what_was_kept_and_nothing_else() {
        let path = file("hangs");
        // Opening it waits for somebody who writes.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let sources = sources("c1");
        let ((_, nothing), ()) =
            tokio::join!(KeptDesired::read(&path, &sources), tokio::time::advance(READ_TIMEOUT));
        assert_eq!(nothing, Desired::default());
        // So that the thread ends which still waits.
        drop(fs::OpenOptions::new().write(true).open(&path).unwrap());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
