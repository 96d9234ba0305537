//! Where faults are made: a rack whose first node is the victim, with foreign routes in every node's kernel that
//! nobody may touch.
//!
//! In: what a fault does to it. Out: what the fault saw, and what did not hold.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bgp::Prefix;
use lab::kubernetes::fake::FakeServer;
use lab::rack::leads_over;
use lab::route::PROTOCOL_BGP;
use lab::{
    Action, Agent, Error, Frr, Host, Netns, NodeDaemon, Programs, Rack, RackOptions, Result, Route, build,
    eventually, output_of,
};

use crate::api;
use crate::fault::Setting;
use crate::foreign::Foreign;

/// Both uplinks of a node.
pub(crate) const BOTH: [&str; 2] = ["tor1", "tor2"];
/// FRR takes two to three seconds from a new link to its first UPDATE; the rest is for a loaded machine.
const CONVERGENCE: Duration = Duration::from_secs(30);
/// What bfdd is told for [`Setting::Bfd`].
const BFDD: &str =
    "bfd\n profile fast\n  transmit-interval 50\n  receive-interval 50\n  detect-multiplier 3\n exit\nexit\n";

/// How chance is to fall, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chance {
    /// The same one gives the same.
    pub(crate) seed: u64,
    /// How long to go on drawing.
    pub(crate) duration: Duration,
}

/// A rack with what the suite put into it.
#[derive(Debug)]
pub(crate) struct Site {
    /// Nodes c1 to c3, ToRs tor1 and tor2.
    pub(crate) rack: Rack,
    /// How they are configured.
    pub(crate) setting: Setting,
    /// What was planted.
    pub(crate) foreign: Vec<Foreign>,
    /// For what is drawn by lot.
    pub(crate) chance: Chance,
    /// Of the victim's cluster, where it is in one.
    api: Option<FakeServer>,
    notes: Vec<String>,
    broken: Vec<String>,
}

impl Site {
    /// Builds the rack, waits until it has converged, and plants the foreign routes.
    ///
    /// # Errors
    /// Anything.
    pub(crate) fn up(programs: &Programs, setting: Setting, chance: Chance) -> Result<Self> {
        let configs = build::node_configs()?.into_iter().map(|config| setting.applied_to(config)).collect();
        let mut rack = Rack::up(RackOptions {
            name: format!("faults-{}", std::process::id()),
            nodes: NodeDaemon::Agent { programs: programs.clone(), configs },
            tors: setting.tors(programs)?,
        })?;
        match setting {
            Setting::Lab | Setting::Kubernetes | Setting::BirdTors | Setting::SelvedgeTors => {}
            Setting::Bfd => {
                start_bfdd(&mut rack)?;
                await_bfd(&rack)?;
            }
            Setting::SelvedgeTorsBfd => await_bfd(&rack)?,
        }
        let victim = rack.nodes.first().filter(|_| setting == Setting::Kubernetes);
        let api = victim.map(api::start).transpose()?;
        let foreign = rack.nodes.iter().map(Foreign::plant).collect::<Result<_>>()?;
        Ok(Self { rack, setting, foreign, chance, api, notes: Vec::new(), broken: Vec::new() })
    }

    /// Says what was seen, for the table.
    pub(crate) fn note(&mut self, seen: impl Into<String>) {
        self.notes.push(seen.into());
    }

