//! From the tasks' types to the words of the control API.

use std::time::Duration;

use bgp::InterfaceIndex;
use bgp::policy::{Refusal, Withheld};
use bgp::rib::Reason;

use crate::control::api;
use crate::kernel::fib;
use crate::kernel::interfaces::{Interface, Interfaces};
use crate::kernel::sysctl::{Finding, Found};
use crate::nd::{Alarm, UplinkStatus};
use crate::readiness::{Report, Stage, Words};

/// A count for JSON.
pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether the node is fit for pods.
pub(super) fn readiness(report: &Report) -> api::Readiness {
    let Report { stage, words: Words { reason, message } } = report;
    let (ready, stage) = match stage {
        Stage::Starting => (false, api::ReadinessStage::Starting),
        Stage::Ready => (true, api::ReadinessStage::Ready),
        Stage::Doubtful => (true, api::ReadinessStage::Doubtful),
        Stage::Isolated => (false, api::ReadinessStage::Isolated),
    };
    api::Readiness { ready, stage, reason: (*reason).to_owned(), message: message.clone() }
}

/// [`Refusal::OwnPrefix`] as a rule, where Calico may give a pod of another node an address of a block of this one.
pub(super) const OWN_PREFIX_BUT_LENT: &str =
    "it is in a prefix that originates here, but no host route to an address that Calico may lend";

/// Why policy keeps a path out.
pub(super) fn refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::AsLoop => "our AS is in the AS path",
        Refusal::OriginatorLoop => "it was reflected back to us",
        Refusal::OwnPrefix => "it is in a prefix that originates here",
        Refusal::LocalHost => "it is the address of a pod of this node",
        Refusal::Connected => "it is in a network that a link of this node is in",
        Refusal::Martian => "nobody may announce this prefix",
        Refusal::PathTooLong => "the AS path is too long",
        Refusal::FirstAs => "the AS path does not begin with the neighbor's AS",
        Refusal::NextHopMissing => "it has no next hop",
        Refusal::NextHopInvalid => "the next hop is no usable address",
        Refusal::NextHopOurs => "the next hop is this node",
        Refusal::NextHopThirdParty => "the next hop is not the neighbor",
        Refusal::NextHopWithoutInterface => "the next hop is link-local, but the session has no link",
        Refusal::Policy => "import policy rejects it",
        Refusal::Limit => "over max-prefixes",
    }
}

/// Why a best route is not told.
pub(super) fn withheld(withheld: Withheld) -> &'static str {
    match withheld {
        Withheld::Learned => "it was learned, and this host is not transit",
        Withheld::FromThisPeer => "it is the neighbor's own",
        Withheld::InternalToInternal => "it was learned from an internal neighbor, and this one is internal",
        Withheld::NoAdvertise => "it carries NO_ADVERTISE",
        Withheld::NoExport => "it carries NO_EXPORT",
        Withheld::Policy => "export policy rejects it",
    }
}

/// Why another path won: the rung of the decision process.
pub(super) fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::LocalPref => "lower local preference",
        Reason::LocallyOriginated => "a route of this node wins",
        Reason::AsPathLength => "longer AS path",
        Reason::Origin => "worse origin",
        Reason::Med => "higher MED",
        Reason::InternalPeer => "internal, where there is an external path",
        Reason::MaxPaths => "equal, but max-paths are in use",
        Reason::RouterId => "higher router ID",
        Reason::ClusterListLength => "longer cluster list",
        Reason::PeerAddress => "higher neighbor address",
        Reason::PeerId => "a later neighbor with the same address",
    }
}

pub(super) fn interface_name(interfaces: &Interfaces, index: InterfaceIndex) -> String {
    let interface = interfaces.by_index.get(&index);
    interface.map_or_else(|| format!("if{}", index.0), |interface| interface.name.clone())
}

pub(super) fn interface(interface: &Interface, discovery: Option<&UplinkStatus>) -> api::Interface {
    api::Interface {
        name: interface.name.clone(),
        index: interface.index.0,
        admin_up: interface.admin_up,
        carrier: interface.carrier,
        uplink: discovery.is_some(),
        mtu: interface.mtu,
        mac: interface.mac.map(|mac| mac.map(|octet| format!("{octet:02x}")).join(":")),
        link_local: interface.link_local,
        addresses: interface.addresses.iter().map(ToString::to_string).collect(),
        router: discovery
            .and_then(|status| status.router.as_ref())
            .map(|router| api::LinkRouter { address: router.address, heard_s: router.last_heard.as_secs() }),
        discovery: discovery.map(|status| api::DiscoveryCounters {
            advertisements_sent: status.counters.advertisements_sent,
            advertisements_received: status.counters.advertisements_received,
            solicitations_sent: status.counters.solicitations_sent,
            solicitations_received: status.counters.solicitations_received,
            discarded: status.counters.discarded,
        }),
        alarms: discovery.map(|status| status.alarms.iter().map(alarm).collect()).unwrap_or_default(),
    }
}

fn alarm(alarm: &Alarm) -> String {
    match alarm {
        Alarm::SecondRouter { kept, ignored } => {
            format!("two routers on this link: {kept} is kept, {ignored} is ignored")
        }
        Alarm::OwnAddress { address } => format!("somebody else on this link uses our address {address}"),
    }
}

pub(super) fn sysctl(finding: &Finding) -> api::SysctlFinding {
    api::SysctlFinding {
        key: finding.name.clone(),
        value: match &finding.found {
            Found::Value(value) => Some(value.clone()),
            Found::Unreadable(_) | Found::Unwritable(_) => None,
        },
        wanted: finding.wanted.to_owned(),
        why: finding.why.to_owned(),
    }
}

pub(super) fn fib_counters(counters: fib::Counters) -> api::FibCounters {
    api::FibCounters {
        installed: count(counters.installed),
        pending: count(counters.pending),
        failed: count(counters.failed),
        blocked: count(counters.blocked),
        stale: count(counters.stale),
        repaired: counters.repairs,
        overruns: counters.overruns,
    }
}

pub(super) fn fib_next_hops(next_hops: fib::NextHops) -> api::FibNextHops {
    match next_hops {
        fib::NextHops::Objects { groups, members } => {
            api::FibNextHops::Objects { groups: count(groups), members: count(members) }
        }
        fib::NextHops::InLine(reason) => {
            api::FibNextHops::InLine { reason: reason.map(|reason| reason.to_string()) }
        }
    }
}

pub(super) fn fib_state(state: fib::RouteState) -> api::FibState {
    match state {
        fib::RouteState::Installed => api::FibState::Installed,
        fib::RouteState::Pending => api::FibState::Pending,
        fib::RouteState::Failed(error) => api::FibState::Failed { reason: error.to_string() },
        fib::RouteState::Blocked { protocol } => {
            api::FibState::Blocked { by: format!("a route of protocol {protocol}") }
        }
        fib::RouteState::Stale => api::FibState::Stale,
    }
}
