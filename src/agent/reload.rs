//! Reload: the file is read again and takes effect whole, or not at all; at once, on trial, or only in words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bgp::net::PeerEvent;
use bgp::policy::{Policy, Transit};
use bgp::rib::PeerConfig;
use bgp::{PeerId, Prefix};
use tracing::{info, warn};

use super::trial::Failure;
use super::{Agent, neighbors};
use crate::cluster;
use crate::config::{self, Config, ConfigError};
use crate::control::{ReloadOrder, api};

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    /// The file cannot be read or is wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// It changes what a running daemon cannot change.
    #[error("{} cannot be changed while the daemon runs: restart it (the kernel's routes stay)", .0.join(", "))]
    NeedsRestart(Vec<&'static str>),
    /// It may be cut off between two lines, or it is meant, and then a stop says so better.
    #[error("no neighbor would be left: stop the daemon, or drain the node, if that is meant")]
    NoNeighborLeft,
}

/// Why nothing was confirmed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NothingToConfirm {
    /// There was no `reload --confirm`, or it was answered.
    #[error("no configuration is on trial")]
    NoTrial,
    /// It is too late.
    #[error("no configuration is on trial any more: {failure}, {ago_s} s ago; the one before it is in use")]
    TooLate {
        /// Why it was left.
        failure: Failure,
        /// Since then.
        ago_s: u64,
    },
}

impl Agent {
    /// Reads the file again. On an error everything stays as it was, and the log says so, whoever asked.
    pub(super) async fn reload(&mut self, order: ReloadOrder) -> Result<api::Done, ReloadError> {
        let outcome = self.try_reload(order).await;
        if let Err(error) = &outcome {
            // Not named "error": what is wrong in a file begins with that word.
            warn!(reason = %error, "reload refused: the configuration stays as it was");
        }
        outcome
    }

    async fn try_reload(&mut self, order: ReloadOrder) -> Result<api::Done, ReloadError> {
        let new = config::load_again(&self.path)?;
        let fixed = needs_restart(&self.config, &new);
        if !fixed.is_empty() {
            return Err(ReloadError::NeedsRestart(fixed));
        }
        if new.neighbors.is_empty() && !self.config.neighbors.is_empty() {
            return Err(ReloadError::NoNeighborLeft);
        }
        let mut details = changes(&self.config, &new);
        let count = match details.len() {
            0 => "no change".to_owned(),
            1 => "1 change".to_owned(),
            n => format!("{n} changes"),
        };
        for prefix in self.defaults_lost_to(&new).await {
            details.push(format!(
                "default route kept: {prefix} would lose its last path, and stays in the kernel as it is"
            ));
        }
        if forgets_the_node(&self.config, &new) {
            details.push(
                "[readiness] goes together with [kubernetes]: what Kubernetes was told of this node stays there; \
                 take out [readiness] first"
                    .to_owned(),
            );
        }
        details.extend(neighbors::without_link(&new, &self.interfaces.borrow()));
        let message = match order {
            ReloadOrder::InWords => format!("a reload would make this of the configuration: {count}"),
            ReloadOrder::AtOnce => {
                self.apply(new.into(), &details).await;
                // Whoever reloads has seen what became of the last one.
                self.trials.confirm();
                format!("configuration reloaded: {count}")
            }
            ReloadOrder::OnTrial(time) => {
                let (before, sessions) = (Arc::clone(&self.config), self.sessions());
                self.apply(new.into(), &details).await;
                let staying = sessions.intersection(&self.sessions()).copied().collect();
                self.trials.begin(before, Instant::now() + time, staying);
                let time_s = time.as_secs();
                format!(
                    "configuration on trial: {count}; it is left again in {time_s} s, or when a session is lost, \
                     unless `bgpctl confirm` comes first"
                )
            }
        };
        Ok(api::Done { message, details })
    }

