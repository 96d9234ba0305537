//! What a pod can inject: it is on a link of its own, so a TTL of 255 proves nothing, and it may know every address, port
//! and number of the session between its node and the ToR.
//!
//! Floods from a pod are a fault of the fault suite.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
use std::time::Duration;

use lab::{Capture, Mac, Netns, Port, Requirement, cable, eventually, output_of};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use super::bfd::{bfd, is, number, up as up_with_bfd};
use super::fixture::{
    BLOCKS, Link, PATIENCE, UNNUMBERED, refuse_dials_to, times_established, unnumbered_conf,
};
use super::speaker::{advertise, icmp};

/// What Calico gives to the host's side of a pod's cable, and the link-local address of that.
const HOST_MAC: Mac = [0xee; 6];
const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);
const ADDRESSES: [&str; 2] = ["10.1.8.193", "fd00:10:1:8::1"];
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const CALI: &str = "calic1p1";
/// For a connection inside one machine; whoever hears nothing by then was not answered.
const ANSWER: Duration = Duration::from_millis(500);
/// Of messages that a pod sends: the first might be lost for a reason of its own.
const TIMES: usize = 5;

/// A node with a ToR, their sessions of BGP and BFD, and a pod as Calico has them, which calls itself as the ToR does.
fn up(test: &str) -> Option<(Link, Netns)> {
    let mut link = up_with_bfd(test)?;
    let pod = link.scratch.netns("pod").unwrap();
    for netns in [&pod, &link.node] {
        netns.set_sysctl("ipv6/conf/default/accept_dad", 0).unwrap();
    }
    cable(Port { netns: &pod, name: "eth0" }, Port { netns: &link.node, name: CALI }).unwrap();
    link.node.set_mac(CALI, HOST_MAC).unwrap();
    link.node.set_up(CALI).unwrap();
    pod.set_up("eth0").unwrap();
    for address in ADDRESSES {
        let address: IpAddr = address.parse().unwrap();
        pod.add_address("eth0", address, bgp::Prefix::host(address).length()).unwrap();
        link.node.add_host_route(address, CALI).unwrap();
    }
    pod.add_neighbor("eth0", GATEWAY.into(), HOST_MAC).unwrap();
    pod.add_host_route(GATEWAY.into(), "eth0").unwrap();
    pod.add_default_route(GATEWAY.into(), "eth0").unwrap();
    pod.add_default_route(HOST.into(), "eth0").unwrap();
    // The node answers for the address of its uplink on that link alone.
    pod.add_neighbor("eth0", link.node_link_local().into(), HOST_MAC).unwrap();
    pod.add_address("eth0", link.tor_link_local().into(), 64).unwrap();
    // Without duplicate address detection too, an address takes a moment to be usable.
    link.node.await_link_local(CALI, PATIENCE).unwrap();
    let (eth0, tor) = (pod.index("eth0").unwrap(), link.tor_link_local());
    eventually("the pod's addresses are usable", PATIENCE, || {
        let global = ADDRESSES[1].parse().unwrap();
        let all = [SocketAddrV6::new(tor, 0, 0, eth0), SocketAddrV6::new(global, 0, 0, 0)];
        Ok(pod.run(|| all.iter().all(|address| UdpSocket::bind(address).is_ok()))?.then_some(()))
    })
    .unwrap();
    Some((link, pod))
}

