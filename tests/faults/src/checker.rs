//! What has to be so after every fault.
//!
//! Two seconds after its end: the agents live and have not panicked, foreign routes are as they were planted, and each
//! kernel has exactly the routes that `bgpctl show fib` says. In the time that the fault gives for it: every node has
//! its routes over both uplinks, each ToR has of each node exactly what that originates, every pod of the victim reaches
//! those of another node and is reached, and the agents have given back their memory and their file descriptors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use bgp::{Family, Prefix};
use lab::route::PROTOCOL_BGP;
use lab::{Action, Agent, Daemon, Error, Frr, Host, Outcome, Ping, Result};
use selvedge::control::api::{FibRoute, FibState, RouteKind};
use serde_json::Value;

use crate::fault::Fate;
use crate::site::Site;

/// What an agent's memory may grow by over one fault: a tenth, and what the allocator keeps of a burst.
const MEMORY_SLACK_KIB: u64 = 4096;
/// File descriptors that come and go with clients of the control socket, of which the checker is one.
const DESCRIPTOR_SLACK: usize = 2;

/// RTPROT_KERNEL of include/uapi/linux/rtnetlink.h: what comes with an interface or an address.
const PROTOCOL_KERNEL: u8 = 2;

/// For a ping within the rack.
const ANSWER: Duration = Duration::from_millis(300);

/// What the agents were like before a fault.
#[derive(Debug)]
pub(crate) struct Before {
    agents: Vec<Vitals>,
}

#[derive(Debug)]
struct Vitals {
    pid: u32,
    log_length: usize,
    resident_kib: u64,
    descriptors: usize,
}

impl Before {
    /// Looks at all agents.
    ///
    /// # Errors
    /// One does not run.
    pub(crate) fn look(site: &Site) -> Result<Self> {
        let agents = site.rack.nodes.iter().map(|node| Vitals::of(node.agent()?)).collect::<Result<_>>()?;
        Ok(Self { agents })
    }

    /// What is wrong that has to be right soon after a fault, whatever else still heals.
    ///
    /// # Errors
    /// Something cannot be looked at.
    pub(crate) fn wrong_at_once(&self, site: &Site, fate: Fate) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for (index, (node, before)) in site.rack.nodes.iter().zip(&self.agents).enumerate() {
            let fate = if index == 0 { fate } else { Fate::Survives };
            wrong.extend(before.process(node, fate)?);
            wrong.extend(kernel_against_fib(node)?);
        }
        for (node, foreign) in site.rack.nodes.iter().zip(&site.foreign) {
            wrong.extend(foreign.changes(node)?);
        }
        Ok(wrong)
    }

    /// What is not yet as it was before the fault.
    ///
    /// # Errors
    /// Something cannot be looked at.
    pub(crate) fn not_healed(&self, site: &Site) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for node in &site.rack.nodes {
            if !site.rack.is_converged(node, &node.netns.routes()?) {
                wrong.push(format!("{} has not all routes over both uplinks", node.router.name));
            }
        }
        // The costly questions only when they may be answered well.
        if wrong.is_empty() {
            for tor in &site.rack.tors {
                wrong.extend(tor_against_nodes(tor, &site.rack.nodes)?);
            }
            wrong.extend(unanswered(site)?);
        }
        for (node, before) in site.rack.nodes.iter().zip(&self.agents) {
            wrong.extend(before.resources(node)?);
            wrong.extend(only_inherited(node)?);
        }
        Ok(wrong)
    }
}

impl Vitals {
    fn of(agent: &Agent) -> Result<Self> {
        let pid = agent.id().ok_or_else(|| Error::Missing("an agent is not running".to_owned()))?;
        Ok(Self {
            pid,
            log_length: agent.log().len(),
            resident_kib: resident_kib(agent)?,
            descriptors: descriptors(pid)?,
        })
    }

    fn process(&self, node: &Host, fate: Fate) -> Result<Vec<String>> {
        let (name, agent) = (node.router.name, node.agent()?);
        let mut wrong = Vec::new();
        match (fate, agent.id()) {
            (_, None) => wrong.push(format!("{name}: the agent is not running")),
            (Fate::Survives, Some(pid)) if pid != self.pid => {
                wrong.push(format!("{name}: another agent runs"))
            }
            (Fate::Survives | Fate::Replaced, Some(pid)) if !is_alive(pid) => {
                wrong.push(format!("{name}: the agent has ended"));
            }
            (Fate::Survives | Fate::Replaced, Some(_)) => {}
        }
        let log = agent.log();
        let new = log.get(self.log_length..).unwrap_or_default();
        wrong.extend(new.lines().filter(|line| is_panic(line)).map(|line| format!("{name}: {line}")));
        Ok(wrong)
    }

