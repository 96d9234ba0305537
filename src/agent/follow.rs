//! How the tasks follow the snapshots: what is originated, which neighbors there are, and where each can be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bgp::net::{Peer, PeerChange, PeerCommand, PeerEvent, PeerSettings, Target};
use bgp::rib::Gateway;
use bgp::session::{Cause, Stop};
use bgp::{Families, PeerId};
use tracing::{debug, info, warn};

use super::damping::Damping;
use super::liveness::Liveness;
use super::neighbors::{self, NeighborName, Obstacle};
use super::origin::Origin;
use super::{Agent, Neighbor, origin};
use crate::cluster::{Desired, cni};
use crate::config::{self, Config};
use crate::drain::Wanted;
use crate::kernel::interfaces::{Interface, Interfaces};
use crate::kernel::sysctl;
use crate::nd::Uplinks;

impl Agent {
    /// Makes every task follow the present snapshots. Doing it twice changes nothing.
    pub(super) async fn reconcile(&mut self) {
        let interfaces = self.interfaces.borrow_and_update().clone();
        self.originate(&interfaces).await;
        self.tell_of_lost_links(&interfaces).await;

        let wanted = neighbors::wanted(&self.config, &interfaces);
        self.change_rib_configs(&wanted).await;
        self.remove_unwanted(&wanted, &interfaces);
        for (name, settings) in &wanted {
            match self.neighbors.get_mut(name) {
                // Perhaps another entry of the file that says the same; or BFD, which changes no session.
                Some(neighbor) => {
                    neighbor.settings.peer.clone_from(&settings.peer);
                    neighbor.settings.bfd = settings.bfd;
                }
                None => self.add(name, settings, &interfaces),
            }
        }
        let links = wanted.keys().filter_map(|name| neighbors::interface_of(name, &interfaces));
        self.kept_links.follow(links);
        // Before they are told where their peers are: no session begins unmarked.
        self.follow_drains().await;
        self.expect_neighbors().await;

        let uplinks = Arc::new(neighbors::uplinks(&wanted, &interfaces));
        self.look_at_sysctls(&uplinks);
        // What was learnt on a link that went away is not true of the one that comes back.
        self.routers.retain(|index, _| uplinks.get(index).is_some_and(|uplink| uplink.running));
        self.change_lost_gateways(|lost| {
            let before = lost.len();
            lost.retain(|gateway| {
                gateway.interface.is_some_and(|index| interfaces.by_index.contains_key(&index))
            });
            lost.len() != before
        });
        self.uplinks.send_if_modified(|now| replace_if_changed(now, uplinks));
        let admission = neighbors::admission(&wanted, &interfaces);
        self.admission.send_if_modified(|now| replace_if_changed(now, admission));
        self.retarget(&interfaces).await;
    }

    /// Tells the RIB whose End-of-RIB completes the first convergence, where that has changed.
    async fn expect_neighbors(&mut self) {
        let has_session = |neighbor: &&Neighbor| match neighbor.used {
            Wanted::Session(_) => true,
            Wanted::NoSession(_) => false,
        };
        let peers = self.neighbors.values().filter(has_session);
        let peers: BTreeSet<PeerId> = peers.map(|neighbor| neighbor.peer.id).collect();
        if peers == self.expected {
            return;
        }
        if self.rib.expect(peers.clone()).await.is_err() {
            debug!("the RIB is gone: the agent is about to end");
        }
        self.expected = peers;
    }

    /// Tells the RIB which links do not run any more: it may still rely on one of which no neighbor speaks.
    async fn tell_of_lost_links(&mut self, interfaces: &Arc<Interfaces>) {
        let before = std::mem::replace(&mut self.links_before, Arc::clone(interfaces));
        let lost = neighbors::lost_links(&before, interfaces);
        if !lost.is_empty() && self.rib.links_lost(lost).await.is_err() {
            debug!("the RIB is gone: the agent is about to end");
        }
    }