    /// Says what was not as it has to be, where it was not; the fault goes on.
    pub(crate) fn demand(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(otherwise());
        }
    }

    /// Whether all that was demanded so far held.
    pub(crate) fn holds(&self) -> bool {
        self.broken.is_empty()
    }

    /// What was noted and what did not hold since the last call.
    pub(crate) fn take_words(&mut self) -> (Vec<String>, Vec<String>) {
        (std::mem::take(&mut self.notes), std::mem::take(&mut self.broken))
    }

    /// c1, which is what faults are made on where they do not say otherwise.
    ///
    /// # Errors
    /// The rack has no nodes.
    pub(crate) fn victim(&self) -> Result<&Host> {
        self.rack.nodes.first().ok_or_else(|| Error::Missing("a rack without nodes".to_owned()))
    }

    /// Its agent.
    ///
    /// # Errors
    /// As [`Site::victim`].
    pub(crate) fn agent(&self) -> Result<&Agent> {
        self.victim()?.agent()
    }

    /// Its agent, to be stopped or started, and the namespace for that.
    ///
    /// # Errors
    /// As [`Site::victim`].
    pub(crate) fn agent_mut(&mut self) -> Result<(&mut Agent, &Netns)> {
        let none = || Error::Missing("a rack without nodes".to_owned());
        self.rack.nodes.first_mut().ok_or_else(none)?.agent_mut()
    }

    /// The API server of its cluster.
    ///
    /// # Errors
    /// It is in none.
    pub(crate) fn api(&self) -> Result<&FakeServer> {
        self.api.as_ref().ok_or_else(|| Error::Missing("an API server".to_owned()))
    }

    /// The same, to be stopped or started.
    ///
    /// # Errors
    /// As [`Site::api`].
    pub(crate) fn api_mut(&mut self) -> Result<&mut FakeServer> {
        self.api.as_mut().ok_or_else(|| Error::Missing("an API server".to_owned()))
    }

    /// tor1, by which the victim has its first uplink.
    ///
    /// # Errors
    /// The rack has no ToRs.
    pub(crate) fn tor(&self) -> Result<&Host> {
        self.rack.tors.first().ok_or_else(|| Error::Missing("a rack without ToRs".to_owned()))
    }

    /// Its FRR, to be stopped or started, and the namespace for that.
    ///
    /// # Errors
    /// As [`Site::tor`].
    pub(crate) fn frr_mut(&mut self) -> Result<(&mut Frr, &Netns)> {
        let none = || Error::Missing("a rack without ToRs".to_owned());
        self.rack.tors.first_mut().ok_or_else(none)?.frr_mut()
    }

    /// c2's IPv4 block, the way to which is what most faults break.
    ///
    /// # Errors
    /// The rack has no second node.
    pub(crate) fn remote_block(&self) -> Result<Prefix> {
        let second = self.rack.nodes.get(1).and_then(|node| node.router.blocks.first());
        second.copied().ok_or_else(|| Error::Missing("a rack without a second node".to_owned()))
    }

    /// Waits until the victim's route to that block uses exactly these uplinks. Gives the time since `since`.
    ///
    /// # Errors
    /// It does not come to it.
    pub(crate) fn await_over(&self, uplinks: &[&str], since: Instant) -> Result<Duration> {
        let block = self.remote_block()?;
        let what = format!("{block} over {}", uplinks.join(" and "));
        let seen = self
            .victim()?
            .netns
            .await_routes(&what, CONVERGENCE, |routes| leads_over(routes, block, uplinks))?;
        Ok(seen.saturating_duration_since(since))
    }

    /// c2, which is told by the ToRs what became of the victim.
    ///
    /// # Errors
    /// The rack has no second node.
    pub(crate) fn far(&self) -> Result<&Host> {
        let none = || Error::Missing("a rack without a second node".to_owned());
        self.rack.nodes.get(1).ok_or_else(none)
    }

    /// Waits until c2's route to the victim's IPv4 block uses exactly these uplinks: what its answers go by.
    ///
    /// # Errors
    /// It does not come to it.
    pub(crate) fn await_far_over(&self, uplinks: &[&str], since: Instant) -> Result<Duration> {
        let none = || Error::Missing("a victim without blocks".to_owned());
        let far = self.far()?;
        let block = self.victim()?.router.blocks.first().copied().ok_or_else(none)?;
        let what = format!("{block} over {}", uplinks.join(" and "));
        let seen = far.netns.await_routes(&what, CONVERGENCE, |routes| leads_over(routes, block, uplinks))?;
        Ok(seen.saturating_duration_since(since))
    }

    /// The router that the victim's packets to c2 go to by this uplink.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn hop_over(&self, uplink: &str) -> Result<Ipv6Addr> {
        let route = self.victim()?.netns.routes()?;
        let block = self.remote_block()?;
        let ours = route.iter().filter(|route| route.prefix == block && route.protocol == PROTOCOL_BGP);
        let none = || Error::Missing(format!("no next hop on {uplink}"));
        ours.filter_map(|route| hop(route, uplink)).next().ok_or_else(none)
    }

    /// Waits until it is this one. Gives the time that this took.
    ///
    /// # Errors
    /// It does not come to it within `limit`.
    pub(crate) fn await_hop(&self, uplink: &str, wanted: Ipv6Addr, limit: Duration) -> Result<Duration> {
        let (begun, block) = (Instant::now(), self.remote_block()?);
        let is_there = |routes: &[Route]| {
            routes.iter().any(|route| route.prefix == block && hop(route, uplink) == Some(wanted))
        };
        let what = format!("{block} by {wanted}");
        let seen = self.victim()?.netns.await_routes(&what, limit, is_there)?;
        Ok(seen.saturating_duration_since(begun))
    }

    /// Processor time of the victim's agent since it was started.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let pid = self.agent()?.id().ok_or_else(|| Error::Missing("the agent is not running".to_owned()))?;
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path)
            .map_err(|source| Error::Io { doing: format!("read {path}"), source })?;
        // utime and stime of proc_pid_stat(5), in the ticks of 10 ms that Linux tells programs; the name before them may
        // hold anything.
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Makes tor1 announce this many prefixes more.
    ///
    /// # Errors
    /// FRR does not take them.
    pub(crate) fn announce(&self, count: u32) -> Result<()> {
        let tor = self.tor()?;
        tool_with_input(&tor.netns, "ip -batch -", &many("add", count))?;
        tor.frr()?.configure("router bgp 65004\naddress-family ipv4 unicast\nredistribute kernel")
    }

    /// Makes tor1 withdraw them.
    ///
    /// # Errors
    /// As [`Site::announce`].
    pub(crate) fn withdraw(&self, count: u32) -> Result<()> {
        tool_with_input(&self.tor()?.netns, "ip -batch -", &many("del", count))
    }

    /// Makes tor1 as it was before [`Site::announce`].
    ///
    /// # Errors
    /// As [`Site::announce`].
    pub(crate) fn stop_announcing(&self) -> Result<()> {
        self.tor()?.frr()?.configure("router bgp 65004\naddress-family ipv4 unicast\nno redistribute kernel")
    }

    /// Waits until the victim has exactly so many of them.
    ///
    /// # Errors
    /// It does not come to it.
    pub(crate) fn await_many(&self, wanted: usize) -> Result<usize> {
        let is_one = |route: &&Route| matches!(route.prefix.address(), IpAddr::V4(address) if address.octets().first() == Some(&100));
        let count = |routes: &[Route]| routes.iter().filter(is_one).count();
        let node = &self.victim()?.netns;
        node.await_routes(&format!("{wanted} more routes"), CONVERGENCE, |routes| count(routes) == wanted)?;
        Ok(wanted)
    }

    /// Waits until the victim's session on this uplink is up, or is not. Gives the time since `since`.
    ///
    /// # Errors
    /// It does not come to it within `limit`.
    pub(crate) fn await_session(
        &self,
        uplink: &str,
        wanted: Session,
        since: Instant,
        limit: Duration,
    ) -> Result<Duration> {
        let what = format!("the session on {uplink} is {wanted:?}");
        eventually(&what, limit, || {
            let neighbor = self.agent()?.bgpctl_json(&["show", "neighbor", uplink])?;
            Ok((Session::of(&neighbor) == wanted).then(|| since.elapsed()))
        })
    }

    /// How far the log of the victim's agent is now.
    ///
    /// # Errors
    /// As [`Site::victim`].
    pub(crate) fn mark_log(&self) -> Result<LogMark> {
        Ok(LogMark(self.agent()?.log().len()))
    }

    /// What it has logged since.
    ///
    /// # Errors
    /// As [`Site::victim`].
    pub(crate) fn logged_since(&self, mark: LogMark) -> Result<String> {
        Ok(self.agent()?.log().get(mark.0..).unwrap_or_default().to_owned())
    }

    /// Waits until it has logged these words since.
    ///
    /// # Errors
    /// It does not within `limit`.
    pub(crate) fn await_log(&self, words: &str, mark: LogMark, limit: Duration) -> Result<()> {
        eventually(&format!("the agent logs {words:?}"), limit, || {
            Ok(self.logged_since(mark)?.contains(words).then_some(()))
        })
    }
}

