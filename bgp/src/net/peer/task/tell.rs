//! What the task says of its session: to the agent, and to whoever reads the log.

use std::net::IpAddr;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{Silence, Task};
use crate::net::peer::{PeerChange, PeerEvent};
use crate::session::{Cause, DownReason, SessionError};

impl Task {
    /// Without waiting: the session has timers. What must not be lost and finds no room is told later.
    pub(super) fn tell(&mut self, change: PeerChange) {
        let is_of_the_session = match change {
            PeerChange::Up { .. }
            | PeerChange::Restarting
            | PeerChange::Down { .. }
            | PeerChange::Left
            | PeerChange::Failed => true,
            PeerChange::Unreachable { .. } => false,
        };
        let told = self.events.try_send(PeerEvent { peer: self.id, change });
        if is_of_the_session {
            self.untold = match told {
                Err(mpsc::error::TrySendError::Full(_)) => Some(change),
                // Nobody is there to be told.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            };
        }
    }

    /// One that restarts refuses for a while, and is still the one whose routes are kept.
    pub(super) fn tell_of_refusal(&mut self) {
        if !self.session.awaits_restart() {
            // Nobody is told of a target that is given up anyway.
            if let Some(remote) = self.remote() {
                self.tell(PeerChange::Unreachable { remote });
            }
        }
    }

    /// Nothing is left of a session.
    pub(super) fn tell_of_end(&mut self, cause: Cause) {
        self.tell(match self.remote() {
            Some(remote) => PeerChange::Down { remote, cause },
            None => PeerChange::Left,
        });
    }

    fn remote(&self) -> Option<IpAddr> {
        self.target.as_ref().map(|target| target.remote.ip())
    }

    /// A session that somebody here wanted to end is news; one that was lost is trouble, which heals by itself.
    pub(super) fn log_down(&self, reason: &DownReason) {
        let was_asked_for = matches!(self.session.last_error(), Some(SessionError::StoppedWith(_)));
        match reason {
            DownReason::Stopped => match self.silence {
                Silence::Shutdown => info!(reason = self.silence.reason(), "session down"),
                Silence::Unreachable | Silence::Moved => {
                    warn!(reason = self.silence.reason(), "session down");
                }
            },
            DownReason::Sent(_) if was_asked_for => info!(%reason, "session down"),
            DownReason::Sent(_)
            | DownReason::Received(_)
            | DownReason::ConnectionLost
            | DownReason::SendHoldTimer
            | DownReason::Replaced => warn!(%reason, "session down"),
        }
    }

    /// Why there is no session, once for each new reason: a wrong `remote-as` has to be found in the log.
    pub(super) fn log_error(&mut self) {
        let error = self.session.last_error();
        if error == self.told_error.as_ref() {
            return;
        }
        self.told_error = error.cloned();
        match &self.told_error {
            // What we do ourselves is said where it is done.
            None | Some(SessionError::Stopped | SessionError::StoppedWith(_)) => {}
            // A peer that has just started, or dials us as well, drops some connections before one stays.
            Some(error @ SessionError::ConnectionClosed(_)) => info!(%error, "no session"),
            Some(error) => warn!(%error, "no session"),
        }
    }
}
