//! Interfaces, addresses, neighbor entries and sysctls of a namespace.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, MulticastGroup};

use crate::error::{Doing, Error, Result};
use crate::netns::Netns;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// One end of a cable: an interface name and the namespace that it is in.
#[derive(Debug, Clone, Copy)]
pub struct Port<'a> {
    /// Where the interface is.
    pub netns: &'a Netns,
    /// What it is called there; at most 15 octets.
    pub name: &'a str,
}

/// Lays a cable: a veth pair whose ends are down and have the kernel's default MTU of 1500.
///
/// # Errors
/// A name is taken, or the kernel refuses.
pub fn cable(a: Port<'_>, b: Port<'_>) -> Result<()> {
    let doing = || format!("lay a cable from {}:{} to {}:{}", a.netns.name(), a.name, b.netns.name(), b.name);
    let far =
        LinkMessageBuilder::<LinkUnspec>::new().name(b.name).setns_by_fd(b.netns.file().as_raw_fd()).build();
    let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(a.name)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
        .build();
    a.netns.netlink(async |handle| handle.link().add(message).execute().await.doing(doing))
}

impl Netns {
    /// Sets an interface administratively up.
    ///
    /// # Errors
    /// There is none of that name, or the kernel refuses.
    pub fn set_up(&self, interface: &str) -> Result<()> {
        self.change_link(interface, "set up", LinkMessageBuilder::up)
    }

    /// Sets an interface administratively down. The other end of the cable loses its carrier.
    ///
    /// # Errors
    /// As [`Netns::set_up`].
    pub fn set_down(&self, interface: &str) -> Result<()> {
        self.change_link(interface, "set down", LinkMessageBuilder::down)
    }

    /// Sets the MTU in octets.
    ///
    /// # Errors
    /// As [`Netns::set_up`].
    pub fn set_mtu(&self, interface: &str, octets: u32) -> Result<()> {
        self.change_link(interface, "set the MTU of", |link| link.mtu(octets))
    }

    /// Sets the Ethernet address.
    ///
    /// # Errors
    /// As [`Netns::set_up`].
    pub fn set_mac(&self, interface: &str, mac: Mac) -> Result<()> {
        self.change_link(interface, "set the address of", |link| link.address(mac.to_vec()))
    }

    /// Makes a switch: a bridge with these interfaces for ports, everything up.
    ///
    /// # Errors
    /// As [`Netns::set_up`], or the name is taken.
    pub fn add_bridge(&self, name: &str, ports: &[&str]) -> Result<()> {
        let doing = || format!("make bridge {name} in {}", self.name());
        let message = LinkMessageBuilder::<LinkBridge>::new(name).up().build();
        self.netlink(async |handle| handle.link().add(message).execute().await.doing(doing))?;
        let bridge = self.index(name)?;
        for port in ports {
            self.change_link(port, "plug in", |link| link.controller(bridge).up())?;
        }
        Ok(())
    }

    /// Deletes an interface, and with it the other end of the cable.
    ///
    /// # Errors
    /// As [`Netns::set_up`].
    pub fn delete_link(&self, interface: &str) -> Result<()> {
        self.netlink(async |handle| {
            let index = link_index(self, &handle, interface).await?;
            handle.link().del(index).execute().await.doing(|| format!("delete {interface}"))
        })
    }

