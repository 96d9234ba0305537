//! The configuration: one TOML file, read into types that cannot be wrong.
//!
//! In: the text of `/etc/selvedge/selvedge.toml` and the key files that it names. Out: a [`Config`], or a
//! [`ConfigError`] that holds everything found wrong, each with its line, its key and what is allowed.
//!
//! `load` reads files, `table` walks TOML and knows its positions, `sections`, `neighbors`, `blocks` and `kubernetes`,
//! `readiness` turn each table into its type (`policies` into those of [`bgp::policy`]), `problem` says what is wrong the way a compiler does, `show` writes a
//! configuration back as TOML.

mod blocks;
mod duration;
mod kubernetes;
mod load;
mod neighbors;
mod policies;
mod problem;
mod readiness;
mod rule_text;
mod sections;
mod show;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bgp::message::RouteCommunity;
use bgp::message::update::LinkLocalForm;
use bgp::policy::{Policy, PrefixList, Transit};
use bgp::session::RemoteAs;
use bgp::{Asn, HoldTime, Prefix};
use wildmatch::WildMatch;

use crate::bfd;

pub(crate) use blocks::reserved;
pub(crate) use duration::show as show_duration;
pub use duration::{DurationError, parse as parse_duration};
pub use load::{MAX_FILE_SIZE, load, load_again, parse};
pub use problem::{ConfigError, Paint, Place, Problem};
pub use rule_text::{RuleText, action_word};

/// A whole, valid configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[bgp]`
    pub bgp: Bgp,
    /// `[loopback]`
    pub loopback: Loopback,
    /// `[[prefix-list]]`, in the order of the file.
    pub prefix_lists: Vec<Arc<PrefixList>>,
    /// `[[policy]]`, in the order of the file.
    pub policies: Vec<Arc<Policy>>,
    /// `[[neighbor]]`, in the order of the file.
    pub neighbors: Vec<Neighbor>,
    /// `[kubernetes]`; left out: nobody asks an API server anything.
    pub kubernetes: Option<Kubernetes>,
    /// `[pods]`
    pub pods: Pods,
    /// `[services]`, which needs `[kubernetes]`; left out: none is announced.
    pub services: Option<Services>,
    /// `[readiness]`; left out: its defaults are what `/readyz` goes by, and Kubernetes is told nothing.
    pub readiness: Option<Readiness>,
    /// `[drain]`
    pub drain: Drain,
    /// `[cni]`; left out: somebody else connects the pods.
    pub cni: Option<Cni>,
    /// `[fib]`
    pub fib: Fib,
    /// `[sysctl]`
    pub sysctl: Sysctl,
    /// `[control]`
    pub control: Control,
}

impl Config {
    /// The neighbor that an interface of this name is an uplink to. A neighbor with exactly this name goes
    /// before a glob, and of the globs that match the first in the file. The loopback interface is nobody's
    /// uplink, even where a glob matches it.
    #[must_use]
    pub fn neighbor_for_interface(&self, name: &str) -> Option<&Neighbor> {
        if name == self.loopback.interface {
            return None;
        }
        let by_name = |matches: fn(&str, &str) -> bool| {
            self.neighbors.iter().find(|neighbor| match &neighbor.peer {
                NeighborPeer::Interface(pattern) => matches(pattern, name),
                NeighborPeer::Address(_) => false,
            })
        };
        by_name(|pattern, name| pattern == name).or_else(|| by_name(stands_for))
    }
}

/// Whether an interface name of the file stands for this interface: its name, or a glob that matches it.
#[must_use]
pub fn stands_for(pattern: &str, name: &str) -> bool {
    WildMatch::new(pattern).matches(name)
}

