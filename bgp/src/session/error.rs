//! What ends a session or an attempt to get one, what the peer is told about it, and what people are told.

use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::{DownReason, RemoteAs, State};
use crate::message::notification::{FsmSubcode, OpenSubcode};
use crate::message::{CeaseSubcode, MessageKind, Notification};
use crate::{AfiSafi, Asn, Families, RouterId};

/// What ended a session or a try to get one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// TCP refused, unreachable, reset.
    #[error("cannot connect to the peer: {0}")]
    ConnectFailed(io::ErrorKind),
    /// TCP did not answer in time.
    #[error("the peer did not answer within {} s", .0.as_secs())]
    ConnectTimeout(Duration),
    /// The connection ended without a NOTIFICATION.
    #[error("peer closed the connection in {0}")]
    ConnectionClosed(State),
    /// The peer sent a NOTIFICATION.
    #[error("peer sent NOTIFICATION {0}")]
    Received(Notification),
    /// The peer sent a NOTIFICATION too short to be one, which is not answered (RFC 4271 section 6.4).
    #[error("peer sent a malformed NOTIFICATION")]
    ReceivedMalformed,
    /// A message could not be read (RFC 4271 sections 6.1 to 6.3, RFC 7313 section 5).
    #[error("peer sent a malformed message, answered with NOTIFICATION {0}")]
    Malformed(Notification),
    /// RFC 4271 section 6.2, Bad Peer AS.
    #[error("peer AS is {actual}, but remote-as is {expected}")]
    PeerAs {
        /// From the peer's OPEN.
        actual: Asn,
        /// As configured.
        expected: RemoteAs,
    },
    /// Within an AS the BGP Identifier is unique (RFC 6286 section 2.2).
    #[error("peer has our own BGP identifier {0}")]
    RouterIdInUse(RouterId),
    /// No routes could ever flow (RFC 5492 section 5).
    #[error("peer and we have no address family in common")]
    NoCommonFamily(Families),
    /// A message that its state does not allow (RFC 6608).
    #[error("peer sent {message:?} in {state}")]
    Unexpected {
        /// What came.
        message: MessageKind,
        /// OpenSent, OpenConfirm or Established.
        state: State,
    },
    /// RFC 4271 section 6.5.
    #[error("hold timer expired")]
    HoldTimerExpired,
    /// RFC 9687.
    #[error("send hold timer expired: peer took no data")]
    SendHoldTimerExpired,
    /// Another connection of the same two speakers is kept (RFC 4271 section 6.8).
    #[error("connection collision")]
    Collision,
    /// The peer restarted and opened a new connection (RFC 4724 section 5).
    #[error("peer opened a new connection")]
    Replaced,
    /// Stopped here without a word.
    #[error("stopped")]
    Stopped,
    /// Stopped here with this NOTIFICATION.
    #[error("stopped with NOTIFICATION {0}")]
    StoppedWith(Notification),
}

/// Whether an error puts off the next attempt (DampPeerOscillations, RFC 4271 section 8.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Damping {
    /// Something has to change before another attempt is likely to do better.
    Damped,
    /// Another attempt may well do better at once.
    Undamped,
}

impl SessionError {
    /// What the peer is told, if anything.
    pub(super) fn notification(&self) -> Option<Notification> {
        match self {
            Self::Malformed(notification) | Self::StoppedWith(notification) => Some(notification.clone()),
            Self::PeerAs { .. } => Some(Notification::open(OpenSubcode::BadPeerAs, Bytes::new())),
            Self::RouterIdInUse(_) => Some(Notification::open(OpenSubcode::BadBgpIdentifier, Bytes::new())),
            Self::NoCommonFamily(ours) => {
                let missing = multiprotocol_capabilities(*ours);
                Some(Notification::open(OpenSubcode::UnsupportedCapability, missing))
            }
            Self::Unexpected { message, state } => Some(Notification::fsm(fsm_subcode(*state), *message)),
            Self::HoldTimerExpired => Some(Notification::hold_timer_expired()),
            Self::Collision => Some(Notification::cease(CeaseSubcode::ConnectionCollision)),
            Self::ConnectFailed(_)
            | Self::ConnectTimeout(_)
            | Self::ConnectionClosed(_)
            | Self::Received(_)
            | Self::ReceivedMalformed
            // RFC 9687: what did not fit the socket for minutes does not fit now.
            | Self::SendHoldTimerExpired
            // RFC 4724 section 5: the peer has forgotten that connection; there is nobody to tell.
            | Self::Replaced
            | Self::Stopped => None,
        }
    }