    /// Makes RIB and FIB follow what is to be originated.
    pub(super) async fn originate(&mut self, interfaces: &Interfaces) {
        let cluster = self.cluster.known.borrow_and_update().clone();
        self.connect_pods(interfaces, &cluster.desired);
        let origin = origin::origin(&self.config, interfaces, &cluster);
        if origin == self.origin {
            return;
        }
        let before = std::mem::replace(&mut self.origin, origin);
        let Origin { announced, connected, hosts, local } = &self.origin;
        if before.local != *local {
            self.local_routes.send_replace(Arc::new(local.clone()));
        }
        let mut told = Ok(());
        // While a block lends, the RIB knows the pods: it hears of them before, and that nobody follows them behind it.
        if before.hosts != *hosts && !hosts.is_empty() {
            told = told.and(self.rib.connect_hosts(Arc::clone(hosts)).await);
        }
        if before.announced != *announced {
            told = told.and(self.rib.originate(announced.clone()).await);
        }
        if before.hosts != *hosts && hosts.is_empty() {
            told = told.and(self.rib.connect_hosts(Arc::clone(hosts)).await);
        }
        if before.connected != *connected {
            told = told.and(self.rib.connect(connected.clone()).await);
        }
        if told.is_err() {
            debug!("the RIB is gone: the agent is about to end");
        }
    }

    /// Tells runtimes what pods get, where the file says so. Of a node without uplinks the size of packets is not known.
    fn connect_pods(&self, interfaces: &Interfaces, desired: &Desired) {
        let wanted = neighbors::wanted(&self.config, interfaces);
        let links = wanted.keys().filter_map(|name| neighbors::interface_of(name, interfaces));
        let mtu = links.map(|link| link.mtu).min();
        let file = mtu.and_then(|mtu| cni::File::of(&self.config, desired, mtu));
        self.cluster.conflist.send_if_modified(|now| replace_if_changed(now, file));
    }

    fn add(&mut self, name: &NeighborName, settings: &config::Neighbor, interfaces: &Interfaces) {
        // Said once, as the neighbor stays while its interface comes and goes: perhaps the name is misspelt.
        if let NeighborName::Interface(interface) = name
            && interfaces.by_name(interface).is_none()
        {
            warn!("neighbor {name} waits for interface {interface}, which does not exist");
        }
        let id = PeerId(self.next_peer);
        self.next_peer += 1;
        let inherited = self.inherited_for_a_new_neighbor(name, interfaces);
        let peer_settings = PeerSettings {
            name: name.to_string(),
            id,
            session: neighbors::session_config(name, settings, &self.config, self.router_id, inherited),
            rib: neighbors::rib_config(settings),
            events: self.session_events.clone(),
        };
        let peer = Peer::spawn(peer_settings, self.rib.clone());
        let neighbor = Neighbor {
            settings: settings.clone(),
            peer,
            target: None,
            used: Wanted::default(),
            damping: Damping::new(settings.damping, fastrand::u64(..)),
            liveness: Liveness::default(),
        };
        self.neighbors.insert(name.clone(), neighbor);
    }

    /// A neighbor that is made long after the start, by a reload or since its interface came, is not told of a
    /// restart: R bit and its consequences (RFC 4724 section 4) are over with the restart time. One whose link was lost
    /// meanwhile is told that nothing was kept: its kernel has lost the way here, and FRR 8.4 would not write it again
    /// for routes that it has all along.
    fn inherited_for_a_new_neighbor(&self, name: &NeighborName, interfaces: &Interfaces) -> Families {
        let link = neighbors::interface_of(name, interfaces);
        let is_unbroken = link.is_none_or(|link| self.kept_links.is_unbroken(link));
        match self.config.bgp.graceful_restart {
            Some(restart_time) if self.started.elapsed() < restart_time && is_unbroken => self.inherited,
            Some(_) | None => Families::NONE,
        }
    }

    /// Another limit or policy needs no other session: a reset would cost the routes that an operator is about to make
    /// room for, and the RIB has all that it needs to judge what was received anew.
    async fn change_rib_configs(&mut self, wanted: &BTreeMap<NeighborName, config::Neighbor>) {
        for (name, neighbor) in &mut self.neighbors {
            let Some(wanted) = wanted.get(name) else { continue };
            neighbor.settings.damping = wanted.damping;
            neighbor.damping.configure(wanted.damping);
            let config = neighbors::rib_config(wanted);
            if neighbors::rib_config(&neighbor.settings) != config {
                neighbor.settings = neighbors::with_rib_config(&neighbor.settings, wanted);
                neighbor.peer.send(PeerCommand::Configure(config)).await;
            }
        }
    }