/// Whether an interface name of the file stands for more than one interface.
#[must_use]
pub fn is_glob(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// `[bgp]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bgp {
    /// `local-as`, required, 1 to 4294967294 without the reserved numbers.
    pub local_as: Asn,
    /// `router-id`; by default the first global IPv4 address of the loopback interface.
    pub router_id: Option<Ipv4Addr>,
    /// `keepalive`, default 3 s.
    pub keepalive: Duration,
    /// `hold-time`, default 9 s.
    pub hold_time: HoldTime,
    /// `graceful-restart`, default 30 s; "0s" is `None`.
    pub graceful_restart: Option<Duration>,
    /// `stale-time`, default 120 s: how long the routes of a neighbor that restarts are kept, however long it asks for;
    /// 0 s: not at all. Without `graceful_restart` it does not count.
    pub stale_time: Duration,
}

/// `[loopback]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loopback {
    /// `interface`, default `lo`.
    pub interface: String,
    /// `advertise`, default true.
    pub advertise: bool,
}

/// `[[neighbor]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbor {
    /// `interface` or `address`: exactly one of the two.
    pub peer: NeighborPeer,
    /// `remote-as`, default external.
    pub remote_as: RemoteAs,
    /// `max-prefixes` for each family, default 100000.
    pub max_prefixes: u32,
    /// `password-file`: an absolute path, for a neighbor with an address only.
    pub password_file: Option<PathBuf>,
    /// What [`load()`] found in `password-file`: the TCP MD5 key, 1 to 80 octets. Always there when
    /// `password_file` is; only [`parse`], which reads no file, leaves it out.
    pub password: Option<Password>,
    /// `ttl-security`: GTSM (RFC 5082), default false.
    pub ttl_security: bool,
    /// `link-local-next-hop-length` 16 or 32, default 32: how a link-local next hop is written.
    pub link_local_form: LinkLocalForm,
    /// `router-lifetime` of the Router Advertisements we send, whole seconds up to 9000, default 0 s: a host
    /// is nobody's default router. Only BIRD 2.19 and later want another one.
    pub router_lifetime: Duration,
    /// `damping`, whole seconds up to an hour, default 10 s: for how long a neighbor is held back at most whose sessions
    /// do not last. "0s": never.
    pub damping: Duration,
    /// `bfd`: the interval that packets are sent and received at, 10 ms to 60 s, default 300 ms, and the multiplier,
    /// 1 to 255, default 3. Left out: none.
    pub bfd: Option<bfd::Parameters>,
    /// `import`: the policy for what it says, by name. Left out: what the guard lets through is accepted.
    pub import: Option<Arc<Policy>>,
    /// `export`: the policy for what it is told, by name. Left out: what the guard lets through is told.
    pub export: Option<Arc<Policy>>,
    /// `allow-transit`, default false. Only together with `export`, so that nobody is told of everything by accident.
    pub transit: Transit,
    /// `allowas-in`, 0 to 10, default 0: how often our own AS may be in a path of it.
    pub allowed_own_as: u8,
}

/// How a neighbor is named in the file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NeighborPeer {
    /// Unnumbered: an interface name, or a glob that makes one neighbor of each match.
    Interface(String),
    /// Numbered.
    Address(IpAddr),
}

/// A TCP MD5 key (RFC 2385). Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub Vec<u8>);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// `[kubernetes]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// `kubeconfig` or `in-cluster`: exactly one of the two.
    pub access: Access,
    /// `node-name`; left out: `NODE_NAME` of the environment, then the name of the host.
    pub node_name: Option<String>,
    /// `state`, an absolute path, default `/var/lib/selvedge/cluster.json`: where what the server said last is kept.
    pub state: PathBuf,
}

/// How the API server is found, and who we are to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// `kubeconfig`, an absolute path.
    Kubeconfig(PathBuf),
    /// `in-cluster = true`: the service account of the pod that we are in.
    ServiceAccount,
}

/// `[pods]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pods {
    /// `[pods.static] blocks`: a blackhole and an advertisement each. No two of them overlap.
    pub static_blocks: Vec<Prefix>,
    /// `[pods.node]`, which needs `[kubernetes]`.
    pub node_cidrs: Option<NodeCidrs>,
    /// `[pods.calico]`, which needs `[kubernetes]`.
    pub calico: Option<Calico>,
}

/// `[pods.node]`: each of `Node.spec.podCIDRs` is a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCidrs {}