    fn resources(&self, node: &Host) -> Result<Vec<String>> {
        let name = node.router.name;
        let now = Self::of(node.agent()?)?;
        let mut wrong = Vec::new();
        let most = most_kib(self.resident_kib);
        if now.resident_kib > most {
            let (was, is) = (self.resident_kib, now.resident_kib);
            wrong.push(format!("{name}: {is} KiB are resident, {was} were before"));
        }
        if now.descriptors > self.descriptors + DESCRIPTOR_SLACK {
            let (was, is) = (self.descriptors, now.descriptors);
            wrong.push(format!("{name}: {is} files are open, {was} were before"));
        }
        Ok(wrong)
    }
}

/// What the runtime prints of a panic, and the agent of a task that ended by one.
fn is_panic(line: &str) -> bool {
    line.contains("panicked at") || line.contains("task has failed")
}

/// Ended and not yet reaped, a process is in state Z (proc_pid_stat(5)).
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

/// The most that has been resident of an agent since its start.
///
/// # Errors
/// It does not run.
pub(crate) fn peak_kib(agent: &Agent) -> Result<u64> {
    let pid = agent.id().ok_or_else(|| Error::Missing("an agent is not running".to_owned()))?;
    status_kib(pid, "VmHWM:")
}

/// What is resident of an agent.
///
/// # Errors
/// It does not run.
pub(crate) fn resident_kib(agent: &Agent) -> Result<u64> {
    let pid = agent.id().ok_or_else(|| Error::Missing("an agent is not running".to_owned()))?;
    status_kib(pid, "VmRSS:")
}

/// What may be resident of an agent after a fault.
pub(crate) fn most_kib(before: u64) -> u64 {
    before + before / 10 + MEMORY_SLACK_KIB
}

/// A number of proc_pid_status(5).
fn status_kib(pid: u32, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = read(&path)?;
    let field = text.lines().find_map(|line| line.strip_prefix(name));
    let number = field.and_then(|field| field.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| Error::Missing(format!("{path} has no {name}")))
}

fn descriptors(pid: u32) -> Result<usize> {
    let path = format!("/proc/{pid}/fd");
    let list = fs::read_dir(&path).map_err(|source| Error::Io { doing: format!("list {path}"), source })?;
    Ok(list.count())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::Io { doing: format!("read {path}"), source })
}

/// A route as both the agent and the kernel can say it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Plain {
    prefix: Prefix,
    blackhole: bool,
    gateways: BTreeSet<(IpAddr, String)>,
    source: Option<IpAddr>,
}

fn told(node: &Host) -> Result<Vec<FibRoute>> {
    let told = node.agent()?.bgpctl(&["--json", "show", "fib"])?;
    serde_json::from_str(&told)
        .map_err(|source| Error::Json { command: "bgpctl show fib".to_owned(), source })
}

/// Routes of an earlier run that nobody has announced again yet.
fn only_inherited(node: &Host) -> Result<Vec<String>> {
    let stale = told(node)?.into_iter().filter(|route| route.status == FibState::Stale);
    Ok(stale.map(|route| format!("{}: {} is only inherited", node.router.name, route.prefix)).collect())
}

/// Every route that is the agent's, in its own words and in the kernel's.
fn kernel_against_fib(node: &Host) -> Result<Vec<String>> {
    let name = node.router.name;
    let mut wrong = Vec::new();
    let mut said = BTreeSet::new();
    for route in told(node)? {
        match &route.status {
            // An inherited one waits, in the kernel, for a session that need not be back this soon.
            FibState::Installed | FibState::Kept | FibState::Stale => {
                said.insert(plain(route));
            }
            FibState::Blocked { .. } => {}
            FibState::Pending | FibState::Failed { .. } => {
                wrong.push(format!("{name}: {} is {:?}", route.prefix, route.status));
            }
        }
    }
    let mut there = BTreeSet::new();
    for route in node.netns.routes()?.into_iter().filter(|route| route.protocol == PROTOCOL_BGP) {
        let (blackhole, hops) = match route.action {
            Action::Blackhole => (true, Vec::new()),
            Action::Forward(hops) => (false, hops),
            Action::Other(kind) => {
                wrong.push(format!("{name}: {} is of type {kind}", route.prefix));
                continue;
            }
        };
        let gateways = hops.into_iter().filter_map(|hop| Some((hop.via?, hop.device))).collect();
        let new = Plain { prefix: route.prefix, blackhole, gateways, source: route.source };
        if let Some(twice) = there.replace(new) {
            wrong.push(format!("{name}: the kernel has {} twice", twice.prefix));
        }
    }
    wrong.extend(said.difference(&there).map(|route| format!("{name}: not in the kernel: {route:?}")));
    wrong.extend(there.difference(&said).map(|route| format!("{name}: only in the kernel: {route:?}")));
    Ok(wrong)
}

