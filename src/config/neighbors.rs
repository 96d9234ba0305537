//! `[[neighbor]]`: whom to peer with.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use bgp::message::update::LinkLocalForm;
use bgp::policy::{Policy, Transit};
use bgp::session::RemoteAs;

use super::policies::Named;
use super::problem::{Place, Problem, Problems, Refusal, quoted};
use super::sections::{absolute_path, as_number, as_number_from, interface_name, whole_seconds};
use super::table::{BFD, NEIGHBOR, Section, Value};
use super::{Neighbor, NeighborPeer};
use crate::bfd;

const MAX_PREFIXES: u32 = 100_000;
/// A link that works again is not to be left unused for longer.
const DAMPING: Duration = Duration::from_secs(10);
const LONGEST_DAMPING_S: u64 = 3600;
/// As in FRR: more is a loop that nobody wanted.
const MOST_OWN_AS: u8 = 10;
/// RFC 4861 section 6.2.1: AdvDefaultLifetime is at most 9000 seconds.
const LONGEST_ROUTER_LIFETIME_S: u64 = 9000;

/// Intervals of `bfd`. Below the least, the scheduler of a busy machine is what is measured.
const SHORTEST_BFD_INTERVAL: Duration = Duration::from_millis(10);
const LONGEST_BFD_INTERVAL: Duration = Duration::from_secs(60);
const BFD_INTERVAL: Duration = Duration::from_millis(300);
const BFD_MULTIPLIER: u8 = 3;

const NEIGHBORS_ALLOWED: &str = "[[neighbor]] as often as there are neighbors";
const INTERFACE_ALLOWED: &str = "an interface name of up to 15 bytes, or a glob of it with * and ?";
const ADDRESS_ALLOWED: &str = "the IPv4 or global IPv6 address of the neighbor";
const REMOTE_AS_ALLOWED: &str = "\"external\", \"internal\", or an AS number";
const PEER_HELP: &str = "write `interface = \"ens*\"` for unnumbered uplinks, or `address = \"192.0.2.1\"`";

/// One neighbor, and where those of its values are that another file or another neighbor may prove wrong.
#[derive(Debug)]
pub(super) struct NeighborInText<'t> {
    pub(super) neighbor: Neighbor,
    pub(super) password_value: Option<Value<'t>>,
    peer_span: Range<usize>,
}

pub(super) fn read<'t>(
    root: &Section<'t>,
    policies: &Named<Policy>,
    problems: &mut Problems,
) -> Vec<NeighborInText<'t>> {
    let values = root.read("neighbor", problems, |value| {
        if value.is_table() {
            return Err(value.refuse("each neighbor is a table in double brackets", NEIGHBORS_ALLOWED));
        }
        value.array(NEIGHBORS_ALLOWED)
    });
    let neighbors: Vec<_> =
        values.unwrap_or_default().iter().filter_map(|value| neighbor(value, policies, problems)).collect();
    refuse_duplicates(&neighbors, problems);
    neighbors
}

fn neighbor<'t>(
    value: &Value<'t>,
    policies: &Named<Policy>,
    problems: &mut Problems,
) -> Option<NeighborInText<'t>> {
    let (table, span) = problems.keep(value.table(&NEIGHBOR))?;
    let section = Section::new(&NEIGHBOR, table, span, problems);
    let peer = peer(&section, problems);
    let remote_as = section.read("remote-as", problems, remote_as);
    let max_prefixes = section.read("max-prefixes", problems, |value| value.integer(1..=u32::MAX));
    let password_file = section.read("password-file", problems, password_file);
    let ttl_security = section.read("ttl-security", problems, Value::boolean);
    let link_local_form = section.read("link-local-next-hop-length", problems, link_local_form);
    let router_lifetime = section.read("router-lifetime", problems, router_lifetime);
    let damping = section.read("damping", problems, damping);
    let bfd = section.section("bfd", &BFD, problems).map(|section| bfd_parameters(&section, problems));
    let import = section.read("import", problems, |value| policies.find(value));
    let export = section.read("export", problems, |value| policies.find(value));
    let transit = transit(&section, problems);
    let allowed_own_as = section.read("allowas-in", problems, |value| value.integer(0..=MOST_OWN_AS));
    let (peer, peer_span) = peer?;
    let password_value = password_file.as_ref().and_then(|_| section.value("password-file"));
    if let (NeighborPeer::Interface(_), Some(value)) = (&peer, &password_value) {
        problems.push(no_password_without_address(value, &peer_span));
        return None;
    }
    Some(NeighborInText {
        neighbor: Neighbor {
            peer,
            remote_as: remote_as.unwrap_or(RemoteAs::External),
            max_prefixes: max_prefixes.unwrap_or(MAX_PREFIXES),
            password_file,
            password: None,
            ttl_security: ttl_security.unwrap_or(false),
            link_local_form: link_local_form.unwrap_or_default(),
            router_lifetime: router_lifetime.unwrap_or(Duration::ZERO),
            damping: damping.unwrap_or(DAMPING),
            bfd,
            import,
            export,
            transit,
            allowed_own_as: allowed_own_as.unwrap_or(0),
        },
        password_value,
        peer_span,
    })
}

