//! BFD in the words of the control API.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{Neighbor, View, stopping, words};
use crate::bfd::{Health, Request, SessionStatus, State};
use crate::control::api;

impl View {
    pub(super) async fn bfd(&self) -> Result<api::Bfd, api::Error> {
        let (reply, answer) = oneshot::channel();
        self.bfd.send(Request::Show(reply)).await.map_err(|_| stopping())?;
        let status = answer.await.map_err(|_| stopping())?;
        Ok(api::Bfd {
            sessions: status.sessions.iter().map(|session| self.bfd_session(session)).collect(),
            discards: api::BfdDiscards {
                hop_limit: status.discards.hop_limit,
                malformed: status.discards.malformed,
                authenticated: status.discards.authenticated,
                no_session: status.discards.no_session,
            },
        })
    }

    fn bfd_session(&self, status: &SessionStatus) -> api::BfdSession {
        api::BfdSession {
            neighbor: status.name.clone(),
            address: status.gateway.address,
            interface: status.gateway.interface.map(|index| self.interface_name(index)),
            state: state(status.state),
            diagnostic: status.diagnostic.to_string(),
            since_s: status.since.elapsed().as_secs(),
            health: match status.standing.health {
                Health::Unknown => api::BfdHealth::Unknown,
                Health::Alive => api::BfdHealth::Alive,
                Health::Failed => api::BfdHealth::Failed,
            },
            times_up: status.times_up,
            failures: status.standing.failures,
            discriminator: status.discriminator.0.get(),
            interval_ms: words::milliseconds(status.parameters.interval),
            multiplier: status.parameters.multiplier.get(),
            transmit_interval_us: status.intervals.transmit.map(microseconds),
            detection_time_us: status.intervals.detection.map(microseconds),
            remote: status.remote.map(|packet| api::BfdRemote {
                state: state(packet.state),
                diagnostic: packet.diagnostic.to_string(),
                discriminator: packet.my_discriminator.0.get(),
                desired_min_tx_us: microseconds(packet.desired_min_tx),
                required_min_rx_us: microseconds(packet.required_min_rx),
                multiplier: packet.multiplier.get(),
                control_plane_independent: packet.control_plane_independent,
            }),
            packets_received: status.counters.received,
            packets_sent: status.counters.sent,
        }
    }
}

/// A neighbor's session.
pub(super) fn of<'a>(bfd: &'a api::Bfd, neighbor: &Neighbor) -> Option<&'a api::BfdSession> {
    let name = neighbor.name.to_string();
    bfd.sessions.iter().find(|session| session.neighbor == name)
}

/// Whether the BGP session waits for this one.
pub(super) fn waiting_for(session: Option<&api::BfdSession>) -> Option<String> {
    match session?.health {
        api::BfdHealth::Failed => Some("BFD, which has lost the neighbor".to_owned()),
        api::BfdHealth::Unknown | api::BfdHealth::Alive => None,
    }
}

fn state(state: State) -> api::BfdState {
    match state {
        State::AdminDown => api::BfdState::AdminDown,
        State::Down => api::BfdState::Down,
        State::Init => api::BfdState::Init,
        State::Up => api::BfdState::Up,
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
