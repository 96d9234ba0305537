//! What may become of Router Discovery on an uplink: silence, another address, another router.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{Error, Netns, Result, eventually};
use socket2::{Domain, Protocol, Socket, Type};

use crate::fault::{Fault, Length, Loss, Number};
use crate::site::{Session, Site, tool};

/// FRR advertises an unnumbered interface every ten seconds.
const SILENCE: Duration = Duration::from_secs(12);
/// The hold time, and what follows it: the next advertisement of FRR, and its next dial.
const BACK: Duration = Duration::from_secs(40);
/// An address that nobody on the link has.
const STRANGER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xbad, 0, 0, 1);

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        number: Number(11),
        name: "Router Advertisements stop",
        expected: "the session stays: it is the better proof of life",
        length: Length::Long,
        limit: Duration::from_secs(40),
        make: silence,
        ..Fault::USUAL
    },
    Fault {
        number: Number(12),
        name: "a second router appears on the link",
        expected: "the first one is kept, the second is ignored and shown as an alarm",
        make: second_router,
        ..Fault::USUAL
    },
    Fault {
        number: Number(12),
        name: "the ToR's link-local address changes while the session is up, and back",
        expected: "the old session ends by its hold time at the latest, then one with the new address; no flapping",
        length: Length::Long,
        loss: Loss::Any,
        heals_within: BACK,
        limit: Duration::from_secs(100),
        make: other_address,
        ..Fault::USUAL
    },
];

fn silence(site: &mut Site) -> Result<()> {
    let mark = site.mark_log()?;
    let tor = &site.tor()?.netns;
    tool(tor, "nft add table ip6 fault")?;
    tool(tor, "nft add chain ip6 fault out { type filter hook output priority 0 ; }")?;
    tool(tor, "nft add rule ip6 fault out icmpv6 type nd-router-advert drop")?;
    sleep(SILENCE);
    let lost = site.logged_since(mark)?.matches("session down").count();
    site.demand(lost == 0, || format!("{lost} sessions were lost"));
    tool(&site.tor()?.netns, "nft delete table ip6 fault").map(drop)
}

fn second_router(site: &mut Site) -> Result<()> {
    let mark = site.mark_log()?;
    let tor = &site.tor()?.netns;
    tool(tor, &format!("ip address add {STRANGER}/64 dev c1 nodad"))?;
    let index = tor.index("c1")?;
    for _ in 0..10 {
        advertise(tor, STRANGER, index)?;
        sleep(Duration::from_millis(50));
    }
    eventually("an alarm names the second router", Duration::from_secs(2), || {
        let shown = site.agent()?.bgpctl(&["show", "interfaces"])?;
        Ok(shown.contains(&STRANGER.to_string()).then_some(()))
    })?;
    site.note("the alarm of show interfaces names it");
    let lost = site.logged_since(mark)?.matches("session down").count();
    site.demand(lost == 0, || format!("{lost} sessions were lost"));
    let used = site.hop_over("tor1")?;
    site.demand(used != STRANGER, || "packets go to it".to_owned());
    tool(&site.tor()?.netns, &format!("ip address del {STRANGER}/64 dev c1")).map(drop)
}

/// One Router Advertisement to all nodes of the link.
fn advertise(netns: &Netns, from: Ipv6Addr, interface: u32) -> Result<()> {
    // RFC 4861 section 4.2: type 134, hop limit 64, lifetime 30 min; the kernel fills in the checksum.
    let message = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    let send = || {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_multicast_hops_v6(255)?;
        socket.bind(&SocketAddrV6::new(from, 0, 0, interface).into())?;
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        socket.send_to(&message, &SocketAddrV6::new(all_nodes, 0, 0, interface).into())
    };
    let outcome = netns.run(send)?;
    outcome.map(drop).map_err(|source| Error::Io { doing: "send a Router Advertisement".to_owned(), source })
}

fn other_address(site: &mut Site) -> Result<()> {
    let first = site.hop_over("tor1")?;
    let other = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xabcd);
    let mark = site.mark_log()?;
    for (from, to) in [(first, other), (other, first)] {
        let changed = Instant::now();
        let tor = &site.tor()?.netns;
        tool(tor, &format!("ip address add {to}/64 dev c1 nodad"))?;
        tool(tor, &format!("ip address del {from}/64 dev c1"))?;
        let took = site.await_hop("tor1", to, BACK)?;
        site.await_session("tor1", Session::Up, changed, BACK)?;
        site.note(format!("packets go to the new address after {:.1} s", took.as_secs_f64()));
    }
    let lost = site.logged_since(mark)?.matches("session down").count();
    site.note(format!("{lost} sessions lost by two changes"));
    site.demand(lost <= 3, || format!("{lost} sessions were lost by two changes"));
    Ok(())
}