    /// The default routes whose last path another configuration takes. What the RIB says is true for the moment.
    async fn defaults_lost_to(&self, new: &Config) -> Vec<Prefix> {
        let wanted = neighbors::wanted(new, &self.interfaces.borrow());
        let changes: BTreeMap<PeerId, Option<PeerConfig>> = self
            .neighbors
            .iter()
            .map(|(name, neighbor)| {
                let stays = wanted.get(name).filter(|wanted| {
                    let settings = neighbors::with_rib_config(&neighbor.settings, wanted);
                    neighbors::are_as_good(&config::Neighbor { damping: wanted.damping, ..settings }, wanted)
                });
                (neighbor.peer.id, stays.map(neighbors::rib_config))
            })
            .collect();
        // Without a RIB the agent is about to end.
        self.rib.ask(move |rib| rib.defaults_lost_by(&changes)).await.unwrap_or_default()
    }

    async fn apply(&mut self, new: Arc<Config>, changes: &[String]) {
        if self.config.sysctl != new.sysctl {
            // Every uplink is looked at again.
            self.sysctls_seen.clear();
        }
        self.config = new;
        self.fitness.configure(&self.config);
        let cluster = cluster::Settings::of(&self.config, cluster::name_here);
        self.cluster.settings.send_if_modified(|now| {
            let differs = *now != cluster;
            *now = cluster;
            differs
        });
        // What the file does not speak of any more is no longer kept out of use either.
        let config = &self.config;
        self.drains.retain_neighbors(|name| neighbors::is_configured(name, config));
        self.reconcile().await;
        for change in changes {
            info!(change, "configuration reloaded");
        }
    }

    /// Neighbors whose sessions are established. One that is started anew has another identity.
    fn sessions(&self) -> BTreeSet<PeerId> {
        let up = self.neighbors.values().filter(|neighbor| neighbor.damping.is_up());
        up.map(|neighbor| neighbor.peer.id).collect()
    }

    /// What is on trial is good.
    pub(super) fn confirm(&mut self) -> Result<api::Done, NothingToConfirm> {
        let failed = self.trials.failed().cloned();
        if !self.trials.confirm() {
            return Err(failed.map_or(NothingToConfirm::NoTrial, |(at, failure)| {
                NothingToConfirm::TooLate { failure, ago_s: at.elapsed().as_secs() }
            }));
        }
        info!("the configuration on trial was confirmed");
        Ok(api::Done { message: "the configuration stays".to_owned(), details: Vec::new() })
    }

    /// A session is lost: a configuration on trial may have to do with it.
    pub(super) async fn doubt_trial(&mut self, event: PeerEvent) {
        let neighbor = self.neighbors.iter().find(|(_, neighbor)| neighbor.peer.id == event.peer);
        let Some(name) = neighbor.map(|(name, _)| name.clone()) else { return };
        if let Some(before) = self.trials.lost(event.peer, &name, Instant::now()) {
            self.go_back(before).await;
        }
    }

    /// Leaves a configuration on trial whose time is over.
    pub(super) async fn expire_trial(&mut self) {
        if let Some(before) = self.trials.expired(Instant::now()) {
            self.go_back(before).await;
        }
    }

    async fn go_back(&mut self, before: Arc<Config>) {
        if let Some((_, reason)) = self.trials.failed() {
            let path = self.path.display();
            warn!(%reason, %path, "the configuration on trial is left; the file still has it");
        }
        let changes = changes(&self.config, &before);
        self.apply(before, &changes).await;
    }
}

/// The keys that differ and are fixed for the life of the process.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let rows = [
        ("bgp.local-as", old.bgp.local_as != new.bgp.local_as),
        ("bgp.router-id", old.bgp.router_id != new.bgp.router_id),
        ("bgp.keepalive", old.bgp.keepalive != new.bgp.keepalive),
        ("bgp.hold-time", old.bgp.hold_time != new.bgp.hold_time),
        ("bgp.graceful-restart", old.bgp.graceful_restart != new.bgp.graceful_restart),
        ("bgp.stale-time", old.bgp.stale_time != new.bgp.stale_time),
        ("fib", old.fib != new.fib),
        ("control", old.control != new.control),
    ];
    rows.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

