//! The tables that every configuration has once: `[bgp]`, `[loopback]`, `[fib]`, `[sysctl]`, `[control]`.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bgp::{Asn, HoldTime, RouterId};

use super::problem::{Place, Problem, Problems, Refusal, quoted};
use super::table::{BGP, CONTROL, FIB, LOOPBACK, SYSCTL, Section, Value};
use super::{Bgp, Control, Fib, Loopback, NexthopObjects, Sysctl, duration};

const KEEPALIVE: Duration = Duration::from_secs(3);
/// In whole seconds.
const HOLD_TIME_S: u16 = 9;
const GRACEFUL_RESTART: Duration = Duration::from_secs(30);
/// As long as what ToRs ask for by default: 120 s in FRR and BIRD.
const STALE_TIME: Duration = Duration::from_secs(120);
const LOOPBACK_INTERFACE: &str = "lo";
/// RTPROT_BGP of `linux/rtnetlink.h`, which `ip route` shows as `bgp`.
const PROTOCOL: u8 = 186;
const METRIC: u32 = 20;
/// RT_TABLE_MAIN of `linux/rtnetlink.h`.
const TABLE: u32 = 254;
/// RT_TABLE_LOCAL of `linux/rtnetlink.h`: what the kernel delivers to itself.
const LOCAL_TABLE: u32 = 255;
const MAX_PATHS: usize = 16;
/// Far from the small numbers that other programs count from.
const NEXTHOP_IDS: RangeInclusive<u32> = 1_860_000_000..=1_860_065_535;
/// Room for the sets of a large fabric; one for each next hop and one for each set are needed.
const FEWEST_NEXTHOP_IDS: u32 = 256;
/// Next hops that one route may have: the kernel's own bound is higher, switches' is about this.
const MOST_PATHS: u16 = 256;
const SOCKET: &str = "/run/selvedge/control.sock";
/// `sun_path` of `linux/un.h` has 108 octets with the final zero.
const LONGEST_SOCKET: usize = 107;
/// IFNAMSIZ of `linux/if.h` is 16 with the final zero.
const LONGEST_INTERFACE: usize = 15;

const AS_ALLOWED: &str = "1 to 4294967294, without 23456 and 65535";
const HOLD_TIME_ALLOWED: &str = "\"0s\" (off), or whole seconds from \"3s\" to \"65535s\"";
const KEEPALIVE_ALLOWED: &str = "\"1s\" or more, and less than `hold-time`";
const GRACEFUL_RESTART_ALLOWED: &str = "\"0s\" (off), or whole seconds up to \"4095s\"";

pub(super) fn bgp(root: &Section<'_>, problems: &mut Problems) -> Option<Bgp> {
    let help = "write `local-as = 65001` with the AS number of this host";
    if root.value("bgp").is_none() {
        problems.push(Problem {
            title: "missing table [bgp]".to_owned(),
            place: Place::File,
            label: "`local-as` in [bgp] is the one key without a default".to_owned(),
            related: None,
            help: vec![help.to_owned()],
        });
        return None;
    }
    let section = root.section("bgp", &BGP, problems)?;
    if section.value("local-as").is_none() {
        problems.push(section.missing("`local-as`", help));
    }
    let local_as = section.read("local-as", problems, as_number);
    let router_id = section.read("router-id", problems, router_id);
    let graceful_restart =
        section.read("graceful-restart", problems, graceful_restart_time).unwrap_or(GRACEFUL_RESTART);
    let stale_time = section.read("stale-time", problems, graceful_restart_time).unwrap_or(STALE_TIME);
    let (keepalive, hold_time) = timers(&section, problems)?;
    Some(Bgp {
        local_as: local_as?,
        router_id,
        keepalive,
        hold_time,
        graceful_restart: (!graceful_restart.is_zero()).then_some(graceful_restart),
        stale_time,
    })
}