    /// Ends what is no longer configured, or is configured in another way: with a NOTIFICATION, in a task of its
    /// own, since a peer may be slow to take it.
    fn remove_unwanted(
        &mut self,
        wanted: &BTreeMap<NeighborName, config::Neighbor>,
        interfaces: &Interfaces,
    ) {
        let gone = self.neighbors.extract_if(.., |name, neighbor| match wanted.get(name) {
            Some(settings) => !neighbors::are_as_good(&neighbor.settings, settings),
            None => true,
        });
        for (name, neighbor) in gone {
            let removal = Removal::of(&name, &self.config, wanted);
            info!(neighbor = %name, reason = %removal, "neighbor removed");
            let link = neighbors::interface_of(&name, interfaces).map(Interface::is_running);
            let is_cut_off = matches!(removal, Removal::InterfaceGone(_)) || link == Some(false);
            self.leaving.spawn(async move {
                if is_cut_off {
                    // Nobody can be told anything there, and nothing that it gave is to be kept.
                    neighbor.peer.send(PeerCommand::Target(None)).await;
                }
                neighbor.peer.shutdown(Stop::Notify(neighbors::deconfigured())).await;
            });
        }
    }

    /// Looks at the sysctls that the job depends on, whenever an uplink appears that was not there before: sets
    /// them where the file says so, else says what is wrong.
    fn look_at_sysctls(&mut self, uplinks: &Uplinks) {
        self.sysctls_seen.retain(|index| uplinks.contains_key(index));
        let new: Vec<&str> = uplinks
            .iter()
            .filter(|(index, _)| self.sysctls_seen.insert(**index))
            .map(|(_, uplink)| uplink.name.as_str())
            .collect();
        if new.is_empty() {
            return;
        }
        let root = Path::new(sysctl::ROOT);
        let manage = self.config.sysctl.manage;
        let findings = if manage { sysctl::apply(&new, root) } else { sysctl::check(&new, root) };
        for finding in findings {
            warn!("{finding}");
        }
    }

    /// Keeps count of the sessions that do not last.
    pub(super) fn note_steadiness(&mut self, event: PeerEvent) {
        let found = self.neighbors.iter_mut().find(|(_, neighbor)| neighbor.peer.id == event.peer);
        let Some((name, Neighbor { damping, .. })) = found else { return };
        let now = Instant::now();
        let cause = match event.change {
            PeerChange::Up { .. } => return damping.up(now),
            PeerChange::Down { cause, .. } => cause,
            PeerChange::Left => {
                let link = neighbors::interface_of(name, &self.interfaces.borrow()).map(|link| link.admin_up);
                // Our operator has set the link down, or packets do not get through it.
                if link == Some(false) { Cause::Ours } else { Cause::Failure }
            }
            // What follows a restart says whether the session lasted.
            PeerChange::Restarting | PeerChange::Unreachable { .. } | PeerChange::Failed => return,
        };
        damping.down(cause, now);
        if let Some(until) = damping.held_until() {
            let (flaps, time) = (damping.flaps(), until.duration_since(now));
            warn!(neighbor = %name, flaps, ?time, "the sessions do not last: held back while there is another");
        }
    }

    /// Damping may hold back a neighbor from now on, and no longer the last one that is left.
    pub(super) async fn hold_back(&mut self) {
        let interfaces = self.interfaces.borrow().clone();
        self.retarget(&interfaces).await;
    }

    /// An operator who clears a neighbor wants its session now. One that is held back is known by its name alone.
    pub(super) async fn forgive(&mut self, selector: &str) {
        let found = self.neighbors.iter_mut().find(|(name, _)| name.to_string() == selector);
        let Some((_, neighbor)) = found else { return };
        neighbor.damping.forgive();
        let interfaces = self.interfaces.borrow().clone();
        self.retarget(&interfaces).await;
    }

