//! The routes of a namespace's main table, as `ip route` shows them, and waiting for them by the kernel's events.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use bgp::Prefix;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol, RouteType, RouteVia,
};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};

use crate::error::{Doing, Error, Result};
use crate::link::link_index;
use crate::netns::{Netns, runtime, watch};
use crate::wait::check_interrupt;

/// `proto bgp` in include/uapi/linux/rtnetlink.h.
pub const PROTOCOL_BGP: u8 = 186;

/// `proto static`.
pub const PROTOCOL_STATIC: u8 = 4;

/// `ipv4NormalRoutePriority` of Calico, by default.
const FELIX_METRIC: u32 = 1024;

/// Events are taken in portions, so that an interrupt is seen while none come.
const EVENT_SLICE: Duration = Duration::from_millis(100);

/// One route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its destination.
    pub prefix: Prefix,
    /// What it does with a packet.
    pub action: Action,
    /// Who made it: rtm_protocol of rtnetlink(7).
    pub protocol: u8,
    /// Its metric, 0 where none is given.
    pub metric: u32,
    /// Preferred source.
    pub source: Option<IpAddr>,
    /// The nexthop object that it names.
    pub object: Option<u32>,
}

/// What a route does with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Sends it on; more than one next hop are ECMP. In the kernel's order.
    Forward(Vec<NextHop>),
    /// Drops it in silence.
    Blackhole,
    /// Anything else, by its number in rtnetlink(7).
    Other(u8),
}

/// One next hop of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// The router, none where the destination is on the link. IPv6 also for IPv4 routes.
    pub via: Option<IpAddr>,
    /// The interface.
    pub device: String,
}

impl Route {
    /// Interfaces that it sends packets out of, sorted.
    #[must_use]
    pub fn devices(&self) -> Vec<&str> {
        let Action::Forward(hops) = &self.action else { return Vec::new() };
        let mut devices: Vec<_> = hops.iter().map(|hop| hop.device.as_str()).collect();
        devices.sort_unstable();
        devices
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.action == Action::Blackhole {
            write!(f, "blackhole ")?;
        }
        match self.prefix {
            prefix if prefix.is_default() => write!(f, "default")?,
            prefix if prefix == Prefix::host(prefix.address()) => write!(f, "{}", prefix.address())?,
            prefix => write!(f, "{prefix}")?,
        }
        match self.protocol {
            PROTOCOL_BGP => write!(f, " proto bgp")?,
            PROTOCOL_STATIC => write!(f, " proto static")?,
            2 => write!(f, " proto kernel")?,
            other => write!(f, " proto {other}")?,
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        if let Some(object) = self.object {
            write!(f, " nhid {object}")?;
        }
        let Action::Forward(hops) = &self.action else { return Ok(()) };
        for hop in hops {
            let indent = if hops.len() > 1 { "\n\tnexthop" } else { "" };
            let family = match (self.prefix, hop.via) {
                (Prefix::V4(_), Some(IpAddr::V6(_))) => "inet6 ",
                _ => "",
            };
            match hop.via {
                Some(via) => write!(f, "{indent} via {family}{via} dev {}", hop.device)?,
                None => write!(f, "{indent} dev {}", hop.device)?,
            }
        }
        Ok(())
    }
}

impl Netns {
    /// All routes of the main table, both families, sorted; without the kernel's multicast and link-local ones.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn routes(&self) -> Result<Vec<Route>> {
        self.netlink(async |handle| routes(&handle).await)
    }