/// Starts bfdd beside every ToR's bgpd, for all nodes.
fn start_bfdd(rack: &mut Rack) -> Result<()> {
    for tor in &mut rack.tors {
        let asn = tor.router.asn;
        let (frr, netns) = tor.frr_mut()?;
        frr.start_bfdd(netns, BFDD)?;
        let ports = rack.nodes.iter().map(|node| node.router.name);
        let lines = ports.map(|port| format!("\nneighbor {port} bfd\nneighbor {port} bfd profile fast"));
        frr.configure(&format!("router bgp {asn}{}", lines.collect::<String>()))?;
    }
    Ok(())
}

/// Waits until both ends of each uplink watch the other.
fn await_bfd(rack: &Rack) -> Result<()> {
    for node in &rack.nodes {
        let up = |agent: &Agent| {
            let all = agent.bgpctl_json(&["show", "bfd"])?;
            let sessions = all.get("sessions").and_then(serde_json::Value::as_array);
            Ok(sessions
                .is_some_and(|sessions| sessions.len() == rack.tors.len() && sessions.iter().all(is_fast)))
        };
        eventually(&format!("BFD of {} is up", node.router.name), CONVERGENCE, || {
            Ok(up(node.agent()?)?.then_some(()))
        })?;
    }
    Ok(())
}

