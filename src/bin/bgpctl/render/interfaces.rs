//! `show interfaces`: links, the routers found on them, and what a person should look at.

use selvedge::control::api::{Interface, Interfaces, SysctlFinding};

use super::{Position, left, or_dash, right, span, table};
use crate::output::printable;

pub(crate) fn interfaces(interfaces: &Interfaces) -> String {
    let columns = [
        left("Interface", 0),
        right("Index"),
        left("State", 0),
        left("Uplink", 0),
        left("Link-local", 0),
        left("Router", 0),
        left("Heard", 0),
        right("RA sent/rcvd"),
        right("RS sent/rcvd"),
    ];
    let rows = interfaces.interfaces.iter().map(row).collect();
    let alarms: String = interfaces
        .interfaces
        .iter()
        .flat_map(|interface| interface.alarms.iter().map(|alarm| (&interface.name, alarm)))
        .map(|(name, alarm)| format!("{}: {}\n", printable(name), printable(alarm)))
        .chain(interfaces.sysctls.iter().map(sysctl))
        .collect();
    let separator = if alarms.is_empty() { "" } else { "\n" };
    format!("{}{separator}{alarms}", table(columns, rows, Position::First))
}

fn row(interface: &Interface) -> [String; 9] {
    let state = match (interface.admin_up, interface.carrier) {
        (true, true) => "up",
        (true, false) => "no carrier",
        (false, _) => "down",
    };
    let (advertisements, solicitations) = interface.discovery.map_or_else(
        || ("-".to_owned(), "-".to_owned()),
        |counters| {
            (
                format!("{}/{}", counters.advertisements_sent, counters.advertisements_received),
                format!("{}/{}", counters.solicitations_sent, counters.solicitations_received),
            )
        },
    );
    let router = interface.router.as_ref();
    [
        printable(&interface.name),
        interface.index.to_string(),
        state.to_owned(),
        if interface.uplink { "yes" } else { "no" }.to_owned(),
        or_dash(interface.link_local),
        or_dash(router.map(|router| router.address)),
        or_dash(router.map(|router| span(router.heard_s))),
        advertisements,
        solicitations,
    ]
}

fn sysctl(finding: &SysctlFinding) -> String {
    format!(
        "sysctl {} is {}, should be {}: {}\n",
        printable(&finding.key),
        finding.value.as_deref().map_or_else(|| "unreadable".to_owned(), printable),
        printable(&finding.wanted),
        printable(&finding.why),
    )
}

#[cfg(test)]
mod tests {
    use selvedge::control::api::{DiscoveryCounters, LinkRouter};

    use super::*;

    #[test]
    fn interfaces_are_a_line_each_and_alarms_follow() {
        let uplink = Interface {
            name: "eth0".to_owned(),
            index: 2,
            admin_up: true,
            carrier: true,
            uplink: true,
            mtu: 1500,
            mac: None,
            link_local: "fe80::1".parse().ok(),
            addresses: Vec::new(),
            router: Some(LinkRouter { address: "fe80::a".parse().unwrap(), heard_s: 3 }),
            discovery: Some(DiscoveryCounters {
                advertisements_sent: 5,
                advertisements_received: 4,
                solicitations_sent: 1,
                solicitations_received: 2,
                discarded: 0,
            }),
            alarms: vec!["two routers on one link".to_owned()],
        };
        let pod = Interface {
            name: "cali1".to_owned(),
            index: 17,
            carrier: false,
            uplink: false,
            link_local: None,
            router: None,
            discovery: None,
            alarms: Vec::new(),
            ..uplink.clone()
        };
        let answer = Interfaces {
            interfaces: vec![uplink, pod],
            sysctls: vec![SysctlFinding {
                key: "net.ipv4.ip_forward".to_owned(),
                value: Some("0".to_owned()),
                wanted: "1".to_owned(),
                why: "pods cannot be reached".to_owned(),
            }],
        };
        let expected = "\
Interface  Index  State       Uplink  Link-local  Router   Heard     RA sent/rcvd  RS sent/rcvd
eth0           2  up          yes     fe80::1     fe80::a  00:00:03           5/4           1/2
cali1         17  no carrier  no      -           -        -                    -             -

eth0: two routers on one link
sysctl net.ipv4.ip_forward is 0, should be 1: pods cannot be reached
";
        assert_eq!(interfaces(&answer), expected);
    }
}