/// That the ToR is what it was to the node.
fn assert_untouched(link: &Link, tor_mac: Mac) {
    let neighbor = link.neighbor("tor1");
    assert_eq!(times_established(&neighbor), 1, "{neighbor}\n{}", link.agent().log());
    assert!(is(&neighbor, "/state", "established"), "{neighbor}");
    let session = bfd(link).unwrap();
    assert!(is(&session, "/state", "up"), "{session}");
    assert_eq!(
        (number(&session, "/failures"), number(&session, "/times_up")),
        (Some(0), Some(1)),
        "{session}"
    );
    let interfaces = link.agent().bgpctl_json(&["show", "interfaces"]).unwrap();
    let all = interfaces.pointer("/interfaces").and_then(Value::as_array).unwrap();
    let uplink = all.iter().find(|one| one.get("name").is_some_and(|name| name == "tor1")).unwrap();
    assert_eq!(uplink.pointer("/alarms"), Some(&Value::Array(Vec::new())), "{uplink}");
    let router = uplink.pointer("/router/address").and_then(Value::as_str).unwrap();
    assert_eq!(router, link.tor_link_local().to_string());
    let entry = neighbor_entry(link, "tor1");
    let mac = tor_mac.map(|octet| format!("{octet:02x}")).join(":");
    assert!(entry.contains(&mac), "{entry}");
}

/// What the kernel of the node knows of the ToR's address on a link.
fn neighbor_entry(link: &Link, interface: &str) -> String {
    let mut command = link.node.command("ip");
    command.args(["-6", "neighbor", "show", &link.tor_link_local().to_string(), "dev", interface]);
    output_of(command).unwrap()
}

fn connects(netns: &Netns, from: Option<SocketAddrV6>, to: SocketAddr) -> bool {
    let connect = || -> std::io::Result<()> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if let Some(from) = from {
            socket.bind(&from.into())?;
        }
        socket.connect_timeout(&to.into(), ANSWER)
    };
    netns.run(connect).unwrap().is_ok()
}

#[test]
fn no_pod_and_no_process_of_the_node_reaches_the_port() {
    let Some((link, pod)) = up("podport") else { return };
    let tor_mac = link.tor.mac("c1").unwrap();
    let eth0 = pod.index("eth0").unwrap();
    let globals = ["1.1.1.1", "fd00::1"].map(|text| text.parse::<IpAddr>().unwrap());
    let everyone = link.node.run(|| TcpListener::bind("[::]:1790")).unwrap().unwrap();
    let host = |port| SocketAddr::from(SocketAddrV6::new(HOST, port, 0, eth0));
    let as_tor = SocketAddrV6::new(link.tor_link_local(), 0, 0, eth0);
    for (port, expected) in [(1790, true), (179, false)] {
        for address in globals {
            assert_eq!(
                connects(&pod, None, SocketAddr::new(address, port)),
                expected,
                "{address} port {port}"
            );
        }
        assert_eq!(connects(&pod, None, host(port)), expected, "port {port}");
        // Under the ToR's own address, on the wrong link.
        assert_eq!(connects(&pod, Some(as_tor), host(port)), expected, "port {port} as the ToR");
    }
    drop(everyone);
    for address in ["127.0.0.1", "::1", "1.1.1.1", "fd00::1", ADDRESSES[0]] {
        let to = SocketAddr::new(address.parse().unwrap(), 179);
        assert!(!connects(&link.node, None, to), "over the loopback interface to {address}");
    }
    assert_untouched(&link, tor_mac);
}

#[test]
fn neighbor_discovery_of_a_pod_that_calls_itself_the_tor_changes_nothing() {
    let Some((link, pod)) = up("podnd") else { return };
    let tor_mac = link.tor.mac("c1").unwrap();
    let (tor, pod_mac) = (link.tor_link_local(), pod.mac("eth0").unwrap());
    // Source (1) and target (2) link-layer address (RFC 4861 section 4.6.1).
    let option = |kind: u8| [&[kind, 1][..], &pod_mac].concat();
    for _ in 0..TIMES {
        advertise(&pod, "eth0", tor, &option(1));
        let all_routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
        icmp(&pod, "eth0", tor, all_routers, &[&[133, 0, 0, 0, 0, 0, 0, 0][..], &option(1)].concat());
        let solicitation = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &HOST.octets(), &option(1)].concat();
        icmp(&pod, "eth0", tor, HOST, &solicitation);
        // Override, unsolicited.
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let claim = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &tor.octets(), &option(2)].concat();
        icmp(&pod, "eth0", tor, all_nodes, &claim);
    }
    // What they did, they did on the pod's own link.
    let mac = pod_mac.map(|octet| format!("{octet:02x}")).join(":");
    eventually("the kernel has heard them", PATIENCE, || {
        Ok(neighbor_entry(&link, CALI).contains(&mac).then_some(()))
    })
    .unwrap();
    assert_untouched(&link, tor_mac);
}