/// An AS number that a speaker may have: not 0 (RFC 7607), not AS_TRANS (RFC 6793 section 9), not the last
/// one of either size (RFC 7300).
pub(super) fn as_number(value: &Value<'_>) -> Result<Asn, Refusal> {
    let number = value.integer_of(0..=u32::MAX, AS_ALLOWED)?;
    as_number_from(number, value)
}

pub(super) fn as_number_from(number: u32, value: &Value<'_>) -> Result<Asn, Refusal> {
    let why = match number {
        0 => "AS 0 is reserved (RFC 7607)",
        23456 => "AS 23456 is AS_TRANS, which stands for other numbers (RFC 6793)",
        65535 | u32::MAX => "the last AS number is reserved (RFC 7300)",
        _ => return Ok(Asn(number)),
    };
    Err(value.refuse(why, AS_ALLOWED))
}

fn router_id(value: &Value<'_>) -> Result<Ipv4Addr, Refusal> {
    let allowed = "an IPv4 address other than 0.0.0.0, such as \"1.1.1.1\"";
    let address = value
        .string(allowed)?
        .parse::<Ipv4Addr>()
        .map_err(|_| value.refuse("not an IPv4 address", allowed))?;
    RouterId::new(address)
        .map(|id| id.0)
        .ok_or_else(|| value.refuse("zero is not an identifier (RFC 6286)", allowed))
}

fn graceful_restart_time(value: &Value<'_>) -> Result<Duration, Refusal> {
    // RFC 4724 section 3: the Restart Time has 12 bits.
    whole_seconds(value, 4095, GRACEFUL_RESTART_ALLOWED)
}

/// A duration without a fraction of a second.
pub(super) fn whole_seconds(value: &Value<'_>, most: u64, allowed: &str) -> Result<Duration, Refusal> {
    let duration = value.duration(allowed)?;
    if duration.subsec_nanos() != 0 {
        return Err(value.refuse("not whole seconds", allowed));
    }
    if duration.as_secs() > most {
        return Err(value.refuse("too long", allowed));
    }
    Ok(duration)
}

/// `keepalive` and `hold-time`, which depend on each other.
fn timers(section: &Section<'_>, problems: &mut Problems) -> Option<(Duration, HoldTime)> {
    let keepalive_value = section.value("keepalive");
    let hold_time_value = section.value("hold-time");
    let keepalive = match &keepalive_value {
        Some(value) => problems.keep(keepalive(value)),
        None => Some(KEEPALIVE),
    };
    let hold_time = match &hold_time_value {
        Some(value) => problems.keep(hold_time(value)),
        None => HoldTime::from_secs(HOLD_TIME_S).ok(),
    };
    let (keepalive, hold_time) = (keepalive?, hold_time?);
    let Some(limit) = hold_time.duration().filter(|&limit| keepalive >= limit) else {
        return Some((keepalive, hold_time));
    };
    let (keepalive, limit) = (duration::show(keepalive), duration::show(limit));
    if let Some(value) = &keepalive_value {
        let label = format!("not less than the hold time, which is {limit}");
        let mut problem = value.refuse(label, KEEPALIVE_ALLOWED);
        problem.related = hold_time_value.map(|value| (value.span, "the hold time".to_owned()));
        problems.push(problem);
    } else if let Some(value) = &hold_time_value {
        let label = format!("not more than `keepalive`, which is {keepalive} by default");
        problems.push(value.refuse(label, "more than `keepalive`; set both"));
    }
    None
}

fn keepalive(value: &Value<'_>) -> Result<Duration, Refusal> {
    let keepalive = value.duration(KEEPALIVE_ALLOWED)?;
    // RFC 4271 section 4.4: no more often than once a second.
    if keepalive < Duration::from_secs(1) {
        return Err(value.refuse("too short", KEEPALIVE_ALLOWED));
    }
    Ok(keepalive)
}

