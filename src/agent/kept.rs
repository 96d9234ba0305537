//! The file in which drains outlive a crash and a restart of the daemon: beside the control socket, where a restart of
//! the host takes it away.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use super::neighbors::NeighborName;
use crate::drain::{self, Drains};
use crate::file::{Outlives, replace};

const FILE: &str = "drains.json";

type Kept = drain::Kept<NeighborName>;

/// The file, and what is in it.
#[derive(Debug)]
pub(super) struct KeptDrains {
    path: PathBuf,
    written: Kept,
}

impl KeptDrains {
    /// Reads what a predecessor left. What cannot be read is said, and nothing is drained.
    pub(super) fn read(socket: &Path) -> (Self, Drains<NeighborName>) {
        let path = socket.with_file_name(FILE);
        let written = read(&path).unwrap_or_else(|error| {
            warn!(%error, path = %path.display(), "cannot read which drains there were: there are none");
            Kept::default()
        });
        let drains = Drains::restored(written.clone(), Instant::now());
        (Self { path, written }, drains)
    }

    /// Writes down what has changed.
    pub(super) fn follow(&mut self, drains: &Drains<NeighborName>) {
        self.write(drains.kept());
    }

    /// A daemon that ends drained has left: its successor comes back, to those neighbors that are not drained alone.
    pub(super) fn forget_node(&mut self) {
        self.write(self.written.clone().without_node());
    }

    /// Tried once: the next change tries again.
    fn write(&mut self, kept: Kept) {
        if kept == self.written {
            return;
        }
        if let Err(error) = write(&self.path, &kept) {
            let path = self.path.display();
            warn!(%error, %path, "cannot write down which drains there are: a restart would not know them");
        }
        self.written = kept;
    }
}

/// What was written; the default where nothing was.
pub(super) fn read<T: DeserializeOwned + Default>(path: &Path) -> io::Result<T> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(error),
    }
}

/// Whole or not at all; the default is no file.
pub(super) fn write<T: Serialize + Default + PartialEq>(path: &Path, kept: &T) -> io::Result<()> {
    if *kept == T::default() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
    }
    replace(path, &serde_json::to_vec(kept)?, Outlives::Process)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::drain::{Order, Phase, Scope, Then};

    #[test]
    fn a_successor_knows_the_drains_and_one_of_a_daemon_that_left_does_not() {
        let directory = std::env::temp_dir().join(format!("selvedge-kept-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("control.sock");
        let (mut kept, mut drains) = KeptDrains::read(&socket);
        let eth0 = NeighborName::Interface("eth0".to_owned());
        let numbered = NeighborName::Address("192.0.2.1".parse().unwrap());
        let order = Order { wait: Duration::from_secs(7), then: Then::Stop, message: "gone".to_owned() };
        for scope in [Scope::Node, Scope::Neighbor(eth0.clone()), Scope::Neighbor(numbered)] {
            drains.drain(scope, order.clone(), Instant::now());
        }
        kept.follow(&drains);

        let (mut kept, mut drains) = KeptDrains::read(&socket);
        let node = drains.node().unwrap();
        assert_eq!((node.phase(), node.order().then), (Phase::Marking, Then::StayDown));
        assert_eq!((node.order().wait, node.order().message.as_str()), (order.wait, "gone"));
        assert_eq!(drains.neighbors().count(), 2);
        drains.undrain(&Scope::Neighbor(eth0), Instant::now()).unwrap();
        kept.follow(&drains);
        let (mut kept, drains) = KeptDrains::read(&socket);
        assert_eq!((drains.node().is_some(), drains.neighbors().count()), (true, 1));
        kept.forget_node();
        let (mut kept, mut drains) = KeptDrains::read(&socket);
        assert_eq!((drains.node(), drains.neighbors().count()), (None, 1));
        drains.retain_neighbors(|_| false);
        kept.follow(&drains);
        assert!(!socket.with_file_name(FILE).exists());

        fs::write(socket.with_file_name(FILE), "{\"node\":").unwrap();
        assert!(KeptDrains::read(&socket).1.node().is_none());
        fs::remove_dir_all(&directory).unwrap();
    }
}
