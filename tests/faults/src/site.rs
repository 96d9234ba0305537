//! Where faults are made: a rack whose first node is the victim, with foreign routes in every node's kernel that
//! nobody may touch.
//!
//! In: what a fault does to it. Out: what the fault saw, and what did not hold.

use std::process::Command;
use std::time::{Duration, Instant};

use bgp::Prefix;
use lab::rack::leads_over;
use lab::{
    Agent, Error, Frr, Host, Netns, NodeDaemon, Programs, Rack, RackOptions, Result, TorDaemon, build,
    eventually, output_of,
};

use crate::fault::Setting;
use crate::foreign::Foreign;

/// Both uplinks of a node.
pub(crate) const BOTH: [&str; 2] = ["tor1", "tor2"];
/// FRR takes two to three seconds from a new link to its first UPDATE; the rest is for a loaded machine.
const CONVERGENCE: Duration = Duration::from_secs(30);

/// A rack with what the suite put into it.
#[derive(Debug)]
pub(crate) struct Site {
    /// Nodes c1 to c3, ToRs tor1 and tor2; both are FRR.
    pub(crate) rack: Rack,
    /// How its nodes are configured.
    pub(crate) setting: Setting,
    /// What was planted.
    pub(crate) foreign: Vec<Foreign>,
    notes: Vec<String>,
    broken: Vec<String>,
}

impl Site {
    /// Builds the rack, waits until it has converged, and plants the foreign routes.
    ///
    /// # Errors
    /// Anything.
    pub(crate) fn up(programs: &Programs, setting: Setting) -> Result<Self> {
        let configs = build::node_configs()?.into_iter().map(|config| setting.applied_to(config)).collect();
        let rack = Rack::up(RackOptions {
            name: format!("faults-{}", std::process::id()),
            nodes: NodeDaemon::Agent { programs: programs.clone(), configs },
            tors: TorDaemon::Frr,
        })?;
        let foreign = rack.nodes.iter().map(Foreign::plant).collect::<Result<_>>()?;
        Ok(Self { rack, setting, foreign, notes: Vec::new(), broken: Vec::new() })
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