/// `[pods.calico]`: each block that Calico's IPAM gave this node is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calico {
    /// `api`, default `auto`.
    pub api: CalicoApi,
    /// `borrowed`, default `advertise`.
    pub borrowed: Borrowed,
}

/// What becomes of pods here whose addresses are of other nodes' blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Borrowed {
    /// Each is announced by itself.
    Advertise {
        /// `borrowed-community`: what the routes carry, where something is given.
        community: Option<RouteCommunity>,
        /// `borrowed-limit`, default 100: the log says when there are more, and when there are no more than that again.
        limit: u32,
    },
    /// They are not: whoever has the block gets what is sent to them.
    Refuse,
}

/// Where Calico keeps its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalicoApi {
    /// `auto`: the first of the other two that the server has.
    Any,
    /// `crd.projectcalico.org/v1`: the custom resources behind Calico's own API server.
    CrdV1,
    /// `projectcalico.org/v3`: custom resources without an API server of Calico's.
    V3,
}

/// `[services]`: which addresses of services are announced. A kind of address is off where its key is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    /// `load-balancer`: the ranges of `status.loadBalancer.ingress` that may be announced. No two of them overlap.
    pub load_balancer: Vec<Prefix>,
    /// `external`: those of `spec.externalIPs`.
    pub external: Vec<Prefix>,
    /// `cluster`: those of `spec.clusterIPs`.
    pub cluster: Vec<Prefix>,
    /// `aggregate`, default false: for what every node can serve the range is announced, not each address of it.
    pub aggregate: bool,
}

/// `[readiness]`: what has to hold for the node to be fit for pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// `uplinks`, 1 to 64, default 1: neighbors whose session is established, at least.
    pub uplinks: u16,
    /// `routes`: what neighbors have to tell of.
    pub routes: RequiredRoutes,
    /// `echo`, default false: neighbors have to send back each block of this node, as FRR does.
    pub echo: bool,
    /// `isolated-for`, whole seconds from 1 s to an hour, default 30 s: for how long it does not hold until it counts.
    pub isolated_for: Duration,
    /// `taint`, default true: `selvedge.dev/uplinks-not-ready` comes and goes, too.
    pub taint: bool,
}

/// Which routes neighbors have to tell of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequiredRoutes {
    /// Left out: one at least, whichever it is.
    Any,
    /// Each of these; none at all where there is none.
    Each(BTreeSet<Prefix>),
}

/// `[drain]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drain {
    /// `on-cordon`, default false: no service is announced while the node takes no new pods. Needs `[kubernetes]`.
    pub on_cordon: bool,
}

/// `[cni]`: runtimes are told how to connect this node's pods. Not beside `[pods.calico]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cni {
    /// `file`, an absolute path, default `/etc/cni/net.d/10-selvedge.conflist`.
    pub file: PathBuf,
}

/// `[fib]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fib {
    /// `protocol`, 5 to 255 (below are the kernel's own, `linux/rtnetlink.h`) without those that other
    /// programs are known by, default 186.
    pub protocol: u8,
    /// `metric`, from 1 (the kernel takes 0 as 1024 for IPv6), default 20.
    pub metric: u32,
    /// `table`, from 1 and not 255 (`local`, the kernel's own), default 254 (`main`).
    pub table: u32,
    /// `max-paths`, 1 to 256, default 16.
    pub max_paths: usize,
    /// `nexthop-objects`, default `auto`.
    pub nexthop_objects: NexthopObjects,
    /// `nexthop-ids`, from 1, default 1860000000 to 1860065535. Objects with these and our protocol are ours.
    pub nexthop_ids: RangeInclusive<u32>,
}

/// Whether routes name nexthop objects of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NexthopObjects {
    /// Unless the kernel or another program will not have them.
    Auto,
    /// Whatever becomes of them.
    On,
    /// Next hops stand in each route.
    Off,
}

/// `[sysctl]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// `manage`, default false: set what the job depends on instead of warning.
    pub manage: bool,
}

/// `[control]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// `socket`, an absolute path of at most 107 octets, default `/run/selvedge/control.sock`.
    pub socket: PathBuf,
}
