//! A cluster in the namespace of a ToR, and a node that is cabled to it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lab::{Cluster, ClusterOptions, Controllers, Netns, Port, Requirement, Scratch, cable, can_run};

/// Controllers take seconds; the rest is for a loaded machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// Where the API server is, beyond the cable.
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

/// Daemons end first.
pub(super) struct Bench {
    pub(super) cluster: Cluster,
    pub(super) node: Netns,
    /// Held for as long as the cluster lives in it.
    _tor: Netns,
    pub(super) scratch: Scratch,
}

impl Bench {
    /// `None`, said loudly, where the machine cannot have it.
    pub(super) fn up(test: &str, controllers: Controllers) -> Option<Self> {
        if !can_run(&[Requirement::Root, Requirement::Kubernetes]) {
            return None;
        }
        let mut scratch = Scratch::create(&format!("{test}-{}", std::process::id())).unwrap();
        let [node, tor] = ["c1", "tor1"].map(|role| scratch.netns(role).unwrap());
        let (from, to) = (Port { netns: &node, name: "tor1" }, Port { netns: &tor, name: "c1" });
        cable(from, to).unwrap();
        node.add_address("tor1", NODE, 30).unwrap();
        tor.add_address("c1", SERVER, 30).unwrap();
        node.set_up("tor1").unwrap();
        tor.set_up("c1").unwrap();
        let directory = scratch.directory("kube").unwrap();
        let options = ClusterOptions { address: SERVER, controllers };
        let cluster = Cluster::start(&tor, &directory, options).unwrap_or_else(|error| panic!("{error}"));
        Some(Self { cluster, node, _tor: tor, scratch })
    }
}
