//! How fast the agent is from nothing to a working node: the three times that its design promises.

use std::thread;
use std::time::{Duration, Instant};

use crate::capture::{Capture, Frame};
use crate::error::{Error, Result};
use crate::rack::{Daemon, Rack, RackOptions, leads_over};

/// For each of the three; a healthy node needs a second or two, most of it FRR's.
const LIMIT: Duration = Duration::from_secs(30);

/// What one start of a node took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// From the start of the process to an UPDATE with routes of ours on the wire.
    pub first_update: Duration,
    /// From the start of the process to a route of ours that FRR has put into its kernel: later than its table, and
    /// announced by an event.
    pub first_route_at_tor: Duration,
    /// From the last UPDATE that brought routes to all routes of the rack in the node's kernel.
    pub update_to_kernel: Duration,
}

/// One of the promises.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What is timed, for people.
    pub what: &'static str,
    /// What it should stay below.
    pub limit: Duration,
    /// The time that one start took for it.
    pub time: fn(&Times) -> Duration,
}

/// All of them, in the order in which they happen.
pub const TARGETS: [Target; 3] = [
    Target {
        what: "process start to our first UPDATE on the wire",
        limit: Duration::from_millis(300),
        time: |times| times.first_update,
    },
    Target {
        what: "process start to our first route in FRR's table, seen when FRR has put it into its kernel",
        limit: Duration::from_millis(1500),
        time: |times| times.first_route_at_tor,
    },
    Target {
        what: "last UPDATE received to all routes of the rack in the kernel",
        limit: Duration::from_millis(20),
        time: |times| times.update_to_kernel,
    },
];

/// Builds a rack in which everything runs but c1, then starts c1 and takes the times.
///
/// # Errors
/// Anything, or one of the three did not happen.
pub fn run(options: RackOptions) -> Result<Times> {
    let mut rack = Rack::build(options)?;
    for tor in 0..rack.tors.len() {
        rack.start_tor(tor)?;
    }
    for node in 1..rack.nodes.len() {
        rack.start_node(node)?;
    }
    await_others(&rack)?;

    let (node, tor) = ends(&rack)?;
    let tor_mac = tor.netns.mac(node.router.name)?;
    let at_tor = Capture::start(&tor.netns, node.router.name)?;
    let mut at_node = Vec::new();
    for uplink in &rack.tors {
        let own = node.netns.mac(uplink.router.name)?;
        at_node.push((own, Capture::start(&node.netns, uplink.router.name)?));
    }

    let before = Instant::now();
    rack.start_node(0)?;
    let (node, tor) = ends(&rack)?;
    let started = match &node.daemon {
        Some(Daemon::Agent(agent)) => agent.started().unwrap_or(before),
        Some(Daemon::Frr(_) | Daemon::Bird(_)) | None => before,
    };
    let (converged, at_tor_kernel) = thread::scope(|scope| {
        let learned = scope.spawn(|| rack.await_node_converged(node, LIMIT));
        let loopback = bgp::Prefix::host(node.router.loopback.into());
        let announced = tor
            .netns
            .await_routes("a route of c1", LIMIT, |routes| leads_over(routes, loopback, &[node.router.name]));
        let netns = || Error::Panicked { netns: node.netns.name().to_owned() };
        (learned.join().unwrap_or_else(|_panic| Err(netns())), announced)
    });
    let (converged, at_tor_kernel) = (converged?, at_tor_kernel?);
    let first_update = at_tor
        .await_frame(Duration::ZERO, |frame| frame.from != tor_mac && frame.has_bgp_routes())
        .ok_or_else(|| Error::Missing("no UPDATE of c1 was seen on the wire".to_owned()))?;
    // The ToR goes on sending, if only our own prefixes back: what counts is what was there before all was done.
    let last_update = at_node
        .into_iter()
        .flat_map(|(own, capture)| received_updates(capture, own))
        .filter(|at| *at <= converged)
        .max()
        .ok_or_else(|| Error::Missing("no UPDATE for c1 was seen on the wire".to_owned()))?;
    Ok(Times {
        first_update: first_update.at.duration_since(started),
        first_route_at_tor: at_tor_kernel.duration_since(started),
        update_to_kernel: converged.duration_since(last_update),
    })
}

fn received_updates(capture: Capture, own: crate::Mac) -> Vec<Instant> {
    let is_wanted = |frame: &Frame| frame.from != own && frame.has_bgp_routes();
    capture.stop().into_iter().filter(is_wanted).map(|frame| frame.at).collect()
}

/// The node that is measured and the ToR that it is measured at.
fn ends(rack: &Rack) -> Result<(&crate::Host, &crate::Host)> {
    rack.links().next().ok_or_else(|| Error::Missing("the rack has no links".to_owned()))
}

/// Waits until c2 and c3 know each other over both ToRs, so that the ToRs have all they will tell c1.
fn await_others(rack: &Rack) -> Result<()> {
    let uplinks: Vec<_> = rack.tors.iter().map(|tor| tor.router.name).collect();
    let [_, left, right] = rack.nodes.as_slice() else {
        return Err(Error::Missing("the rack has not three nodes".to_owned()));
    };
    for (node, other) in [(left, right), (right, left)] {
        node.netns.await_routes("the other node", LIMIT, |routes| {
            other.router.prefixes().into_iter().all(|prefix| leads_over(routes, prefix, &uplinks))
        })?;
    }
    Ok(())
}