fn hold_time(value: &Value<'_>) -> Result<HoldTime, Refusal> {
    let duration = whole_seconds(value, u16::MAX.into(), HOLD_TIME_ALLOWED)?;
    u16::try_from(duration.as_secs())
        .ok()
        .and_then(|seconds| HoldTime::from_secs(seconds).ok())
        .ok_or_else(|| value.refuse("one and two seconds are not allowed (RFC 4271)", HOLD_TIME_ALLOWED))
}

pub(super) fn loopback(root: &Section<'_>, problems: &mut Problems) -> Loopback {
    let section = root.section("loopback", &LOOPBACK, problems);
    let section = section.as_ref();
    Loopback {
        interface: section
            .and_then(|section| section.read("interface", problems, loopback_interface))
            .unwrap_or_else(|| LOOPBACK_INTERFACE.to_owned()),
        advertise: section
            .and_then(|section| section.read("advertise", problems, Value::boolean))
            .unwrap_or(true),
    }
}

fn loopback_interface(value: &Value<'_>) -> Result<String, Refusal> {
    let allowed = "the name of one interface, up to 15 bytes, such as \"lo\"";
    let name = value.string(allowed)?;
    if name.contains(['*', '?']) {
        return Err(value.refuse("a glob can match more than one", allowed));
    }
    interface_name(name).map_err(|why| value.refuse(why, allowed))?;
    Ok(name.to_owned())
}

/// What the kernel takes as the name of an interface (`dev_valid_name` of `net/core/dev.c`), with the two
/// wild cards `*` and `?` as ordinary characters; a `*` does not count, because it may match nothing.
pub(super) fn interface_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("an interface has a name".to_owned());
    }
    if name == "." || name == ".." || name.contains(['/', ':']) || name.chars().any(char::is_whitespace) {
        return Err(format!("{} cannot be the name of an interface", quoted(name)));
    }
    let length = name.bytes().filter(|&byte| byte != b'*').count();
    if length > LONGEST_INTERFACE {
        return Err(format!("{length} bytes are more than the {LONGEST_INTERFACE} of an interface name"));
    }
    Ok(())
}

pub(super) fn fib(root: &Section<'_>, problems: &mut Problems) -> Fib {
    let defaults = Fib {
        protocol: PROTOCOL,
        metric: METRIC,
        table: TABLE,
        max_paths: MAX_PATHS,
        nexthop_objects: NexthopObjects::Auto,
        nexthop_ids: NEXTHOP_IDS,
    };
    let Some(section) = root.section("fib", &FIB, problems) else { return defaults };
    let max_paths = section.read("max-paths", problems, |value| value.integer(1..=MOST_PATHS));
    Fib {
        protocol: section.read("protocol", problems, protocol).unwrap_or(defaults.protocol),
        metric: section
            .read("metric", problems, |value| value.integer(1..=u32::MAX))
            .unwrap_or(defaults.metric),
        table: section.read("table", problems, table).unwrap_or(defaults.table),
        max_paths: max_paths.map_or(defaults.max_paths, usize::from),
        nexthop_objects: section
            .read("nexthop-objects", problems, nexthop_objects)
            .unwrap_or(defaults.nexthop_objects),
        nexthop_ids: section.read("nexthop-ids", problems, nexthop_ids).unwrap_or(defaults.nexthop_ids),
    }
}

fn nexthop_objects(value: &Value<'_>) -> Result<NexthopObjects, Refusal> {
    let allowed = "\"auto\", \"on\", \"off\"";
    match value.string(allowed)? {
        "auto" => Ok(NexthopObjects::Auto),
        "on" => Ok(NexthopObjects::On),
        "off" => Ok(NexthopObjects::Off),
        other => Err(value.refuse(format!("{} is none of them", quoted(other)), allowed)),
    }
}