/// A session that is up, and in which both ends send every 50 ms and give up after three times that.
fn is_fast(session: &serde_json::Value) -> bool {
    let number = |field: &str| session.get(field).and_then(serde_json::Value::as_u64);
    session.get("state").is_some_and(|state| state == "up")
        && number("transmit_interval_us") == Some(50_000)
        && number("detection_time_us") == Some(150_000)
}

/// A place in an agent's log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogMark(usize);

/// What a person or another program does on a node: runs a tool there.
///
/// # Errors
/// The tool fails.
pub(crate) fn tool(netns: &Netns, line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let mut command: Command = netns.command(words.next().unwrap_or_default());
    command.args(words);
    output_of(command)
}

/// The same for a tool that reads what to do.
///
/// # Errors
/// The tool fails.
pub(crate) fn tool_with_input(netns: &Netns, line: &str, input: &str) -> Result<()> {
    let doing = |source| Error::Io { doing: format!("run {line}"), source };
    let mut words = line.split_whitespace();
    let mut command = netns.command(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(doing)?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.as_bytes()).map_err(doing)?;
    }
    let status = child.wait().map_err(doing)?;
    if status.success() { Ok(()) } else { Err(Error::Missing(format!("{line} ended with {status}"))) }
}

/// Lines for `ip -batch`: routes of 100.64.0.0/10, which nobody else in the rack has.
fn many(verb: &str, count: u32) -> String {
    let line = |number: u32| {
        let prefix = Ipv4Addr::from_bits(0x6440_0000 + number * 256);
        format!("route {verb} blackhole {prefix}/24 proto 99\n")
    };
    (0..count).map(line).collect()
}

/// The next hop of a route by an uplink.
fn hop(route: &Route, uplink: &str) -> Option<Ipv6Addr> {
    let Action::Forward(hops) = &route.action else { return None };
    hops.iter().filter(|hop| hop.device == uplink).find_map(|hop| match hop.via {
        Some(IpAddr::V6(via)) => Some(via),
        Some(IpAddr::V4(_)) | None => None,
    })
}

/// Whether routes flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    Up,
    Down,
}

impl Session {
    fn of(neighbor: &serde_json::Value) -> Self {
        let state = neighbor.get("state").and_then(|state| state.as_str()).unwrap_or_default();
        if state.eq_ignore_ascii_case("established") { Self::Up } else { Self::Down }
    }
}