/// What a reload is about to do, a line each.
fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for block in &new.pods.static_blocks {
        if !old.pods.static_blocks.contains(block) {
            lines.push(format!("block {block} added"));
        }
    }
    for block in &old.pods.static_blocks {
        if !new.pods.static_blocks.contains(block) {
            lines.push(format!("block {block} removed"));
        }
    }
    lines.extend(cluster_changes(old, new));
    lines.extend(policy_changes(&old.policies, &new.policies));
    for neighbor in &new.neighbors {
        match old.neighbors.iter().find(|before| before.peer == neighbor.peer) {
            None => lines.push(format!("neighbor {} added", neighbor.peer)),
            Some(before) if before == neighbor => {}
            Some(before) if is_kept(before, neighbor) => {
                lines.extend(rib_changes(before, neighbor));
                if before.bfd != neighbor.bfd {
                    lines.push(format!("neighbor {}: bfd is {}", neighbor.peer, bfd(neighbor)));
                }
            }
            Some(_) => lines.push(format!("neighbor {} changed: its sessions start anew", neighbor.peer)),
        }
    }
    for neighbor in &old.neighbors {
        if !new.neighbors.iter().any(|after| after.peer == neighbor.peer) {
            lines.push(format!("neighbor {} removed", neighbor.peer));
        }
    }
    if old.loopback != new.loopback {
        lines.push("loopback changed".to_owned());
    }
    if old.sysctl != new.sysctl {
        lines.push("sysctl.manage changed".to_owned());
    }
    lines
}

/// What comes from Kubernetes: each table that came, went or changed.
fn cluster_changes(old: &Config, new: &Config) -> impl Iterator<Item = String> {
    fn row<T: PartialEq>(table: &str, old: Option<&T>, new: Option<&T>) -> Option<String> {
        let what = match (old, new) {
            (None, None) => return None,
            (None, Some(_)) => "added",
            (Some(_), None) => "removed",
            (Some(old), Some(new)) if old == new => return None,
            (Some(_), Some(_)) => "changed",
        };
        Some(format!("[{table}] {what}"))
    }
    let rows = [
        row("kubernetes", old.kubernetes.as_ref(), new.kubernetes.as_ref()),
        row("pods.node", old.pods.node_cidrs.as_ref(), new.pods.node_cidrs.as_ref()),
        row("pods.calico", old.pods.calico.as_ref(), new.pods.calico.as_ref()),
        row("services", old.services.as_ref(), new.services.as_ref()),
        row("readiness", old.readiness.as_ref(), new.readiness.as_ref()),
        row("drain", Some(&old.drain), Some(&new.drain)),
        row("cni", old.cni.as_ref(), new.cni.as_ref()),
    ];
    rows.into_iter().flatten()
}

/// Whether sessions go on: what differs needs no new one.
fn is_kept(before: &config::Neighbor, after: &config::Neighbor) -> bool {
    config::Neighbor { bfd: after.bfd, ..neighbors::with_rib_config(before, after) } == *after
}

/// Whose rules differ; a prefix list that is another one makes the policies differ that name it.
fn policy_changes(old: &[Arc<Policy>], new: &[Arc<Policy>]) -> Vec<String> {
    let named = |policies: &[Arc<Policy>]| -> BTreeMap<String, Arc<Policy>> {
        policies.iter().map(|policy| (policy.name.clone(), Arc::clone(policy))).collect()
    };
    let (old, new) = (named(old), named(new));
    let mut lines = Vec::new();
    for (name, policy) in &new {
        match old.get(name) {
            None => lines.push(format!("policy {name} added")),
            Some(before) if before == policy => {}
            Some(_) => lines.push(format!("policy {name} changed")),
        }
    }
    lines.extend(
        old.keys().filter(|name| !new.contains_key(*name)).map(|name| format!("policy {name} removed")),
    );
    lines
}

/// What the RIB is told of a neighbor whose session stays.
fn rib_changes(before: &config::Neighbor, after: &config::Neighbor) -> Vec<String> {
    let name = |policy: &Option<Arc<Policy>>| {
        policy.as_ref().map_or_else(|| "that of the guard alone".to_owned(), |policy| policy.name.clone())
    };
    let words = |neighbor: &config::Neighbor| {
        [
            ("max-prefixes", neighbor.max_prefixes.to_string()),
            ("import", name(&neighbor.import)),
            ("export", name(&neighbor.export)),
            ("allow-transit", (neighbor.transit == Transit::Allowed).to_string()),
            ("allowas-in", neighbor.allowed_own_as.to_string()),
        ]
    };
    let pairs = words(before).into_iter().zip(words(after));
    pairs
        .filter(|(before, after)| before != after)
        .map(|(_, (key, value))| format!("neighbor {}: {key} is {value}", after.peer))
        .collect()
}

