//! A configuration as TOML, with every value that is in effect: what `bgpctl show config` prints.

use std::fmt::{self, Display, Write as _};

use bgp::Prefix;
use bgp::message::update::LinkLocalForm;
use bgp::policy::{Policy, PrefixList, Transit};
use bgp::session::RemoteAs;

use super::duration::show;
use super::{
    Access, Bgp, Borrowed, Calico, CalicoApi, Config, Drain, Kubernetes, Neighbor, NeighborPeer,
    NexthopObjects, NodeCidrs, Pods, Readiness, RequiredRoutes, RuleText, Services, action_word,
};

impl Config {
    /// This configuration as a file that [`parse`](super::parse) reads back as the same one. A password is
    /// never in it, only the file that it came from.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_toml(&mut text);
        text
    }

    fn write_toml(&self, out: &mut String) -> fmt::Result {
        let Self {
            bgp,
            loopback,
            prefix_lists,
            policies,
            neighbors,
            kubernetes,
            pods,
            services,
            readiness,
            drain,
            fib,
            sysctl,
            control,
        } = self;
        write_bgp(out, bgp)?;
        writeln!(out, "\n[loopback]")?;
        writeln!(out, "interface = {}", in_quotes(&loopback.interface))?;
        writeln!(out, "advertise = {}", loopback.advertise)?;
        for list in prefix_lists {
            write_prefix_list(out, list)?;
        }
        for policy in policies {
            write_policy(out, policy)?;
        }
        for neighbor in neighbors {
            write_neighbor(out, neighbor)?;
        }
        if let Some(kubernetes) = kubernetes {
            write_kubernetes(out, kubernetes)?;
        }
        write_pods(out, pods)?;
        if let Some(services) = services {
            write_services(out, services)?;
        }
        if let Some(readiness) = readiness {
            write_readiness(out, readiness)?;
        }
        let Drain { on_cordon } = drain;
        writeln!(out, "\n[drain]\non-cordon = {on_cordon}")?;
        writeln!(out, "\n[fib]\nprotocol = {}\nmetric = {}", fib.protocol, fib.metric)?;
        writeln!(out, "table = {}\nmax-paths = {}", fib.table, fib.max_paths)?;
        let objects = match fib.nexthop_objects {
            NexthopObjects::Auto => "auto",
            NexthopObjects::On => "on",
            NexthopObjects::Off => "off",
        };
        let (first, last) = (fib.nexthop_ids.start(), fib.nexthop_ids.end());
        writeln!(out, "nexthop-objects = {}", in_quotes(objects))?;
        writeln!(out, "nexthop-ids = {}", in_quotes(format_args!("{first}-{last}")))?;
        writeln!(out, "\n[sysctl]\nmanage = {}", sysctl.manage)?;
        writeln!(out, "\n[control]\nsocket = {}", in_quotes(control.socket.display()))
    }
}

fn write_bgp(out: &mut String, bgp: &Bgp) -> fmt::Result {
    let Bgp { local_as, router_id, keepalive, hold_time, graceful_restart, stale_time } = bgp;
    writeln!(out, "[bgp]\nlocal-as = {local_as}")?;
    match router_id {
        Some(id) => writeln!(out, "router-id = {}", in_quotes(id))?,
        None => writeln!(out, "# router-id: the first global IPv4 address of the loopback interface")?,
    }
    writeln!(out, "keepalive = {}", in_quotes(show(*keepalive)))?;
    writeln!(out, "hold-time = {}", in_quotes(format_args!("{}s", hold_time.as_secs())))?;
    writeln!(out, "graceful-restart = {}", in_quotes(show(graceful_restart.unwrap_or_default())))?;
    writeln!(out, "stale-time = {}", in_quotes(show(*stale_time)))
}

fn write_kubernetes(out: &mut String, kubernetes: &Kubernetes) -> fmt::Result {
    let Kubernetes { access, node_name, state } = kubernetes;
    writeln!(out, "\n[kubernetes]")?;
    match access {
        Access::Kubeconfig(path) => writeln!(out, "kubeconfig = {}", in_quotes(path.display()))?,
        Access::ServiceAccount => writeln!(out, "in-cluster = true")?,
    }
    match node_name {
        Some(name) => writeln!(out, "node-name = {}", in_quotes(name))?,
        None => writeln!(out, "# node-name: NODE_NAME of the environment, else the name of the host")?,
    }
    writeln!(out, "state = {}", in_quotes(state.display()))
}

fn write_pods(out: &mut String, pods: &Pods) -> fmt::Result {
    let Pods { static_blocks, node_cidrs, calico } = pods;
    writeln!(out, "\n[pods.static]\nblocks = {}", array(static_blocks))?;
    if let Some(NodeCidrs {}) = node_cidrs {
        writeln!(out, "\n[pods.node]")?;
    }
    if let Some(Calico { api, borrowed }) = calico {
        let api = match api {
            CalicoApi::Any => "auto",
            CalicoApi::CrdV1 => "crd.projectcalico.org/v1",
            CalicoApi::V3 => "projectcalico.org/v3",
        };
        writeln!(out, "\n[pods.calico]\napi = {}", in_quotes(api))?;
        match borrowed {
            Borrowed::Advertise { community, limit } => {
                writeln!(out, "borrowed = \"advertise\"")?;
                match community {
                    Some(community) => writeln!(out, "borrowed-community = {}", in_quotes(community))?,
                    None => writeln!(out, "# borrowed-community: none")?,
                }
                writeln!(out, "borrowed-limit = {limit}")?;
            }
            Borrowed::Refuse => writeln!(out, "borrowed = \"refuse\"")?,
        }
    }
    Ok(())
}