#[test]
fn bfd_of_a_pod_that_knows_everything_is_nobodys() {
    let Some((link, pod)) = up("podbfd") else { return };
    let tor_mac = link.tor.mac("c1").unwrap();
    let discarded = || {
        let all = link.agent().bgpctl_json(&["show", "bfd"]).unwrap();
        number(&all, "/discards/no_session").unwrap()
    };
    let session = bfd(&link).unwrap();
    let discriminator = |pointer| u32::try_from(number(&session, pointer).unwrap()).unwrap().to_be_bytes();
    let (ours, theirs) = (discriminator("/discriminator"), discriminator("/remote/discriminator"));
    let before = discarded();
    let scope = pod.index("eth0").unwrap();
    let send = |octets: &[u8]| {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
        socket.set_unicast_hops_v6(255)?;
        socket.bind(&SocketAddrV6::new(link.tor_link_local(), 0, 0, scope).into())?;
        UdpSocket::from(socket).send_to(octets, SocketAddrV6::new(HOST, 3784, 0, scope))
    };
    // Version 1; AdminDown, Down and Up; multiplier 3, 24 octets; both numbers; a second, a second, no echo.
    for state in [0x00, 0x40, 0xc0] {
        let times = [0, 0x0f, 0x42, 0x40, 0, 0x0f, 0x42, 0x40, 0, 0, 0, 0];
        let packet = [&[0x20, state, 3, 24][..], &theirs, &ours, &times].concat();
        for _ in 0..TIMES {
            pod.run(|| send(&packet)).unwrap().unwrap();
        }
    }
    let sent = u64::try_from(3 * TIMES).unwrap();
    eventually("all are discarded", PATIENCE, || Ok((discarded() >= before + sent).then_some(()))).unwrap();
    assert_untouched(&link, tor_mac);
}

/// A TCP segment of the ToR's in the session: from where to where, and what comes next.
#[derive(Debug)]
struct Segment {
    ports: [u8; 4],
    next: u32,
    acknowledged: [u8; 4],
}

/// The last one that the ToR has sent, as the node's uplink sees it.
fn last_segment(link: &Link) -> Segment {
    let capture = Capture::start(&link.node, "tor1").unwrap();
    let tor = IpAddr::V6(link.tor_link_local());
    let frame = capture.await_frame(PATIENCE, |frame| {
        let is_the_tors = frame.ip.is_some_and(|ip| ip.source == tor && ip.protocol == 6);
        // A KEEPALIVE or an UPDATE, no mere acknowledgement: Ethernet, IPv6, TCP without options or with.
        is_the_tors && frame.octets.get(54..).is_some_and(|tcp| tcp.len() > header_length(tcp))
    });
    let frame = frame.expect("a KEEPALIVE of the ToR");
    let tcp = &frame.octets[54..];
    let four = |at: usize| <[u8; 4]>::try_from(&tcp[at..at + 4]).unwrap();
    let payload = u32::try_from(tcp.len() - header_length(tcp)).unwrap();
    Segment { ports: four(0), next: u32::from_be_bytes(four(4)).wrapping_add(payload), acknowledged: four(8) }
}

fn header_length(tcp: &[u8]) -> usize {
    tcp.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4)
}

