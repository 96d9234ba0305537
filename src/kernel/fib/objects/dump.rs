//! Taking a dump of all objects for the truth.

use std::collections::BTreeMap;

use bgp::rib::{Gateway, Gateways};

use super::super::nexthop::{Nexthop, ObjectId, Shape};
use super::loans::Growth;
use super::{Group, Member, Objects, Provenance};

impl Objects {
    /// Takes what a complete dump told for the truth; gives the groups that are not there any more.
    pub(in crate::kernel::fib) fn resync(&mut self, dump: &[Nexthop]) -> Vec<ObjectId> {
        self.resync_at = None;
        self.foreign.clear();
        self.surplus.clear();
        let (ours, foreign): (Vec<&Nexthop>, Vec<&Nexthop>) = dump
            .iter()
            .filter(|nexthop| self.concerns(nexthop))
            .partition(|nexthop| nexthop.protocol == self.protocol);
        self.foreign.extend(foreign.iter().map(|nexthop| nexthop.id));
        self.take_members(&ours);
        self.take_groups(&ours)
    }

    fn take_members(&mut self, ours: &[&Nexthop]) {
        self.members.values_mut().for_each(|member| member.is_there = false);
        // The one that we know goes before a duplicate.
        let known = |members: &BTreeMap<Gateway, Member>, id, gateway: &Gateway| {
            members.get(gateway).is_some_and(|member| member.id == id)
        };
        let mut found: Vec<(ObjectId, Gateway)> = ours
            .iter()
            .filter_map(|nexthop| match nexthop.shape {
                Shape::Member(gateway) => Some((nexthop.id, gateway)),
                Shape::Group(_) | Shape::Other => None,
            })
            .collect();
        found.sort_by_key(|(id, gateway)| !known(&self.members, *id, gateway));
        for (id, gateway) in found {
            match self.members.get_mut(&gateway) {
                Some(member) if member.id == id || !member.is_there => {
                    *member = Member { id, is_there: true };
                }
                Some(_) => {
                    self.surplus.insert(id, Some(gateway));
                }
                None => {
                    self.members.insert(gateway, Member { id, is_there: true });
                }
            }
        }
    }

    fn take_groups(&mut self, ours: &[&Nexthop]) -> Vec<ObjectId> {
        let mut gateways: BTreeMap<ObjectId, Gateway> =
            self.members.iter().filter(|(_, m)| m.is_there).map(|(gateway, m)| (m.id, *gateway)).collect();
        gateways.extend(self.surplus.iter().filter_map(|(id, gateway)| Some((*id, (*gateway)?))));
        let before: Vec<ObjectId> =
            self.groups.iter().filter(|(_, group)| !group.has.is_empty()).map(|(id, _)| *id).collect();
        self.groups.values_mut().for_each(|group| group.has.clear());
        for nexthop in ours {
            let members = match &nexthop.shape {
                Shape::Member(_) => continue,
                Shape::Group(ids) => ids.iter().map(|id| gateways.get(id).copied()).collect(),
                Shape::Other => None,
            };
            let Some(mut has) = members.filter(|has: &Gateways| !has.is_empty()) else {
                self.surplus.insert(nexthop.id, None);
                continue;
            };
            has.sort_unstable();
            has.dedup();
            match self.groups.get_mut(&nexthop.id) {
                // Somebody gave it what is not its own: as good as none, and written anew.
                Some(group) if !has.iter().all(|gateway| group.set.contains(gateway)) => {
                    self.surplus.insert(nexthop.id, None);
                }
                Some(group) => group.has = has,
                // It is known by what it has: more is not there to see.
                None => {
                    let set = has.clone();
                    self.by_set.entry(set.clone()).or_insert(nexthop.id);
                    let provenance = Provenance::Found;
                    let group = Group { set, has, provenance, growth: Growth::NotDue, unused_since: None };
                    self.groups.insert(nexthop.id, group);
                }
            }
        }
        before.into_iter().filter(|id| self.groups.get(id).is_none_or(|group| group.has.is_empty())).collect()
    }
}