fn bfd(neighbor: &config::Neighbor) -> String {
    neighbor.bfd.map_or_else(
        || "off".to_owned(),
        |bfd| format!("{} x {} ms", bfd.multiplier, bfd.interval.as_millis()),
    )
}

/// Whether nobody will be left to take back what Kubernetes was told.
fn forgets_the_node(before: &Config, new: &Config) -> bool {
    let told = before.kubernetes.is_some() && before.readiness.is_some();
    told && new.kubernetes.is_none() && new.readiness.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "[bgp]\nlocal-as = 65001\nrouter-id = \"1.1.1.1\"\n";

    fn config(rest: &str) -> Config {
        config::parse(&format!("{BASE}{rest}"), "test.toml").unwrap()
    }

    #[test]
    fn what_a_running_daemon_cannot_change_is_named() {
        let old = config("");
        assert!(needs_restart(&old, &config("[pods.static]\nblocks = [\"10.0.0.0/26\"]\n")).is_empty());
        assert_eq!(needs_restart(&old, &config("[fib]\nmetric = 30\n")), ["fib"]);
        let other = config::parse("[bgp]\nlocal-as = 65002\nrouter-id = \"1.1.1.2\"\n", "test.toml").unwrap();
        assert_eq!(needs_restart(&old, &other), ["bgp.local-as", "bgp.router-id"]);
    }

    #[test]
    fn changes_are_listed_by_what_they_touch() {
        let old = config(
            "[[neighbor]]\ninterface = \"eth*\"\n[[neighbor]]\ninterface = \"ens*\"\n[[neighbor]]\ninterface = \"eno1\"\n[[neighbor]]\naddress = \"192.0.2.1\"\n[pods.static]\nblocks = [\"10.0.0.0/26\"]\n",
        );
        let new = config(
            "[[neighbor]]\ninterface = \"eth*\"\nmax-prefixes = 5\n[[neighbor]]\ninterface = \"ens*\"\nmax-prefixes = 5\nttl-security = true\n[[neighbor]]\ninterface = \"eno1\"\nbfd = {}\n[pods.static]\nblocks = [\"10.0.0.64/26\"]\n",
        );
        assert_eq!(
            changes(&old, &new),
            [
                "block 10.0.0.64/26 added",
                "block 10.0.0.0/26 removed",
                "neighbor eth*: max-prefixes is 5",
                "neighbor ens* changed: its sessions start anew",
                "neighbor eno1: bfd is 3 x 300 ms",
                "neighbor 192.0.2.1 removed",
            ]
        );
        assert!(changes(&old, &old).is_empty());
    }

    #[test]
    fn policies_change_without_a_new_session() {
        let file = |ranges: &str, extra: &str, keys: &str| {
            config(&format!(
                "[[prefix-list]]\nname = \"fabric\"\nprefixes = [{ranges}]\n\
                 [[policy]]\nname = \"in\"\n[[policy.rule]]\nprefix-list = \"fabric\"\naction = \"accept\"\n\
                 {extra}[[neighbor]]\ninterface = \"eth*\"\n{keys}"
            ))
        };
        let old = file("\"10.0.0.0/8\"", "[[policy]]\nname = \"gone\"\n", "import = \"in\"\n");
        let new = file(
            "\"10.0.0.0/8 le 24\"",
            "[[policy]]\nname = \"out\"\n",
            "import = \"in\"\nexport = \"out\"\nallow-transit = true\nallowas-in = 2\n",
        );
        assert_eq!(
            changes(&old, &new),
            [
                "policy in changed",
                "policy out added",
                "policy gone removed",
                "neighbor eth*: export is out",
                "neighbor eth*: allow-transit is true",
                "neighbor eth*: allowas-in is 2",
            ]
        );
        let back = changes(&new, &old);
        assert!(back.contains(&"neighbor eth*: export is that of the guard alone".to_owned()), "{back:?}");
        for (before, after) in [(&old, &new), (&new, &old)] {
            let (before, after) = (&before.neighbors[0], &after.neighbors[0]);
            assert!(is_kept(before, after));
            assert!(neighbors::are_as_good(&neighbors::with_rib_config(before, after), after));
        }
    }
}
