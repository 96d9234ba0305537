//! Networks that this node originates: `[pods.static] blocks`, which it keeps a blackhole for, and the ranges that the
//! addresses of `[services]` may be from.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use bgp::{Prefix, PrefixError};

use super::problem::{Problems, Refusal, quoted};
use super::table::{PODS_STATIC, Section, Value};

const ALLOWED: &str = "networks as address/length, such as [\"10.1.8.192/26\", \"fd00:10:1:8::/64\"]";

/// `[pods.static] blocks`.
pub(super) fn read(pods: &Section<'_>, problems: &mut Problems) -> Vec<Prefix> {
    pods.section("static", &PODS_STATIC, problems)
        .and_then(|section| networks(&section, "blocks", block, problems))
        .unwrap_or_default()
}

/// The ranges under a key of `[services]`; `None` where it is left out.
pub(super) fn ranges(
    section: &Section<'_>,
    key: &'static str,
    problems: &mut Problems,
) -> Option<Vec<Prefix>> {
    networks(section, key, network, problems)
}

fn networks(
    section: &Section<'_>,
    key: &'static str,
    reader: fn(&Value<'_>) -> Result<Prefix, Refusal>,
    problems: &mut Problems,
) -> Option<Vec<Prefix>> {
    let values = section.read(key, problems, |value| value.array(ALLOWED))?;
    let networks: Vec<_> =
        values.iter().filter_map(|value| Some((problems.keep(reader(value))?, value))).collect();
    refuse_overlaps(&networks, problems);
    Some(networks.into_iter().map(|(prefix, _)| prefix).collect())
}

fn block(value: &Value<'_>) -> Result<Prefix, Refusal> {
    let prefix = network(value)?;
    if prefix.length() == prefix.family().max_length() {
        // The blackhole would stand in for the pod's own host route, and Calico's CNI plugin stops at it.
        return Err(value.refuse("a single address, which a blackhole would cut off", ALLOWED));
    }
    Ok(prefix)
}

fn network(value: &Value<'_>) -> Result<Prefix, Refusal> {
    let text = value.string(ALLOWED)?;
    if !text.contains('/') {
        return Err(value.refuse("has no length", ALLOWED));
    }
    let prefix: Prefix = text.parse().map_err(|error: PrefixError| match error {
        PrefixError::Syntax(_) => value.refuse("not a network", ALLOWED),
        PrefixError::Length { max, family, .. } => {
            value.refuse(format!("longer than the {max} bits of {family}"), ALLOWED)
        }
        PrefixError::HostBits { network, .. } => {
            value.refuse(format!("has host bits set: the network is {network}"), ALLOWED)
        }
    })?;
    match reserved(prefix) {
        Some(why) => Err(value.refuse(
            format!("{} {why}", quoted(text)),
            "networks of unicast addresses, which pods or services have",
        )),
        None => Ok(prefix),
    }
}

/// Why a network can be nobody's pods: a blackhole and an advertisement of it would take the node or the
/// fabric down. IANA's special-purpose registries (RFC 6890) list them.
pub(crate) fn reserved(prefix: Prefix) -> Option<&'static str> {
    if prefix.is_default() {
        return Some("is the default route");
    }
    let v4 = |address: [u8; 4], length| Prefix::masked(Ipv4Addr::from(address).into(), length);
    let v6 = |address: [u16; 8], length| Prefix::masked(Ipv6Addr::from(address).into(), length);
    [
        (v4([0, 0, 0, 0], 8), "overlaps 0.0.0.0/8, which means \"this network\""),
        (v4([127, 0, 0, 0], 8), "overlaps 127.0.0.0/8, which is loopback"),
        (v4([169, 254, 0, 0], 16), "overlaps 169.254.0.0/16, which is link-local"),
        (v4([224, 0, 0, 0], 4), "overlaps 224.0.0.0/4, which is multicast"),
        (v4([240, 0, 0, 0], 4), "overlaps 240.0.0.0/4, which is reserved"),
        (v6([0; 8], 96), "overlaps ::/96, where the unspecified and the loopback address are"),
        (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "overlaps ::ffff:0:0/96, which is IPv4 in disguise"),
        (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "overlaps fe80::/10, which is link-local"),
        (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "overlaps ff00::/8, which is multicast"),
    ]
    .into_iter()
    .find(|(reserved, _)| {
        reserved.as_ref().is_ok_and(|&reserved| reserved.covers(prefix) || prefix.covers(reserved))
    })
    .map(|(_, why)| why)
}

/// A network sorts right before what it covers, so one look back finds every overlap, in a file of any size.
fn refuse_overlaps(blocks: &[(Prefix, &Value<'_>)], problems: &mut Problems) {
    let mut sorted: Vec<(Prefix, Range<usize>, &Value<'_>)> =
        blocks.iter().map(|&(prefix, value)| (prefix, value.span.clone(), value)).collect();
    sorted.sort_by_key(|(prefix, span, _)| (*prefix, span.start));
    let mut covering: Option<(Prefix, Range<usize>)> = None;
    for (prefix, span, value) in sorted {
        match &covering {
            Some((network, first)) if network.covers(prefix) => {
                let label = if *network == prefix {
                    format!("{prefix} is there twice")
                } else {
                    format!("{prefix} is inside {network}")
                };
                let mut problem = value.refuse(label, "networks that do not overlap");
                problem.related = Some((first.clone(), "the other one".to_owned()));
                problems.push(problem);
            }
            Some(_) | None => covering = Some((prefix, span)),
        }
    }
}