    /// When the next neighbor may be tried again that is held back; [`Self::retarget`] lets it go.
    pub(super) fn next_release(&self) -> Option<Instant> {
        self.neighbors.values().filter_map(|neighbor| neighbor.damping.held_until()).min()
    }

    /// Whether a neighbor is to be left alone for now. One that is the last is not: a session that does not last is
    /// better than none. One that is being drained, or comes back, is none to rely on.
    fn is_held_back(&self, name: &NeighborName) -> bool {
        let is_held = |neighbor: &Neighbor| neighbor.damping.held_until().is_some();
        let is_relied_on = |other: &Neighbor| other.damping.is_up() && other.used == Wanted::default();
        let mut others = self.neighbors.iter().filter(|(other, _)| *other != name);
        self.neighbors.get(name).is_some_and(is_held) && others.any(|(_, other)| is_relied_on(other))
    }

    /// Tells each neighbor's task where its peer is now.
    pub(super) async fn retarget(&mut self, interfaces: &Interfaces) {
        let now = Instant::now();
        self.neighbors.values_mut().for_each(|neighbor| neighbor.damping.release(now));
        let held_back: BTreeSet<_> =
            self.neighbors.keys().filter(|name| self.is_held_back(name)).cloned().collect();
        let mut gone = Vec::new();
        for (name, neighbor) in &mut self.neighbors {
            let target = neighbors::target(name, &neighbor.settings, &self.config, interfaces, &self.routers);
            neighbor.liveness.find(target.as_ref().ok());
            let target = if held_back.contains(name) { target.and(Err(Obstacle::HeldBack)) } else { target };
            log_reachability(name, neighbor.target.as_ref(), target.as_ref());
            let target = target.ok();
            if target != neighbor.target {
                let before = neighbor.target.as_ref().and_then(on_link);
                gone.extend(before.filter(|before| target.as_ref().and_then(on_link) != Some(*before)));
                neighbor.target.clone_from(&target);
                neighbor.peer.send(PeerCommand::Target(target)).await;
            }
        }
        // A session ends with the way to the neighbor, and the task that ends it does not say so.
        self.change_lost_gateways(|lost| {
            let before = lost.len();
            lost.extend(gone);
            lost.len() != before
        });
        self.watch_neighbors(interfaces).await;
    }
}

/// Why a neighbor has its task no longer.
#[derive(Debug, thiserror::Error)]
enum Removal {
    /// Its interface matched a glob.
    #[error("interface {0} is gone")]
    InterfaceGone(String),
    #[error("no longer configured")]
    NotConfigured,
    #[error("configured differently: its session starts anew")]
    Changed,
}

impl Removal {
    fn of(name: &NeighborName, config: &Config, wanted: &BTreeMap<NeighborName, config::Neighbor>) -> Self {
        match name {
            _ if wanted.contains_key(name) => Self::Changed,
            NeighborName::Interface(interface) if config.neighbor_for_interface(interface).is_some() => {
                Self::InterfaceGone(interface.clone())
            }
            NeighborName::Interface(_) | NeighborName::Address(_) => Self::NotConfigured,
        }
    }
}

/// The next hop of a neighbor on a link.
fn on_link(target: &Target) -> Option<Gateway> {
    let interface = target.interface.as_ref()?.index;
    Some(Gateway { address: target.remote.ip(), interface: Some(interface) })
}

/// Says once that a neighbor cannot be reached any more, and why, and once that it can be again.
fn log_reachability(name: &NeighborName, before: Option<&Target>, now: Result<&Target, &Obstacle>) {
    match (before.map(|target| target.remote.ip()), now) {
        (Some(_), Err(reason)) => info!(neighbor = %name, %reason, "neighbor cannot be reached"),
        (None, Ok(target)) => {
            info!(neighbor = %name, remote = %target.remote.ip(), "neighbor can be reached");
        }
        (Some(before), Ok(target)) if before != target.remote.ip() => {
            info!(neighbor = %name, remote = %target.remote.ip(), %before, "neighbor has another address");
        }
        (Some(_), Ok(_)) | (None, Err(_)) => {}
    }
}

fn replace_if_changed<T: PartialEq>(now: &mut T, new: T) -> bool {
    let changed = *now != new;
    if changed {
        *now = new;
    }
    changed
}