/// RFC 8212: what is told of, is said; a host that is transit by one word alone would tell of everything.
fn transit(section: &Section<'_>, problems: &mut Problems) -> Transit {
    if !section.read("allow-transit", problems, Value::boolean).unwrap_or(false) {
        return Transit::Never;
    }
    if section.value("export").is_none() {
        problems.extend(section.value("allow-transit").map(|value| {
            value.refuse(
                "would tell the neighbor of everything",
                "only beside `export`, which says what the neighbor is told",
            )
        }));
    }
    Transit::Allowed
}

/// Exactly one of `interface` and `address`.
fn peer(section: &Section<'_>, problems: &mut Problems) -> Option<(NeighborPeer, Range<usize>)> {
    match (section.value("interface"), section.value("address")) {
        (Some(value), None) => {
            let peer = problems.keep(interface(&value))?;
            Some((peer, value.span))
        }
        (None, Some(value)) => {
            let peer = problems.keep(address(&value))?;
            Some((peer, value.span))
        }
        (Some(interface), Some(address)) => {
            problems.push(Problem {
                title: "both `interface` and `address` in [[neighbor]]".to_owned(),
                place: Place::Quoted(address.span),
                label: "a neighbor has one of the two".to_owned(),
                related: Some((interface.span, "the other one".to_owned())),
                help: vec![
                    "an unnumbered neighbor is found on its interface; a numbered one by its address"
                        .to_owned(),
                ],
            });
            None
        }
        (None, None) => {
            problems.push(section.missing("`interface` or `address`", PEER_HELP));
            None
        }
    }
}

fn interface(value: &Value<'_>) -> Result<NeighborPeer, Refusal> {
    let name = value.string(INTERFACE_ALLOWED)?;
    if name.contains(['[', ']', '{', '}']) {
        return Err(value.refuse("* and ? are the only wild cards", INTERFACE_ALLOWED));
    }
    interface_name(name).map_err(|why| value.refuse(why, INTERFACE_ALLOWED))?;
    Ok(NeighborPeer::Interface(name.to_owned()))
}

fn address(value: &Value<'_>) -> Result<NeighborPeer, Refusal> {
    let text = value.string(ADDRESS_ALLOWED)?;
    if let Some((_, interface)) = text.split_once('%') {
        let label = format!("write `interface = \"{}\"` instead", quoted(interface));
        return Err(value.refuse(label, ADDRESS_ALLOWED));
    }
    let address: IpAddr = text.parse().map_err(|_| value.refuse("not an IP address", ADDRESS_ALLOWED))?;
    match unreachable_address(address) {
        Some(why) => Err(value.refuse(why, ADDRESS_ALLOWED)),
        None => Ok(NeighborPeer::Address(address)),
    }
}

/// Why no neighbor can have an address.
fn unreachable_address(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("the unspecified address is nobody's");
    }
    if address.is_multicast() {
        return Some("a multicast address is nobody's");
    }
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address is nobody's"),
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Some("a link-local address is found by itself: name the `interface` instead")
        }
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map(|_| "an IPv4 address in disguise: write it as IPv4"),
    }
}

fn remote_as(value: &Value<'_>) -> Result<RemoteAs, Refusal> {
    if value.is_integer() {
        return as_number(value).map(RemoteAs::Number);
    }
    match value.string(REMOTE_AS_ALLOWED)? {
        "external" => Ok(RemoteAs::External),
        "internal" => Ok(RemoteAs::Internal),
        text => {
            let number = text.parse().map_err(|_| value.refuse("not an AS number", REMOTE_AS_ALLOWED))?;
            as_number_from(number, value).map(RemoteAs::Number)
        }
    }
}

