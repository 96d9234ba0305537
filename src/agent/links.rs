//! The file by which a successor knows whether a neighbor's link was lost while no daemon ran: beside the control socket,
//! as `kept` is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::kept;
use crate::kernel::interfaces::Interface;

const FILE: &str = "links.json";

/// A link that is the same with the same numbers was there all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptLink {
    index: u32,
    carrier_changes: u32,
}

type Kept = BTreeMap<String, KeptLink>;

/// The file, what a predecessor left in it, and what is in it now.
#[derive(Debug)]
pub(super) struct KeptLinks {
    path: PathBuf,
    found: Kept,
    written: Kept,
}

impl KeptLinks {
    /// Reads what a predecessor left. Of what cannot be read, nothing was lost as far as is known.
    pub(super) fn read(socket: &Path) -> Self {
        let path = socket.with_file_name(FILE);
        let found: Kept = kept::read(&path).unwrap_or_else(|error| {
            warn!(%error, path = %path.display(), "cannot read how often links were lost: none was, it is assumed");
            Kept::default()
        });
        Self { path, written: found.clone(), found }
    }

    /// Whether the link has not been lost since the predecessor saw it last. One that it did not know lost nothing.
    pub(super) fn is_unbroken(&self, link: &Interface) -> bool {
        self.found.get(&link.name).is_none_or(|found| *found == KeptLink::of(link))
    }

    /// Writes down what has changed. Tried once: the next change tries again.
    pub(super) fn follow<'a>(&mut self, links: impl Iterator<Item = &'a Interface>) {
        let now: Kept = links.map(|link| (link.name.clone(), KeptLink::of(link))).collect();
        if now == self.written {
            return;
        }
        if let Err(error) = kept::write(&self.path, &now) {
            let path = self.path.display();
            warn!(%error, %path, "cannot write down how often links were lost: a successor would not know");
        }
        self.written = now;
    }
}

impl KeptLink {
    fn of(link: &Interface) -> Self {
        Self { index: link.index.0, carrier_changes: link.carrier_changes }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::agent::neighbors::tests::link;

    #[test]
    fn a_successor_knows_which_links_were_lost() {
        let directory = std::env::temp_dir().join(format!("selvedge-links-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("control.sock");
        let (eth0, eth1) = (link(2, "eth0", &[]), link(3, "eth1", &[]));
        let mut first = KeptLinks::read(&socket);
        assert!(first.is_unbroken(&eth0), "nobody was there before");
        first.follow([&eth0, &eth1].into_iter());

        let second = KeptLinks::read(&socket);
        let flapped = Interface { carrier_changes: eth0.carrier_changes + 2, ..eth0.clone() };
        assert!(second.is_unbroken(&eth0) && second.is_unbroken(&eth1) && !second.is_unbroken(&flapped));
        assert!(!second.is_unbroken(&link(4, "eth1", &[])), "made again");
        assert!(second.is_unbroken(&link(5, "eth2", &[])), "a new one");

        fs::write(socket.with_file_name(FILE), "{\"eth0\":").unwrap();
        assert!(KeptLinks::read(&socket).is_unbroken(&flapped));
        fs::remove_dir_all(&directory).unwrap();
    }
}
