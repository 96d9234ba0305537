//! What a healthy rack does: checks that `lab` prints and its exit status stands for.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bgp::{Family, Prefix};

use crate::agent::NexthopObjects;
use crate::error::Result;
use crate::ping::{Outcome, Ping};
use crate::rack::{Daemon, Host, Pod, Rack};
use crate::route::{Action, PROTOCOL_BGP, Route};
use crate::wait::check_interrupt;

/// An echo inside one machine takes well below a millisecond; the rest is for a loaded one.
const REPLY_LIMIT: Duration = Duration::from_secs(2);
/// Silence is what a blackhole answers, so this one is waited for in full.
const SILENCE_LIMIT: Duration = Duration::from_millis(200);
/// Offset of an address in a block that no pod has.
const ABSENT: u8 = 10;
/// RTA_PRIORITY of the agent's and of FRR's routes.
const BGP_METRIC: u32 = 20;

/// One check and how it came out.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// What should hold.
    pub what: String,
    /// How many single things were tried.
    pub tried: usize,
    /// Those that did not hold.
    pub failures: Vec<String>,
}

impl Verdict {
    /// Whether all of it held.
    #[must_use]
    pub fn held(&self) -> bool {
        self.failures.is_empty() && self.tried > 0
    }

    fn new(what: &str) -> Self {
        Self { what: what.to_owned(), tried: 0, failures: Vec::new() }
    }

