//! How runtimes are to connect this node's pods, where no Calico does: a list of the CNI project's own plugins, with the
//! node's blocks as ranges of addresses (CNI specification 0.4.0, which every runtime in use understands).
//!
//! In: the configuration, the blocks and the MTU of the uplinks. Out: a file, replaced as a whole when it changes. It stays
//! when the daemon stops, when nothing is left to say, and when `[cni]` is taken out of the configuration: pods are made and
//! deleted by it, so that only an operator removes it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bgp::{Family, Prefix};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{info, warn};

use super::desired::{BlockSource, Desired};
use crate::config::{Cni, Config};
use crate::file::{Outlives, replace};

const SPECIFICATION: &str = "0.4.0";
/// Runtimes and `host-local` keep what they remember of pods under this name.
const NETWORK: &str = "selvedge";
/// A disk that is full, or read-only, may be mended.
const RETRY: Duration = Duration::from_secs(5);
/// `host-local` takes no range without room for a gateway and a pod: its last two bits have to be free.
const BITS_OF_PODS: u8 = 2;

/// What is to stand where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    path: PathBuf,
    text: String,
}

impl File {
    /// What a configuration asks for; `None` where that is nothing, or there is no block. `mtu` is in octets, of packets.
    pub(crate) fn of(config: &Config, desired: &Desired, mtu: u32) -> Option<Self> {
        let Cni { file } = config.cni.as_ref()?;
        let of_node = desired.blocks.iter().filter(|(_, block)| match block.source {
            BlockSource::Node => block.is_announced(),
            // Calico's IPAM alone gives addresses of these.
            BlockSource::Calico => false,
        });
        let mut blocks = config.pods.static_blocks.clone();
        // What the file says of a block, or of a part of it, goes first.
        blocks.extend(of_node.map(|(&prefix, _)| prefix).filter(|&prefix| {
            !config.pods.static_blocks.iter().any(|block| block.covers(prefix) || prefix.covers(*block))
        }));
        Some(Self { path: file.clone(), text: conflist(&blocks, mtu)? })
    }
}