/// Both ends, so that other programs can be given the rest.
fn nexthop_ids(value: &Value<'_>) -> Result<RangeInclusive<u32>, Refusal> {
    let allowed =
        "\"FIRST-LAST\", from 1 to 4294967295, at least 256 of them, such as \"1860000000-1860065535\"";
    let text = value.string(allowed)?;
    let ends = text.split_once('-').and_then(|(first, last)| {
        let number =
            |text: &str| text.bytes().all(|octet| octet.is_ascii_digit()).then(|| text.parse().ok())?;
        Some((number(first)?, number(last)?))
    });
    match ends {
        None => Err(value.refuse("not two numbers with a hyphen between them", allowed)),
        Some((0, _)) => Err(value.refuse("0 is no identifier", allowed)),
        Some((first, last)) if last < first || last - first < FEWEST_NEXTHOP_IDS - 1 => {
            Err(value.refuse("too few", allowed))
        }
        Some((first, last)) => Ok(first..=last),
    }
}

/// A protocol number that marks routes as ours. Whoever's mark we took would delete our routes as their own
/// left-overs, and we theirs.
fn protocol(value: &Value<'_>) -> Result<u8, Refusal> {
    let allowed = "5 to 255 without the numbers of other programs; 186 is `proto bgp`";
    let number = value.integer_of(0..=u8::MAX, allowed)?;
    match other_owner(number) {
        Some(owner) => Err(value.refuse(format!("{number} marks the routes of {owner}"), allowed)),
        None => Ok(number),
    }
}

/// `linux/rtnetlink.h`, and Calico's default.
fn other_owner(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        0..=4 => "the kernel and of administrators",
        8 => "GateD",
        9 => "router advertisements",
        10 => "MRT",
        11 => "FRR's zebra",
        12 => "BIRD",
        13 => "DECnet",
        14 => "XORP",
        15 => "Netsukuku",
        16 => "DHCP clients",
        17 => "mrouted",
        18 => "keepalived",
        42 => "Babel",
        80 => "Calico's Felix",
        84 => "OVN",
        99 => "Open/R",
        187 => "IS-IS",
        188 => "OSPF",
        189 => "RIP",
        192 => "EIGRP",
        _ => return None,
    })
}

fn table(value: &Value<'_>) -> Result<u32, Refusal> {
    let allowed = "1 to 4294967295 without 255; 254 is `main`";
    match value.integer_of(1..=u32::MAX, allowed)? {
        LOCAL_TABLE => Err(value.refuse("255 is the kernel's own table `local`", allowed)),
        table => Ok(table),
    }
}

pub(super) fn sysctl(root: &Section<'_>, problems: &mut Problems) -> Sysctl {
    let manage = root
        .section("sysctl", &SYSCTL, problems)
        .and_then(|section| section.read("manage", problems, Value::boolean));
    Sysctl { manage: manage.unwrap_or(false) }
}

pub(super) fn control(root: &Section<'_>, problems: &mut Problems) -> Control {
    let socket = root
        .section("control", &CONTROL, problems)
        .and_then(|section| section.read("socket", problems, socket));
    Control { socket: socket.unwrap_or_else(|| SOCKET.into()) }
}

fn socket(value: &Value<'_>) -> Result<PathBuf, Refusal> {
    let allowed = "an absolute path of at most 107 bytes, such as \"/run/selvedge/control.sock\"";
    let path = absolute_path(value, allowed)?;
    if path.as_os_str().len() > LONGEST_SOCKET {
        return Err(value.refuse("too long for the address of a Unix socket", allowed));
    }
    Ok(path)
}

pub(super) fn absolute_path(value: &Value<'_>, allowed: &str) -> Result<PathBuf, Refusal> {
    let text = value.string(allowed)?;
    if !text.starts_with('/') {
        return Err(value.refuse("not an absolute path", allowed));
    }
    if text.ends_with('/') {
        return Err(value.refuse("a directory", allowed));
    }
    if text.contains('\0') {
        return Err(value.refuse("a path has no zero byte in it", allowed));
    }
    Ok(text.into())
}