fn plain(route: FibRoute) -> Plain {
    let gateway = |gateway: selvedge::control::api::FibGateway| Some((gateway.address, gateway.interface?));
    Plain {
        prefix: route.prefix,
        blackhole: match route.kind {
            RouteKind::Blackhole => true,
            RouteKind::Unicast | RouteKind::Other => false,
        },
        gateways: route.gateways.into_iter().filter_map(gateway).collect(),
        source: route.preferred_source,
    }
}

/// Pings that are not answered, of those between the pods of the first two nodes.
fn unanswered(site: &Site) -> Result<Vec<String>> {
    let [Some(victim), Some(other)] = [site.rack.nodes.first(), site.rack.nodes.get(1)] else {
        return Ok(vec!["a rack of less than two nodes".to_owned()]);
    };
    let mut wrong = Vec::new();
    for (from, to) in [(victim, other), (other, victim)] {
        for (pod, target) in from.pods.iter().flat_map(|pod| to.pods.iter().map(move |to| (pod, to))) {
            for address in &target.addresses {
                let outcome = Ping::new(*address).once(&pod.netns, ANSWER)?;
                if !matches!(outcome, Outcome::Reply(_)) {
                    wrong.push(format!("{} to {} {address}: {outcome:?}", pod.name, target.name));
                }
            }
        }
    }
    Ok(wrong)
}

/// What a ToR has of each node, and what that originates; a path that is only kept from before a restart (RFC 4724) is
/// none.
fn tor_against_nodes(tor: &Host, nodes: &[Host]) -> Result<Vec<String>> {
    match &tor.daemon {
        Some(Daemon::Frr(frr)) => frr_against_nodes(tor, frr, nodes),
        Some(Daemon::Bird(_) | Daemon::Agent(_)) | None => kernel_against_nodes(tor, nodes),
    }
}

/// The same by what the ToR's kernel forwards to each node.
fn kernel_against_nodes(tor: &Host, nodes: &[Host]) -> Result<Vec<String>> {
    let routes = tor.netns.routes()?;
    let mut wrong = Vec::new();
    for node in nodes {
        let name = node.router.name;
        let learned = routes.iter().filter(|route| route.protocol != PROTOCOL_KERNEL);
        let led = learned.filter(|route| route.devices() == [name]);
        let has: BTreeSet<_> = led.map(|route| route.prefix).collect();
        if has != node.router.prefixes().into_iter().collect() {
            wrong.push(format!("{} has {has:?} of {name}", tor.router.name));
        }
    }
    Ok(wrong)
}

fn frr_against_nodes(tor: &Host, frr: &Frr, nodes: &[Host]) -> Result<Vec<String>> {
    let mut held: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (family, word) in [(Family::Ipv4Unicast, "ipv4"), (Family::Ipv6Unicast, "ipv6")] {
        let table = frr.vtysh_json(&format!("show bgp {word} unicast json"))?;
        let routes = table.get("routes").and_then(Value::as_object);
        let routes = routes.ok_or_else(|| Error::Missing(format!("{} has no {family}", tor.router.name)))?;
        for (prefix, paths) in routes {
            for path in paths.as_array().into_iter().flatten() {
                let is_stale = path.get("stale").is_some_and(|stale| stale == true);
                if let Some(as_path) = path.get("path").and_then(Value::as_str).filter(|_| !is_stale) {
                    held.entry(as_path.to_owned()).or_default().insert(prefix.clone());
                }
            }
        }
    }
    let mut wrong = Vec::new();
    for node in nodes {
        let wanted: BTreeSet<_> = node.router.prefixes().iter().map(ToString::to_string).collect();
        let has = held.remove(&node.router.asn.to_string()).unwrap_or_default();
        if has != wanted {
            wrong.push(format!("{} has {has:?} of {}", tor.router.name, node.router.name));
        }
    }
    // What remains is its own, without a path, or came through a host.
    wrong.extend(
        held.keys()
            .filter(|path| !path.is_empty())
            .map(|path| format!("{}: routes by AS path {path}", tor.router.name)),
    );
    Ok(wrong)
}