    /// The same as an established session's end.
    pub(super) fn down_reason(&self) -> DownReason {
        match self {
            Self::Received(notification) => DownReason::Received(notification.clone()),
            Self::SendHoldTimerExpired => DownReason::SendHoldTimer,
            Self::Replaced => DownReason::Replaced,
            Self::Stopped => DownReason::Stopped,
            other => other.notification().map_or(DownReason::ConnectionLost, DownReason::Sent),
        }
    }

    /// Whether a peer that has announced graceful restart may be about to come back with its forwarding state: TCP ended
    /// without a word (RFC 4724 section 4.2), or a new connection says as much (section 5).
    pub(super) fn is_a_restart(&self) -> bool {
        match self {
            Self::ConnectionClosed(_) | Self::Replaced => true,
            Self::ConnectFailed(_)
            | Self::ConnectTimeout(_)
            | Self::Received(_)
            | Self::ReceivedMalformed
            | Self::Malformed(_)
            | Self::PeerAs { .. }
            | Self::RouterIdInUse(_)
            | Self::NoCommonFamily(_)
            | Self::Unexpected { .. }
            // It goes with a NOTIFICATION, which RFC 4724 section 4 leaves to RFC 4271.
            | Self::HoldTimerExpired
            // A peer that takes nothing for minutes has not restarted.
            | Self::SendHoldTimerExpired
            | Self::Collision
            | Self::Stopped
            | Self::StoppedWith(_) => false,
        }
    }

    pub(super) fn damping(&self) -> Damping {
        match self {
            // The connection is given up for a better one; nothing is wrong with the peer.
            Self::Collision => Damping::Undamped,
            Self::Received(notification) if is_collision(notification) => Damping::Undamped,
            // RFC 5492 section 3: the next OPEN is another one.
            Self::Received(notification) if is_unsupported_parameter(notification) => Damping::Undamped,
            Self::Received(_)
            | Self::ReceivedMalformed
            | Self::Malformed(_)
            | Self::PeerAs { .. }
            | Self::RouterIdInUse(_)
            | Self::NoCommonFamily(_)
            | Self::Unexpected { .. }
            | Self::HoldTimerExpired
            | Self::SendHoldTimerExpired => Damping::Damped,
            Self::ConnectFailed(_)
            | Self::ConnectTimeout(_)
            | Self::ConnectionClosed(_)
            | Self::Replaced
            | Self::Stopped
            | Self::StoppedWith(_) => Damping::Undamped,
        }
    }

    /// Whether people should see it where no session was lost by it: a lost collision is how two speakers that
    /// dial each other agree.
    pub(super) fn is_worth_telling(&self) -> bool {
        match self {
            Self::Collision => false,
            Self::Received(notification) => !is_collision(notification),
            _ => true,
        }
    }
}

/// Unsupported Optional Parameter (RFC 4271 section 6.2), the answer of a speaker without RFC 5492.
pub(super) fn is_unsupported_parameter(notification: &Notification) -> bool {
    (notification.code, notification.subcode) == (2, 4)
}

fn is_collision(notification: &Notification) -> bool {
    (notification.code, notification.subcode) == (6, CeaseSubcode::ConnectionCollision as u8)
}

/// RFC 6608 section 3.
fn fsm_subcode(state: State) -> FsmSubcode {
    match state {
        State::Idle | State::Connect | State::Active => FsmSubcode::Unspecified,
        State::OpenSent => FsmSubcode::OpenSent,
        State::OpenConfirm => FsmSubcode::OpenConfirm,
        State::Established => FsmSubcode::Established,
    }
}

/// The capabilities that the peer lacks, as they would stand in an OPEN (RFC 5492 section 5).
fn multiprotocol_capabilities(families: Families) -> Bytes {
    families
        .iter()
        .flat_map(|family| {
            let AfiSafi { afi, safi } = family.into();
            let [high, low] = afi.to_be_bytes();
            [1, 4, high, low, 0, safi]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;

    #[test]
    fn errors_read_as_sentences_for_people() {
        let external = SessionError::PeerAs { actual: Asn(65001), expected: RemoteAs::External };
        assert_eq!(external.to_string(), "peer AS is 65001, but remote-as is external");
        let number = SessionError::PeerAs { actual: Asn(65009), expected: RemoteAs::Number(Asn(65010)) };
        assert_eq!(number.to_string(), "peer AS is 65009, but remote-as is 65010");
        assert_eq!(
            SessionError::ConnectionClosed(State::OpenSent).to_string(),
            "peer closed the connection in OpenSent"
        );
    }

    #[test]
    fn a_missing_family_is_named_in_the_data() {
        let ours = Families::from_iter([Family::Ipv6Unicast]);
        let notification = SessionError::NoCommonFamily(ours).notification().unwrap();
        assert_eq!((notification.code, notification.subcode), (2, 7));
        assert_eq!(&notification.data[..], [1, 4, 0, 2, 0, 1]);
    }
}