fn write_services(out: &mut String, services: &Services) -> fmt::Result {
    let Services { load_balancer, external, cluster, aggregate } = services;
    writeln!(out, "\n[services]")?;
    for (key, ranges) in [("load-balancer", load_balancer), ("external", external), ("cluster", cluster)] {
        writeln!(out, "{key} = {}", array(ranges))?;
    }
    writeln!(out, "aggregate = {aggregate}")
}

fn write_readiness(out: &mut String, readiness: &Readiness) -> fmt::Result {
    let Readiness { uplinks, routes, echo, isolated_for, taint } = readiness;
    writeln!(out, "\n[readiness]\nuplinks = {uplinks}")?;
    match routes {
        RequiredRoutes::Any => writeln!(out, "# routes: any that a neighbor tells of")?,
        RequiredRoutes::Each(routes) => writeln!(out, "routes = {}", array(routes))?,
    }
    writeln!(out, "echo = {echo}\nisolated-for = {}\ntaint = {taint}", in_quotes(show(*isolated_for)))
}

fn array<'p>(prefixes: impl IntoIterator<Item = &'p Prefix>) -> String {
    let prefixes: Vec<_> = prefixes.into_iter().map(in_quotes).collect();
    format!("[{}]", prefixes.join(", "))
}

fn write_neighbor(out: &mut String, neighbor: &Neighbor) -> fmt::Result {
    let Neighbor {
        peer,
        remote_as,
        max_prefixes,
        password_file,
        password: _,
        ttl_security,
        link_local_form,
        router_lifetime,
        damping,
        bfd,
        import,
        export,
        transit,
        allowed_own_as,
    } = neighbor;
    writeln!(out, "\n[[neighbor]]")?;
    match peer {
        NeighborPeer::Interface(name) => writeln!(out, "interface = {}", in_quotes(name))?,
        NeighborPeer::Address(address) => writeln!(out, "address = {}", in_quotes(address))?,
    }
    match remote_as {
        RemoteAs::External => writeln!(out, "remote-as = \"external\"")?,
        RemoteAs::Internal => writeln!(out, "remote-as = \"internal\"")?,
        RemoteAs::Number(number) => writeln!(out, "remote-as = {number}")?,
    }
    writeln!(out, "max-prefixes = {max_prefixes}")?;
    if let Some(path) = password_file {
        writeln!(out, "password-file = {}", in_quotes(path.display()))?;
    }
    writeln!(out, "ttl-security = {ttl_security}")?;
    let octets = match link_local_form {
        LinkLocalForm::Once => 16,
        LinkLocalForm::Twice => 32,
    };
    writeln!(out, "link-local-next-hop-length = {octets}")?;
    writeln!(out, "router-lifetime = {}", in_quotes(show(*router_lifetime)))?;
    writeln!(out, "damping = {}", in_quotes(show(*damping)))?;
    if let Some(bfd) = bfd {
        let interval = in_quotes(show(bfd.interval));
        writeln!(out, "bfd = {{ interval = {interval}, multiplier = {} }}", bfd.multiplier)?;
    }
    for (key, policy) in [("import", import), ("export", export)] {
        if let Some(policy) = policy {
            writeln!(out, "{key} = {}", in_quotes(&policy.name))?;
        }
    }
    let allows_transit = match transit {
        Transit::Never => false,
        Transit::Allowed => true,
    };
    writeln!(out, "allow-transit = {allows_transit}")?;
    writeln!(out, "allowas-in = {allowed_own_as}")
}

fn write_prefix_list(out: &mut String, list: &PrefixList) -> fmt::Result {
    writeln!(out, "\n[[prefix-list]]\nname = {}", in_quotes(list.name().unwrap_or_default()))?;
    writeln!(out, "prefixes = [")?;
    for range in list.ranges() {
        writeln!(out, "    {},", in_quotes(range))?;
    }
    writeln!(out, "]")
}

fn write_policy(out: &mut String, policy: &Policy) -> fmt::Result {
    let Policy { name, rules, default } = policy;
    writeln!(out, "\n[[policy]]\nname = {}", in_quotes(name))?;
    writeln!(out, "default = {}", in_quotes(action_word(*default)))?;
    for rule in rules {
        let RuleText { conditions, actions } = RuleText::of(rule);
        writeln!(out, "\n[[policy.rule]]")?;
        for line in conditions.iter().chain(&actions) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

pub(super) fn in_quotes(text: impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

impl Display for NeighborPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => f.pad(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}
