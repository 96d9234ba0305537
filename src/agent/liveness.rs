//! What BFD has to do with BGP (RFC 5882): which neighbors are watched, and what follows when one fails or is back.
//!
//! The FIB hears of a failure from BFD itself, and has taken the next hop out of the kernel by then. Here the session
//! ends with Cease / BFD Down (RFC 9384), and no other is begun before BFD lets go of the neighbor: it is up again, its
//! administrator has it down, or it was given up as one that does without. A neighbor that never was up gets its
//! session all the same: that BFD is missing at the other end is no failure of the path, and is shown.

use std::net::IpAddr;

use bgp::message::{CeaseSubcode, Notification};
use bgp::net::{PeerChange, PeerCommand, PeerEvent, Target};
use bgp::rib::Gateway;
use tracing::{debug, info};

use super::neighbors::{self, NeighborName};
use super::{Agent, Neighbor};
use crate::bfd::{self, Administration, Health, Standing};
use crate::drain::Wanted;
use crate::kernel::interfaces::Interfaces;

/// What BFD has to know of a neighbor, and what was made of its answers.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// Where the neighbor is, whether or not a session with it is held back.
    place: Option<Place>,
    restart: bfd::Restart,
    seen: Seen,
}

/// Where packets to a neighbor go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    gateway: Gateway,
    local: Option<IpAddr>,
}

/// What the agent has made of a neighbor's standing so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    failures: u64,
    hold: Hold,
}

/// Whether the neighbor may have a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Hold {
    #[default]
    Free,
    Held,
}

/// What a neighbor's task is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consequence {
    /// No session until further notice.
    Hold,
    Release,
    /// It has failed, and is back already: the session that lived through it ends all the same, since the peer has
    /// seen the failure as well.
    Reset,
}

impl Seen {
    /// What follows from a standing; `None` for a neighbor that is not watched, of which nothing can be held against
    /// it.
    fn look(&mut self, standing: Option<Standing>) -> Option<Consequence> {
        let failures = standing.map_or(0, |standing| standing.failures);
        let is_news = failures > std::mem::replace(&mut self.failures, failures);
        let has_failed = standing.is_some_and(|standing| standing.health == Health::Failed);
        match (has_failed, self.hold) {
            (true, Hold::Free) => {
                self.hold = Hold::Held;
                Some(Consequence::Hold)
            }
            (true, Hold::Held) => None,
            (false, Hold::Held) => {
                self.hold = Hold::Free;
                Some(Consequence::Release)
            }
            (false, Hold::Free) => is_news.then_some(Consequence::Reset),
        }
    }
}

impl Liveness {
    /// The neighbor is there, or nobody knows where.
    pub(super) fn find(&mut self, target: Option<&Target>) {
        self.place = target.map(|target| Place {
            gateway: Gateway {
                address: target.remote.ip(),
                interface: target.interface.as_ref().map(|interface| interface.index),
            },
            local: target.link_local.map(IpAddr::V6),
        });
    }

    fn gateway(&self) -> Option<Gateway> {
        self.place.map(|place| place.gateway)
    }
}

impl Agent {
    /// BFD judges a neighbor by what its session says of its control plane (RFC 5882 section 4.3).
    pub(super) fn note_restart(&mut self, event: PeerEvent) {
        let restart = match event.change {
            PeerChange::Up { keeps } if !keeps.is_empty() => bfd::Restart::Agreed,
            PeerChange::Restarting => bfd::Restart::Graceful,
            PeerChange::Up { .. } | PeerChange::Down { .. } | PeerChange::Left | PeerChange::Failed => {
                bfd::Restart::None
            }
            PeerChange::Unreachable { .. } => return,
        };
        if let Some(neighbor) = self.neighbors.values_mut().find(|neighbor| neighbor.peer.id == event.peer) {
            neighbor.liveness.restart = restart;
        }
        self.watch_as_used();
    }

    /// Tells BFD whom to watch: the neighbors that are configured so, where they are known to be.
    pub(super) async fn watch_neighbors(&mut self, interfaces: &Interfaces) {
        self.tell_whom_to_watch(interfaces);
        self.follow_standings().await;
    }

    /// Where only the use of a neighbor has changed, and not its place.
    pub(super) fn watch_as_used(&self) {
        let interfaces = self.interfaces.borrow().clone();
        self.tell_whom_to_watch(&interfaces);
    }