/// Sends a segment of the ToR's session: with the right numbers, it is the ToR's word.
fn forge(netns: &Netns, interface: &str, link: &Link, segment: &Segment, flags: u8, payload: &[u8]) {
    let (from, to) = (link.tor_link_local(), link.node_link_local());
    let fixed = [0x50, flags, 0x10, 0, 0, 0, 0, 0];
    let mut tcp =
        [&segment.ports[..], &segment.next.to_be_bytes(), &segment.acknowledged, &fixed, payload].concat();
    let length = u32::try_from(tcp.len()).unwrap().to_be_bytes();
    let pseudo = [&from.octets()[..], &to.octets(), &length, &[0, 0, 0, 6], &tcp].concat();
    tcp[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let scope = netns.index(interface).unwrap();
    let send = || {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::TCP))?;
        socket.bind(&SocketAddrV6::new(from, 0, 0, scope).into())?;
        socket.send_to(&tcp, &SocketAddrV6::new(to, 0, 0, scope).into())
    };
    netns.run(send).unwrap().unwrap();
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default());
    let mut sum: u32 = octets.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

#[test]
fn segments_of_the_tors_session_count_on_its_link_alone() {
    const RST: u8 = 0x04;
    const PUSH_ACK: u8 = 0x18;
    let Some((link, pod)) = up("podrst") else { return };
    let tor_mac = link.tor.mac("c1").unwrap();
    let arrived = Capture::start(&link.node, CALI).unwrap();
    for _ in 0..2 {
        let segment = last_segment(&link);
        forge(&pod, "eth0", &link, &segment, RST, &[]);
        // A NOTIFICATION: Cease.
        let cease = [&[0xff; 16][..], &[0, 21, 3, 6, 2]].concat();
        forge(&pod, "eth0", &link, &segment, PUSH_ACK, &cease);
    }
    let tor = IpAddr::V6(link.tor_link_local());
    for _ in 0..4 {
        let frame = arrived
            .await_frame(PATIENCE, |frame| frame.ip.is_some_and(|ip| ip.source == tor && ip.protocol == 6));
        assert!(frame.is_some(), "they do arrive");
    }
    assert_untouched(&link, tor_mac);
    // The same on the ToR's link ends it.
    eventually("a RST over the uplink", PATIENCE, || {
        forge(&link.tor, "c1", &link, &last_segment(&link), RST, &[]);
        let log = link.agent().log();
        Ok(log.contains("session down").then_some(()))
    })
    .unwrap();
}

#[test]
fn a_port_that_is_taken_is_waited_for_and_said() {
    let Some(mut link) = Link::lay("podtaken", Requirement::Frr) else { return };
    // The thief would keep FRR waiting for an OPEN.
    refuse_dials_to(&link.node);
    let thief = link.node.run(|| TcpListener::bind("[::]:179")).unwrap().unwrap();
    link.start_frr(&unnumbered_conf());
    link.start_agent(UNNUMBERED);
    let pid = link.agent().id();
    // Who cannot be dialled dials.
    link.await_established("tor1");
    link.await_at_frr(&BLOCKS);
    let log = link.agent().log();
    assert_eq!(log.matches("cannot listen").count(), 1, "{log}");
    assert!(!log.contains("listening at last"), "{log}");
    let trouble = || {
        let summary = link.agent().bgpctl_json(&["show", "summary"]).unwrap();
        summary["listen_error"].as_str().map(str::to_owned)
    };
    assert_eq!(trouble().as_deref(), Some("another program has TCP port 179"));
    let shown = link.agent().bgpctl(&["show", "summary"]).unwrap();
    assert!(
        shown.contains("\nListener: neighbors cannot connect, and are dialled only: another "),
        "{shown}"
    );
    drop(thief);
    eventually("the agent has the port", PATIENCE, || {
        Ok(link.agent().log().contains("listening at last").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", link.agent().log()));
    assert_eq!(trouble(), None);
    assert_eq!((link.agent().id(), times_established(&link.neighbor("tor1"))), (pid, 1));
}