    /// The route to exactly this prefix.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn route(&self, prefix: Prefix) -> Result<Option<Route>> {
        Ok(self.routes()?.into_iter().find(|route| route.prefix == prefix))
    }

    /// Looks at the routes now and after each event of the kernel, until they are as wanted. Gives the moment when
    /// they were seen so.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the routes as they were last.
    pub fn await_routes(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&[Route]) -> bool + Send + Sync,
    ) -> Result<Instant> {
        // The kernel does not announce the IPv4 routes that it flushes with their link, so links count too.
        let groups = [
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Link,
            MulticastGroup::Nexthop,
        ];
        let deadline = Instant::now() + limit;
        self.run(|| {
            runtime()?.block_on(async {
                let (handle, mut events) = watch(&groups)?;
                loop {
                    let now = routes(&handle).await?;
                    if wanted(&now) {
                        return Ok(Instant::now());
                    }
                    check_interrupt()?;
                    if Instant::now() >= deadline {
                        let lines: Vec<_> = now.iter().map(|route| format!("\n  {route}")).collect();
                        let what = format!("{what} in {}; last seen:{}", self.name(), lines.concat());
                        return Err(Error::Timeout { what, limit });
                    }
                    let _ = tokio::time::timeout(EVENT_SLICE, events.next()).await;
                    while events.next().now_or_never().flatten().is_some() {}
                }
            })
        })?
    }

    /// Adds a route to an address on a link, as Calico does for each pod: with a metric that is higher than those of routing
    /// daemons.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add_host_route(&self, address: IpAddr, device: &str) -> Result<()> {
        self.netlink(async |handle| {
            let index = link_index(self, &handle, device).await?;
            let message = match address {
                IpAddr::V4(to) => RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(to, 32)
                    .scope(netlink_packet_route::route::RouteScope::Link)
                    .output_interface(index)
                    .priority(FELIX_METRIC)
                    .build(),
                IpAddr::V6(to) => RouteMessageBuilder::<Ipv6Addr>::new()
                    .destination_prefix(to, 128)
                    .output_interface(index)
                    .priority(FELIX_METRIC)
                    .build(),
            };
            self.add(&handle, message, &format!("{address} dev {device}")).await
        })
    }

    /// Adds a default route.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add_default_route(&self, via: IpAddr, device: &str) -> Result<()> {
        self.netlink(async |handle| {
            let index = link_index(self, &handle, device).await?;
            let message = match via {
                IpAddr::V4(via) => {
                    RouteMessageBuilder::<Ipv4Addr>::new().gateway(via).output_interface(index).build()
                }
                IpAddr::V6(via) => {
                    RouteMessageBuilder::<Ipv6Addr>::new().gateway(via).output_interface(index).build()
                }
            };
            self.add(&handle, message, &format!("default via {via}")).await
        })
    }

    /// Adds a route that drops what it matches, with the protocol of static routes.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add_blackhole(&self, prefix: Prefix) -> Result<()> {
        let message = exact(prefix, RouteType::BlackHole);
        self.netlink(async |handle| self.add(&handle, message, &format!("blackhole {prefix}")).await)
    }

    /// Deletes the route to exactly this prefix, whoever made it.
    ///
    /// # Errors
    /// There is none, or the kernel refuses.
    pub fn delete_route(&self, prefix: Prefix) -> Result<()> {
        let mut message = exact(prefix, RouteType::Unspec);
        message.header.protocol = RouteProtocol::Unspec;
        message.header.scope = netlink_packet_route::route::RouteScope::NoWhere;
        self.netlink(async |handle| {
            handle
                .route()
                .del(message)
                .execute()
                .await
                .doing(|| format!("delete route {prefix} in {}", self.name()))
        })
    }

    async fn add(&self, handle: &Handle, message: RouteMessage, what: &str) -> Result<()> {
        handle.route().add(message).execute().await.doing(|| format!("add route {what} in {}", self.name()))
    }
}

fn exact(prefix: Prefix, kind: RouteType) -> RouteMessage {
    match prefix {
        Prefix::V4(prefix) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(prefix.address(), prefix.length())
            .kind(kind)
            .build(),
        Prefix::V6(prefix) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(prefix.address(), prefix.length())
            .kind(kind)
            .build(),
    }
}

async fn routes(handle: &Handle) -> Result<Vec<Route>> {
    let links: Vec<_> =
        handle.link().get().execute().try_collect().await.doing(|| "list interfaces".to_owned())?;
    let name = |index: u32| {
        links
            .iter()
            .filter(|link| link.header.index == index)
            .flat_map(|link| &link.attributes)
            .find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            })
            .unwrap_or_else(|| format!("if{index}"))
    };
    let mut all = Vec::new();
    for request in
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
    {
        let messages: Vec<_> =
            handle.route().get(request).execute().try_collect().await.doing(|| "list routes".to_owned())?;
        all.extend(messages.iter().filter_map(|message| parse(message, &name)));
    }
    all.sort_by_key(|route: &Route| (route.prefix, route.metric));
    Ok(all)
}

fn parse(message: &RouteMessage, name: &impl Fn(u32) -> String) -> Option<Route> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let unspecified = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let attributes = &message.attributes;
    let find = |pick: fn(&RouteAttribute) -> Option<IpAddr>| attributes.iter().find_map(pick);
    let destination = find(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    let destination = destination.unwrap_or(unspecified);
    if matches!(destination, IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_multicast()) {
        return None;
    }
    let source = find(|attribute| match attribute {
        RouteAttribute::PrefSource(address) => ip(address),
        _ => None,
    });
    let metric = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    let object = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::NhId(id) => Some(*id),
        _ => None,
    });
    let action = match header.kind {
        RouteType::Unicast => Action::Forward(next_hops(attributes, name)),
        RouteType::BlackHole => Action::Blackhole,
        other => Action::Other(other.into()),
    };
    Some(Route {
        prefix: Prefix::masked(destination, header.destination_prefix_length).ok()?,
        action,
        protocol: header.protocol.into(),
        metric: metric.unwrap_or(0),
        source,
        object,
    })
}

fn next_hops(attributes: &[RouteAttribute], name: &impl Fn(u32) -> String) -> Vec<NextHop> {
    let many = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    if let Some(hops) = many {
        let hop =
            |hop: &RouteNextHop| NextHop { via: via(&hop.attributes), device: name(hop.interface_index) };
        return hops.iter().map(hop).collect();
    }
    let device = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(name(*index)),
        _ => None,
    });
    device.map(|device| NextHop { via: via(attributes), device }).into_iter().collect()
}

fn via(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
