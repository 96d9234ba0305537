//! A ToR whose routes all go and come back, again and again, and the memory of the agent beside it.
//!
//! The ToR is the library `bgp` itself with a table of made-up routes; the agent is the daemon as it is installed, in a
//! namespace of its own with the kernel's table. What is waited for is seen in the daemon's own words.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::mpsc as blocking;
use std::time::{Duration, Instant};

use bgp::net::{HopLimit, Peer, PeerCommand, PeerSettings, RibHandle, RibSettings, Target};
use bgp::policy::Role;
use bgp::rib::{Originator, PeerConfig, RibConfig};
use bgp::session::{RemoteAs, SessionConfig};
use bgp::{Asn, Families, Family, HoldTime, PeerId, Prefix, RouterId};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::agent::{Agent, Programs};
use crate::error::{Doing, Error, Result};
use crate::link::{Port, cable};
use crate::netns::Netns;
use crate::scratch::Scratch;
use crate::wait::eventually;

const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0));
const TOR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const LINK_LENGTH: u8 = 31;
const TOR_AS: Asn = Asn(65004);
/// More than the loaded machine of a test needs for a table; a million routes take some ten seconds.
const LIMIT: Duration = Duration::from_secs(300);
/// The daemon gives back memory every half second after work. It rests when nothing changed for three of these.
const REST: Duration = Duration::from_millis(1500);

/// How often how much comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlapOptions {
    /// IPv4 routes, 4,000,000 at most.
    pub routes: u32,
    /// How often all of them come and go.
    pub rounds: u32,
}

/// The daemon's memory, in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// In memory.
    pub resident: u64,
    /// The most since the start.
    pub peak: u64,
    /// Handed out by its allocator.
    pub allocated: u64,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaps {
    /// With the session up, and no routes.
    pub idle: Sample,
    /// All routes in the kernel, then none: one pair for each round.
    pub rounds: Vec<[Sample; 2]>,
    /// What the daemon said of its parts with all routes there, in the last round.
    pub parts: String,
}

/// Starts the daemon and lets the routes come and go. `name` is that of the lab.
///
/// # Errors
/// Anything; what does not happen in some minutes.
pub fn run(name: &str, programs: &Programs, options: FlapOptions) -> Result<Flaps> {
    let mut scratch = Scratch::create(name)?;
    let [node, tor] = [scratch.netns("c1")?, scratch.netns("tor1")?];
    cable(Port { netns: &node, name: "tor1" }, Port { netns: &tor, name: "c1" })?;
    for (netns, interface, address) in [(&node, "tor1", NODE), (&tor, "c1", TOR)] {
        netns.add_address(interface, address, LINK_LENGTH)?;
        netns.set_up(interface)?;
    }
    let directory = scratch.directory("c1")?;
    let config = format!(
        "[bgp]\nlocal-as = 65001\nrouter-id = \"1.1.1.1\"\n\
         [[neighbor]]\naddress = \"{TOR}\"\nremote-as = {TOR_AS}\nmax-prefixes = 4000000\n"
    );
    let agent = Agent::start(&node, &directory, "c1", &config, programs)?;
    let speaker = Tor::start(&tor)?;
    eventually("a session", LIMIT, || {
        let summary = agent.bgpctl_json(&["show", "summary"])?;
        Ok((summary.pointer("/neighbors/0/state") == Some(&Value::from("established"))).then_some(()))
    })?;
    let idle = at_rest(&agent)?;
    let mut flaps = Flaps { idle, rounds: Vec::new(), parts: String::new() };
    for _ in 0..options.rounds {
        speaker.announce(options.routes)?;
        await_routes(&agent, options.routes)?;
        let full = at_rest(&agent)?;
        flaps.parts = agent.bgpctl(&["show", "memory"])?;
        speaker.announce(0)?;
        await_routes(&agent, 0)?;
        flaps.rounds.push([full, at_rest(&agent)?]);
    }
    Ok(flaps)
}

fn await_routes(agent: &Agent, routes: u32) -> Result<()> {
    eventually(&format!("{routes} routes in the kernel, and as many in the RIB"), LIMIT, || {
        let summary = agent.bgpctl_json(&["show", "summary"])?;
        let number = |pointer| summary.pointer(pointer).and_then(Value::as_u64);
        let counts = [number("/fib_routes"), number("/rib/destinations")];
        Ok((counts == [Some(routes.into()); 2]).then_some(()))
    })
}