    fn tell_whom_to_watch(&self, interfaces: &Interfaces) {
        let peers: bfd::Peers =
            self.neighbors.iter().filter_map(|(name, neighbor)| peer(name, neighbor, interfaces)).collect();
        self.bfd.peers.send_if_modified(|now| {
            let changed = **now != peers;
            if changed {
                *now = peers.into();
            }
            changed
        });
    }

    /// Does what the standing of each neighbor asks for, once.
    pub(super) async fn follow_standings(&mut self) {
        let standings = self.bfd.standings.borrow_and_update().clone();
        for (name, neighbor) in &mut self.neighbors {
            let watched = neighbor.settings.bfd.and(neighbor.liveness.gateway());
            let standing = watched.and_then(|gateway| standings.get(&gateway).copied());
            match neighbor.liveness.seen.look(standing) {
                None => {}
                Some(Consequence::Hold) => {
                    info!(neighbor = %name, "no session until BFD finds the neighbor again");
                    neighbor.peer.send(PeerCommand::Hold(bfd_down())).await;
                }
                Some(Consequence::Reset) => neighbor.peer.send(PeerCommand::Clear(bfd_down())).await,
                Some(Consequence::Release) => {
                    debug!(neighbor = %name, "sessions again");
                    neighbor.peer.send(PeerCommand::Release).await;
                }
            }
        }
    }
}

/// RFC 9384.
fn bfd_down() -> Notification {
    Notification::cease(CeaseSubcode::BfdDown)
}

fn peer(name: &NeighborName, neighbor: &Neighbor, interfaces: &Interfaces) -> Option<(Gateway, bfd::Peer)> {
    let (parameters, Place { gateway, local }) = (neighbor.settings.bfd?, neighbor.liveness.place?);
    let on_link = || neighbors::connected(gateway.address, interfaces).map(|interface| interface.index);
    let peer = bfd::Peer {
        name: name.to_string(),
        local,
        interface: gateway.interface.or_else(on_link),
        parameters,
        administration: administration(neighbor),
        restart: neighbor.liveness.restart,
    };
    Some((gateway, peer))
}

/// A neighbor that is drained has no session to be watched for, and its link may be unplugged. It is told after the
/// end of the BGP session: a ToR may take it for a failure, by which it would lose more than by our words.
fn administration(neighbor: &Neighbor) -> Administration {
    match &neighbor.used {
        Wanted::NoSession(_) if !neighbor.damping.is_up() => Administration::Disabled,
        Wanted::NoSession(_) | Wanted::Session(_) => Administration::Enabled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(health: Health, failures: u64) -> Option<Standing> {
        Some(Standing { health, failures })
    }

    #[test]
    fn a_failure_holds_the_session_until_it_is_over() {
        use Health::{Alive, Failed, Unknown};
        let mut seen = Seen::default();
        for (standing, expected) in [
            (None, None),
            (standing(Unknown, 0), None),
            (standing(Alive, 0), None),
            (standing(Failed, 1), Some(Consequence::Hold)),
            (standing(Failed, 1), None),
            (standing(Alive, 1), Some(Consequence::Release)),
            (standing(Alive, 1), None),
            // Two of them, seen as one.
            (standing(Failed, 3), Some(Consequence::Hold)),
            // Its administrator has it down.
            (standing(Unknown, 3), Some(Consequence::Release)),
            (standing(Alive, 3), None),
        ] {
            assert_eq!(seen.look(standing), expected, "{standing:?}");
        }
    }

    #[test]
    fn a_failure_that_was_over_before_anybody_looked_is_one() {
        let mut seen = Seen::default();
        assert_eq!(seen.look(standing(Health::Alive, 0)), None);
        assert_eq!(seen.look(standing(Health::Alive, 1)), Some(Consequence::Reset));
        assert_eq!(seen.look(standing(Health::Alive, 1)), None);
    }

    #[test]
    fn who_is_not_watched_any_more_is_not_held() {
        let mut seen = Seen::default();
        assert_eq!(seen.look(standing(Health::Failed, 1)), Some(Consequence::Hold));
        assert_eq!(seen.look(None), Some(Consequence::Release));
        // Watched again, from the beginning.
        assert_eq!(seen.look(standing(Health::Unknown, 0)), None);
        assert_eq!(seen.look(standing(Health::Failed, 1)), Some(Consequence::Hold));
    }
}