/// The list of plugins; `None` where there is no room for a pod. Each pod gets one address of each family, from the first
/// of its blocks that has one left.
fn conflist(blocks: &[Prefix], mtu: u32) -> Option<String> {
    let ranges_of = |family: Family| -> Vec<Value> {
        let has_room = |block: &&Prefix| block.length().saturating_add(BITS_OF_PODS) <= family.max_length();
        let blocks = blocks.iter().filter(|block| block.family() == family).filter(has_room);
        blocks.map(|block| json!({ "subnet": block.to_string() })).collect()
    };
    let families = [(Family::Ipv4Unicast, "0.0.0.0/0"), (Family::Ipv6Unicast, "::/0")];
    let families = families.map(|(family, all)| (ranges_of(family), all));
    let families: Vec<_> = families.into_iter().filter(|(ranges, _)| !ranges.is_empty()).collect();
    if families.is_empty() {
        return None;
    }
    let (ranges, routes): (Vec<_>, Vec<_>) =
        families.into_iter().map(|(ranges, all)| (ranges, json!({ "dst": all }))).unzip();
    let list = json!({
        "cniVersion": SPECIFICATION,
        "name": NETWORK,
        "plugins": [
            // A cable to each pod, and a host route to it: nothing is bridged, and nothing translated.
            {
                "type": "ptp",
                "mtu": mtu,
                "ipMasq": false,
                "ipam": { "type": "host-local", "ranges": ranges, "routes": routes },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    });
    Some(format!("{list:#}\n"))
}

/// Keeps the file as it is wanted, until nobody wants anything any more.
pub(crate) async fn run(mut wanted: watch::Receiver<Option<File>>) {
    let mut has_failed = false;
    loop {
        let file = wanted.borrow_and_update().clone();
        let changed = if keep(file, &mut has_failed).await {
            wanted.changed().await
        } else {
            // Waiting for a change can be left and begun again.
            timeout(RETRY, wanted.changed()).await.unwrap_or(Ok(()))
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Whether the file is as wanted now. A failure is said once.
async fn keep(file: Option<File>, has_failed: &mut bool) -> bool {
    let Some(file) = file else { return true };
    let path = file.path.clone();
    // An error of the join is the end of the runtime.
    let Ok(written) = spawn_blocking(move || write(&file)).await else { return true };
    match written {
        Ok(Written::Anew) => info!(path = %path.display(), "runtimes are told how to connect pods"),
        Ok(Written::Before) => {}
        Err(error) => {
            if !*has_failed {
                let path = path.display();
                warn!(%error, %path, "cannot tell runtimes how to connect pods: tried again and again");
            }
            *has_failed = true;
            return false;
        }
    }
    *has_failed = false;
    true
}

/// When a file was written.
#[derive(Debug, PartialEq, Eq)]
enum Written {
    Anew,
    Before,
}

/// Whole or not at all, also where the power fails: a runtime that finds half a list has no network.
fn write(file: &File) -> io::Result<Written> {
    let File { path, text } = file;
    if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(Written::Before);
    }
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    // Runtimes leave alone what is not called .conf, .conflist or .json: the unfinished file is none of these.
    replace(path, text.as_bytes(), Outlives::PowerLoss)?;
    Ok(Written::Anew)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cluster::desired::{Block, Standing};

    fn config(sections: &str) -> Config {
        crate::config::parse(&format!("[bgp]\nlocal-as = 65001\n{sections}"), "test.toml").unwrap()
    }

    fn desired(blocks: &[(&str, BlockSource)]) -> Desired {
        let block = |source| Block { source, standing: Standing::Announced, rivals: BTreeSet::new() };
        let blocks = blocks.iter().map(|&(prefix, source)| (prefix.parse().unwrap(), block(source)));
        Desired { blocks: blocks.collect(), ..Desired::default() }
    }

    fn plugins(file: &File) -> Vec<Value> {
        let list: Value = serde_json::from_str(&file.text).unwrap();
        assert_eq!((&list["cniVersion"], &list["name"]), (&json!("0.4.0"), &json!("selvedge")));
        list["plugins"].as_array().unwrap().clone()
    }

    #[test]
    fn blocks_become_ranges_one_set_for_each_family() {
        let config = config("[cni]\n[pods.static]\nblocks = ['10.1.8.192/26', 'fd00:10:1:8::/64']\n");
        let desired = desired(&[
            ("10.42.1.0/26", BlockSource::Node),
            ("10.1.8.192/27", BlockSource::Node),
            ("10.9.0.0/26", BlockSource::Calico),
            ("10.42.2.0/31", BlockSource::Node),
        ]);
        let file = File::of(&config, &desired, 1450).unwrap();
        assert_eq!(file.path, Path::new("/etc/cni/net.d/10-selvedge.conflist"));
        let ptp = json!({
            "type": "ptp",
            "mtu": 1450,
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [
                    [{ "subnet": "10.1.8.192/26" }, { "subnet": "10.42.1.0/26" }],
                    [{ "subnet": "fd00:10:1:8::/64" }],
                ],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
            },
        });
        let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
        assert_eq!(plugins(&file), [ptp, portmap]);
    }

    #[test]
    fn a_family_without_a_block_is_left_out_and_without_any_there_is_no_file() {
        let config = config("[cni]\n");
        let file = File::of(&config, &desired(&[("fd00:1::/64", BlockSource::Node)]), 1500).unwrap();
        let [ptp, _] = plugins(&file).try_into().unwrap();
        assert_eq!(ptp["ipam"]["ranges"], json!([[{ "subnet": "fd00:1::/64" }]]));
        assert_eq!(ptp["ipam"]["routes"], json!([{ "dst": "::/0" }]));
        assert_eq!(File::of(&config, &Desired::default(), 1500), None);
        let unasked = super::tests::config("");
        assert_eq!(File::of(&unasked, &desired(&[("fd00:1::/64", BlockSource::Node)]), 1500), None);
    }

    #[tokio::test]
    async fn a_file_is_replaced_when_it_changes_and_stays_when_nothing_is_wanted() {
        let folder = std::env::temp_dir().join(format!("selvedge-cni-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let path = folder.join("net.d/10-selvedge.conflist");
        let file = |text: &str| File { path: path.clone(), text: text.to_owned() };
        assert_eq!(write(&file("1")).unwrap(), Written::Anew);
        assert_eq!(write(&file("1")).unwrap(), Written::Before);
        assert_eq!(write(&file("2")).unwrap(), Written::Anew);
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        assert!(keep(None, &mut false).await);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn a_disk_that_does_not_take_it_is_tried_again() {
        let folder = std::env::temp_dir().join(format!("selvedge-cni-full-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        // A file where a folder should be.
        let obstacle = folder.join("net.d");
        fs::write(&obstacle, "").unwrap();
        let path = obstacle.join("10-selvedge.conflist");
        let file = || Some(File { path: path.clone(), text: "1".to_owned() });
        let mut has_failed = false;
        assert!(!keep(file(), &mut has_failed).await && has_failed);
        fs::remove_file(&obstacle).unwrap();
        assert!(keep(file(), &mut has_failed).await && !has_failed);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1");
        fs::remove_dir_all(&folder).unwrap();
    }
}