    fn count(&mut self, held: bool, failure: impl FnOnce() -> String) {
        self.tried += 1;
        if !held {
            self.failures.push(failure());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.held() { "held  " } else { "FAILED" };
        write!(f, "{mark}  {} ({} of {})", self.what, self.tried - self.failures.len(), self.tried)?;
        self.failures.iter().try_for_each(|failure| write!(f, "\n          {failure}"))
    }
}

/// Pings from every pod to every other, both families.
///
/// # Errors
/// A socket cannot be had.
pub fn pods_reach_pods(rack: &Rack) -> Result<Verdict> {
    let mut verdict = Verdict::new("every pod reaches every other pod, with whole packets of 1500 octets");
    for from in pods(rack) {
        for to in pods(rack).filter(|to| to.name != from.name) {
            for address in &to.addresses {
                check_interrupt()?;
                let outcome = Ping::new(*address).whole_packet(1500).once(&from.netns, REPLY_LIMIT)?;
                verdict.count(matches!(outcome, Outcome::Reply(_)), || {
                    format!("{} to {} {address}: {outcome:?}", from.name, to.name)
                });
            }
        }
    }
    Ok(verdict)
}

/// Pings from every node to the loopbacks of every other, both families, from its own loopback.
///
/// # Errors
/// A socket cannot be had.
pub fn nodes_reach_nodes(rack: &Rack) -> Result<Verdict> {
    let mut verdict = Verdict::new("every node reaches every other node and both ToRs, loopback to loopback");
    for from in &rack.nodes {
        for to in rack.nodes.iter().chain(&rack.tors).filter(|to| to.router != from.router) {
            for (source, address) in from.router.loopbacks().into_iter().zip(to.router.loopbacks()) {
                check_interrupt()?;
                let outcome = Ping::new(address).from(source).once(&from.netns, REPLY_LIMIT)?;
                verdict.count(matches!(outcome, Outcome::Reply(_)), || {
                    format!("{} to {} {address}: {outcome:?}", from.router.name, to.router.name)
                });
            }
        }
    }
    Ok(verdict)
}

/// Pings from one pod of each node to an address of each block that nobody has: silence or "unreachable", but never
/// "time exceeded", which is what a loop over a default route says.
///
/// # Errors
/// A socket cannot be had.
pub fn absent_pods_do_not_loop(rack: &Rack) -> Result<Verdict> {
    let mut verdict = Verdict::new("packets to an absent pod end in its node's blackhole, without a loop");
    for from in rack.nodes.iter().filter_map(|node| node.pods.first()) {
        for to in &rack.nodes {
            for address in to.router.pod_addresses(ABSENT) {
                check_interrupt()?;
                let outcome = Ping::new(address).once(&from.netns, SILENCE_LIMIT)?;
                verdict.count(matches!(outcome, Outcome::Timeout | Outcome::Unreachable), || {
                    format!("{} to {address}: {outcome:?}", from.name)
                });
            }
        }
    }
    Ok(verdict)
}

/// Looks into the kernel of each node: its blackholes, and for every prefix of the others one route by BGP with metric
/// 20, the loopback as source, and a link-local next hop on each uplink; by a nexthop object or without, where the
/// agent was told.
///
/// # Errors
/// The kernel refuses.
pub fn kernels_have_the_routes(rack: &Rack) -> Result<Verdict> {
    let mut verdict =
        Verdict::new("every kernel has the routes: ECMP by link-local next hops, and the blackholes");
    for node in &rack.nodes {
        let routes = node.netns.routes()?;
        let find = |prefix: Prefix| routes.iter().find(|route| route.prefix == prefix);
        for block in &node.router.blocks {
            let held = find(*block).is_some_and(|route| route.action == Action::Blackhole);
            verdict.count(held, || format!("{}: no blackhole for {block}", node.router.name));
        }
        for other in rack.nodes.iter().filter(|other| other.router != node.router) {
            for prefix in other.router.prefixes() {
                let route = find(prefix);
                verdict.count(route.is_some_and(|route| is_as_wanted(rack, node, route)), || {
                    let found = route.map_or("nothing".to_owned(), ToString::to_string);
                    format!("{}: {prefix} should be ECMP by BGP, is {found}", node.router.name)
                });
            }
        }
    }
    Ok(verdict)
}

/// Asks each FRR ToR what it has: every prefix of every node with a path of one AS, and no path of more, which would be
/// transit through a node.
///
/// # Errors
/// vtysh fails.
pub fn tors_see_no_transit(rack: &Rack) -> Result<Verdict> {
    let mut verdict = Verdict::new("every ToR has every node's prefixes, one AS in each path: no transit");
    for tor in &rack.tors {
        let frr = tor.frr()?;
        let mut paths = frr.all_paths(Family::Ipv4Unicast)?;
        paths.extend(frr.all_paths(Family::Ipv6Unicast)?);
        for node in &rack.nodes {
            let asn = node.router.asn.to_string();
            for prefix in node.router.prefixes() {
                let held = paths.iter().any(|(at, path)| *at == prefix.to_string() && *path == asn);
                verdict.count(held, || format!("{}: no {prefix} by AS {asn}", tor.router.name));
            }
        }
        for (prefix, path) in &paths {
            verdict.count(path.split_whitespace().count() <= 1, || {
                format!("{}: {prefix} came through {path}", tor.router.name)
            });
        }
    }
    Ok(verdict)
}

/// All checks that apply to the daemons of this rack.
///
/// # Errors
/// A check could not be made.
pub fn all(rack: &Rack) -> Result<Vec<Verdict>> {
    let mut verdicts = vec![
        kernels_have_the_routes(rack)?,
        pods_reach_pods(rack)?,
        nodes_reach_nodes(rack)?,
        absent_pods_do_not_loop(rack)?,
    ];
    if rack.tors.iter().all(|tor| matches!(tor.daemon, Some(Daemon::Frr(_)))) {
        verdicts.push(tors_see_no_transit(rack)?);
    }
    Ok(verdicts)
}

fn pods(rack: &Rack) -> impl Iterator<Item = &Pod> {
    rack.nodes.iter().flat_map(|node| &node.pods)
}

fn is_as_wanted(rack: &Rack, node: &Host, route: &Route) -> bool {
    let uplinks: Vec<_> = rack.tors.iter().map(|tor| tor.router.name).collect();
    let by_link_local = match &route.action {
        Action::Forward(hops) => {
            hops.iter().all(|hop| matches!(hop.via, Some(IpAddr::V6(via)) if via.is_unicast_link_local()))
        }
        Action::Blackhole | Action::Other(_) => false,
    };
    let source = match (route.prefix, &node.daemon) {
        (Prefix::V4(_), _) => Some(IpAddr::V4(node.router.loopback)),
        (Prefix::V6(_), Some(Daemon::Agent(_))) => Some(IpAddr::V6(node.router.loopback_v6)),
        // FRR is given a preferred source for IPv4 alone.
        (Prefix::V6(_), Some(Daemon::Frr(_) | Daemon::Bird(_)) | None) => route.source,
    };
    let objects = match &node.daemon {
        Some(Daemon::Agent(agent)) => agent.nexthop_objects(),
        Some(Daemon::Frr(_) | Daemon::Bird(_)) | None => None,
    };
    let is_carried_as_told = match objects {
        None | Some(NexthopObjects::Auto) => true,
        Some(NexthopObjects::On) => route.object.is_some(),
        Some(NexthopObjects::Off) => route.object.is_none(),
    };
    route.devices() == uplinks
        && by_link_local
        && is_carried_as_told
        && route.protocol == PROTOCOL_BGP
        && route.metric == BGP_METRIC
        && route.source == source
}