/// The memory when it has not become less for a while.
fn at_rest(agent: &Agent) -> Result<Sample> {
    let mut least = sample(agent)?;
    let mut since = Instant::now();
    eventually("memory at rest", LIMIT, || {
        let now = sample(agent)?;
        if now.resident < least.resident {
            since = Instant::now();
        }
        least = Sample { resident: now.resident.min(least.resident), ..now };
        // Each question is work as well: not too many of them.
        std::thread::sleep(REST / 6);
        Ok((since.elapsed() >= REST).then_some(least))
    })
}

fn sample(agent: &Agent) -> Result<Sample> {
    let memory = agent.bgpctl_json(&["show", "memory"])?;
    let octets = |pointer: &str| {
        let missing = || Error::Missing(format!("show memory has no {pointer}: {memory}"));
        memory.pointer(pointer).and_then(Value::as_u64).ok_or_else(missing)
    };
    Ok(Sample {
        resident: octets("/process/resident_octets")?,
        peak: octets("/process/peak_octets")?,
        allocated: octets("/allocator/in_use_octets")?,
    })
}

/// The speaker, in a thread in its namespace until it is dropped.
struct Tor {
    tables: mpsc::Sender<u32>,
}

impl Tor {
    fn start(netns: &Netns) -> Result<Self> {
        let (tables, wanted) = mpsc::channel(1);
        let (started, heard) = blocking::channel();
        // Dropping `tables` ends it; nobody has to wait for that.
        netns.spawn(move || {
            // Its threads are in the namespace as well. A turn over a million routes must not cost a KEEPALIVE.
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            match runtime {
                Ok(runtime) => {
                    let _ = started.send(Ok(()));
                    runtime.block_on(speak(wanted));
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        })?;
        let outcome = heard.recv().map_err(|_| Error::Panicked { netns: netns.name().to_owned() })?;
        outcome.doing(|| "start the ToR's threads".to_owned())?;
        Ok(Self { tables })
    }

    /// Announces that many routes and withdraws all others.
    fn announce(&self, routes: u32) -> Result<()> {
        self.tables.blocking_send(routes).map_err(|_| Error::Missing("the ToR has ended".to_owned()))
    }
}

async fn speak(mut wanted: mpsc::Receiver<u32>) {
    let router_id = RouterId(Ipv4Addr::new(4, 4, 4, 4));
    let config = RibConfig { local_as: TOR_AS, router_id, max_paths: 1, role: Role::Host };
    // What it learns goes nowhere.
    let (fib, _) = mpsc::channel(1);
    let (rib, _task) = RibHandle::spawn(RibSettings { config, convergence_deadline: LIMIT }, fib);
    let (events, mut happened) = mpsc::channel(16);
    let settings = PeerSettings {
        name: "c1".to_owned(),
        id: PeerId(1),
        session: session(router_id),
        rib: PeerConfig::limited_to(u32::MAX),
        events,
    };
    let peer = Peer::spawn(settings, rib.clone());
    peer.send(PeerCommand::Target(Some(Target {
        remote: SocketAddr::new(NODE, 179),
        interface: None,
        link_local: None,
        global_address: None,
        hop_limit: HopLimit::Link,
        md5: None,
    })))
    .await;
    loop {
        tokio::select! {
            routes = wanted.recv() => {
                let Some(routes) = routes else { return };
                if rib.originate(table(routes)).await.is_err() {
                    return;
                }
            }
            Some(_) = happened.recv() => {}
        }
    }
}

fn session(router_id: RouterId) -> SessionConfig {
    SessionConfig {
        local_as: TOR_AS,
        router_id,
        remote_as: RemoteAs::External,
        // The daemon proposes less.
        hold_time: HoldTime::from_secs(90).unwrap_or(HoldTime::OFF),
        keepalive: Duration::from_secs(3),
        families: Families::from_iter([Family::Ipv4Unicast]),
        extended_next_hop: Families::NONE,
        graceful_restart: None,
        inherited: Families::NONE,
        stale_time: Duration::ZERO,
        hostname: String::new(),
        software_version: String::new(),
        link_local_form: bgp::message::update::LinkLocalForm::default(),
        passive: false,
        seed: 1,
    }
}

/// 11.0.0.0/24, 11.0.1.0/24 and so on.
fn table(routes: u32) -> BTreeMap<Prefix, Originator> {
    let first = u32::from(Ipv4Addr::new(11, 0, 0, 0));
    (0..routes)
        .filter_map(|number| {
            let address = Ipv4Addr::from(first.checked_add(number.checked_mul(256)?)?);
            Some((Prefix::masked(address.into(), 24).ok()?, Originator::StaticBlock))
        })
        .collect()
}