fn password_file(value: &Value<'_>) -> Result<PathBuf, Refusal> {
    absolute_path(value, "the absolute path of a file with 1 to 80 bytes").map_err(|mut problem| {
        // What is no path may be the password itself.
        problem.place = Place::Named(value.span.clone());
        problem
    })
}

/// The kernel finds a TCP MD5 key by address alone (`tcp_md5sig.tcpm_ifindex` must be that of a VRF), and the
/// address of an unnumbered neighbor is not known beforehand; two of them may even share one.
fn no_password_without_address(value: &Value<'_>, peer: &Range<usize>) -> Refusal {
    let mut problem = value.refuse(
        "an unnumbered neighbor cannot have a TCP MD5 key: the kernel keeps keys by address",
        "only beside `address`; `ttl-security = true` keeps strangers off an unnumbered link",
    );
    problem.related = Some((peer.clone(), "this neighbor has no address".to_owned()));
    problem
}

fn link_local_form(value: &Value<'_>) -> Result<LinkLocalForm, Refusal> {
    let allowed = "16 (the address once), 32 (twice, as FRR does)";
    match value.integer_of(0..=u8::MAX, allowed)? {
        16 => Ok(LinkLocalForm::Once),
        32 => Ok(LinkLocalForm::Twice),
        _ => Err(value.refuse("no form of a next hop has this length", allowed)),
    }
}

fn router_lifetime(value: &Value<'_>) -> Result<Duration, Refusal> {
    whole_seconds(value, LONGEST_ROUTER_LIFETIME_S, "whole seconds from \"0s\" to \"9000s\"")
}

fn damping(value: &Value<'_>) -> Result<Duration, Refusal> {
    whole_seconds(value, LONGEST_DAMPING_S, "whole seconds from \"0s\" (never) to \"1h\"")
}

fn bfd_parameters(section: &Section<'_>, problems: &mut Problems) -> bfd::Parameters {
    let interval = section.read("interval", problems, bfd_interval).unwrap_or(BFD_INTERVAL);
    let multiplier = section.read("multiplier", problems, |value| value.integer(1..=u8::MAX));
    let multiplier = NonZeroU8::new(multiplier.unwrap_or(BFD_MULTIPLIER)).unwrap_or(NonZeroU8::MIN);
    bfd::Parameters { interval, multiplier }
}

fn bfd_interval(value: &Value<'_>) -> Result<Duration, Refusal> {
    let allowed = "\"10ms\" to \"60s\"";
    let interval = value.duration(allowed)?;
    match (SHORTEST_BFD_INTERVAL..=LONGEST_BFD_INTERVAL).contains(&interval) {
        true => Ok(interval),
        false => Err(value.refuse("out of range", allowed)),
    }
}

fn refuse_duplicates(neighbors: &[NeighborInText<'_>], problems: &mut Problems) {
    let mut first: HashMap<&NeighborPeer, &Range<usize>> = HashMap::new();
    for found in neighbors {
        let NeighborInText { neighbor, peer_span, .. } = found;
        if let Some(&other) = first.get(&neighbor.peer) {
            problems.push(Problem {
                title: format!("two [[neighbor]] tables for {}", neighbor.peer),
                place: Place::Quoted(peer_span.clone()),
                label: "there a second time".to_owned(),
                related: Some((other.clone(), "the first".to_owned())),
                help: vec!["one table for each neighbor; put its keys together".to_owned()],
            });
        } else {
            first.insert(&neighbor.peer, peer_span);
        }
    }
}

/// An exact name that only the loopback has would never become a neighbor.
pub(super) fn refuse_loopback(neighbors: &[NeighborInText<'_>], loopback: &str, problems: &mut Problems) {
    for found in neighbors {
        match &found.neighbor.peer {
            NeighborPeer::Interface(name) if name == loopback => problems.push(Problem {
                title: "invalid `interface` in [[neighbor]]".to_owned(),
                place: Place::Quoted(found.peer_span.clone()),
                label: "this is the loopback interface, which leads nowhere".to_owned(),
                related: None,
                help: vec![format!("allowed: {INTERFACE_ALLOWED}")],
            }),
            NeighborPeer::Interface(_) | NeighborPeer::Address(_) => {}
        }
    }
}