    /// The Ethernet address of an interface.
    ///
    /// # Errors
    /// There is none of that name, or it has no such address.
    pub fn mac(&self, interface: &str) -> Result<Mac> {
        let link = self.netlink(async |handle| link(self, &handle, interface).await)?;
        link.attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Address(octets) => octets.as_slice().try_into().ok(),
                _ => None,
            })
            .ok_or_else(|| self.no_interface(interface))
    }

    /// The index of an interface.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn index(&self, interface: &str) -> Result<u32> {
        self.netlink(async |handle| link_index(self, &handle, interface).await)
    }

    /// Adds an address to an interface.
    ///
    /// # Errors
    /// As [`Netns::set_up`].
    pub fn add_address(&self, interface: &str, address: IpAddr, length: u8) -> Result<()> {
        self.netlink(async |handle| {
            let index = link_index(self, &handle, interface).await?;
            handle
                .address()
                .add(index, address, length)
                .execute()
                .await
                .doing(|| format!("add {address}/{length} to {interface} in {}", self.name()))
        })
    }

    /// Adds a neighbor entry that never expires.
    ///
    /// # Errors
    /// As [`Netns::set_up`].
    pub fn add_neighbor(&self, interface: &str, address: IpAddr, mac: Mac) -> Result<()> {
        self.netlink(async |handle| {
            let index = link_index(self, &handle, interface).await?;
            handle
                .neighbours()
                .add(index, address)
                .link_layer_address(&mac)
                .replace()
                .execute()
                .await
                .doing(|| format!("add neighbor {address} on {interface} in {}", self.name()))
        })
    }

    /// Waits until an interface has a link-local address that passed duplicate address detection, which takes the
    /// kernel one to two seconds from link-up.
    ///
    /// # Errors
    /// [`Error::Timeout`], or the kernel refuses.
    pub fn await_link_local(&self, interface: &str, limit: Duration) -> Result<Ipv6Addr> {
        self.run(|| {
            crate::netns::runtime()?.block_on(async {
                let (handle, mut events) = crate::netns::watch(&[MulticastGroup::Ipv6Ifaddr])?;
                let index = link_index(self, &handle, interface).await?;
                let found = tokio::time::timeout(limit, async {
                    loop {
                        if let Some(address) = usable_link_local(&handle, index).await? {
                            return Ok(address);
                        }
                        events.next().await;
                    }
                });
                found.await.unwrap_or_else(|_elapsed| {
                    let what = format!("a link-local address on {interface} in {}", self.name());
                    Err(Error::Timeout { what, limit })
                })
            })
        })?
    }

    /// Writes a sysctl under `/proc/sys/net` of this namespace, such as `ipv6/conf/all/forwarding`.
    ///
    /// # Errors
    /// There is none of that name, or the value is refused.
    pub fn set_sysctl(&self, name: &str, value: u32) -> Result<()> {
        let path = format!("/proc/sys/net/{name}");
        self.run(|| fs::write(&path, value.to_string()))?.doing(|| format!("set {path} in {}", self.name()))
    }

    /// Reads a sysctl under `/proc/sys/net` of this namespace.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn sysctl(&self, name: &str) -> Result<String> {
        let path = format!("/proc/sys/net/{name}");
        let text = self.run(|| fs::read_to_string(&path))?.doing(|| format!("read {path}"))?;
        Ok(text.trim_end().to_owned())
    }

    fn change_link(
        &self,
        interface: &str,
        verb: &str,
        change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec> + Send,
    ) -> Result<()> {
        let message = change(LinkMessageBuilder::<LinkUnspec>::new().name(interface)).build();
        self.netlink(async |handle| {
            handle
                .link()
                .set(message)
                .execute()
                .await
                .doing(|| format!("{verb} {interface} in {}", self.name()))
        })
    }

    fn no_interface(&self, interface: &str) -> Error {
        Error::NoInterface { interface: interface.to_owned(), netns: self.name().to_owned() }
    }
}

pub(crate) async fn link_index(netns: &Netns, handle: &Handle, interface: &str) -> Result<u32> {
    Ok(link(netns, handle, interface).await?.header.index)
}

async fn link(netns: &Netns, handle: &Handle, interface: &str) -> Result<LinkMessage> {
    let mut found = handle.link().get().match_name(interface).execute();
    found.try_next().await.ok().flatten().ok_or_else(|| netns.no_interface(interface))
}

async fn usable_link_local(handle: &Handle, index: u32) -> Result<Option<Ipv6Addr>> {
    let addresses: Vec<_> = handle
        .address()
        .get()
        .set_link_index_filter(index)
        .execute()
        .try_collect()
        .await
        .doing(|| "list addresses".to_owned())?;
    Ok(addresses
        .iter()
        .filter(|message| !message.header.flags.contains(AddressHeaderFlags::Tentative))
        .flat_map(|message| &message.attributes)
        .find_map(|attribute| match attribute {
            AddressAttribute::Address(IpAddr::V6(address)) if address.is_unicast_link_local() => {
                Some(*address)
            }
            _ => None,
        }))
}
