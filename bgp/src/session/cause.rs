//! Who is behind the end of a session: what follows from it for the next one is not the same for a maintenance and for a
//! failure. RFC 4486 section 4 has the Cease subcodes that an operator's action sends.

use super::DownReason;
use crate::message::{CeaseSubcode, Notification};

/// Who is behind the end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Our own operator: a drain, a reset, another configuration, the end of this daemon.
    Ours,
    /// The peer's operator, as its NOTIFICATION says.
    Theirs,
    /// Nobody: something has failed, or was refused.
    Failure,
}

impl DownReason {
    /// Who is behind it.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Sent(notification) if is_an_operators(notification) => Cause::Ours,
            Self::Received(notification) if is_an_operators(notification) => Cause::Theirs,
            Self::Stopped => Cause::Ours,
            Self::Sent(_)
            | Self::Received(_)
            | Self::ConnectionLost
            | Self::SendHoldTimer
            | Self::Replaced => Cause::Failure,
        }
    }
}

fn is_an_operators(notification: &Notification) -> bool {
    [
        CeaseSubcode::AdministrativeShutdown,
        CeaseSubcode::PeerDeconfigured,
        CeaseSubcode::AdministrativeReset,
        CeaseSubcode::OtherConfigurationChange,
    ]
    .into_iter()
    .map(Notification::cease)
    .any(|cease| (cease.code, cease.subcode) == (notification.code, notification.subcode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_does_is_told_from_what_fails() {
        use CeaseSubcode as Cease;
        let operators = [
            Notification::shutdown(Cease::AdministrativeShutdown, "disk"),
            Notification::cease(Cease::PeerDeconfigured),
            Notification::shutdown(Cease::AdministrativeReset, ""),
            Notification::cease(Cease::OtherConfigurationChange),
        ];
        for notification in operators {
            assert_eq!(DownReason::Sent(notification.clone()).cause(), Cause::Ours, "{notification}");
            assert_eq!(DownReason::Received(notification.clone()).cause(), Cause::Theirs, "{notification}");
        }
        let failures = [
            Notification::cease(Cease::MaximumPrefixes),
            Notification::cease(Cease::ConnectionRejected),
            Notification::cease(Cease::ConnectionCollision),
            Notification::cease(Cease::OutOfResources),
            Notification::cease(Cease::HardReset),
            Notification::cease(Cease::BfdDown),
            Notification::hold_timer_expired(),
        ];
        for notification in failures {
            assert_eq!(DownReason::Sent(notification.clone()).cause(), Cause::Failure, "{notification}");
            assert_eq!(DownReason::Received(notification.clone()).cause(), Cause::Failure, "{notification}");
        }
        for reason in [DownReason::ConnectionLost, DownReason::SendHoldTimer, DownReason::Replaced] {
            assert_eq!(reason.cause(), Cause::Failure, "{reason}");
        }
        assert_eq!(DownReason::Stopped.cause(), Cause::Ours);
    }
}
