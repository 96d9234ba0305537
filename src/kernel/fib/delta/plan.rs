//! What follows for whole sets and cases from links, sessions and objects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bgp::InterfaceIndex;
use bgp::rib::{Gateway, Gateways};

use super::super::nexthop::{Nexthop, ObjectId};
use super::super::objects::{Fate, ObjectOperation, Situation, Users};
use super::super::route::{is_gateway, same_gateways};
use super::super::table::{Case, Cursor, Image, Local, Origin, SetId};
use super::super::{Carrier, NexthopObjects, NoObjects, Notice};
use super::{Delta, Walk};
use crate::kernel::netlink::KernelError;

/// Sets that may be kept for nothing.
const IDLE_SETS: usize = 64;

/// What a set of next hops comes to at present.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Those that can be reached.
    living: Gateways,
    way: PlannedWay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlannedWay {
    /// No next hop that the kernel would take.
    Nowhere,
    InLine(SetId),
    Object(ObjectId),
    /// Over an object that is not there yet.
    Awaited,
}

/// What is to be done at the keys of a case, where there is no trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is as it should be.
    Rest,
    /// It is not, and nothing can be written now.
    Wait,
    Write(Image),
    Delete,
}

impl Verdict {
    pub(super) fn is_action(self) -> bool {
        match self {
            Self::Rest | Self::Wait => false,
            Self::Write(_) | Self::Delete => true,
        }
    }
}

impl Delta {
    pub(super) fn verdict(&self, case: &Case) -> Verdict {
        let wanted = match (case.local, case.learned) {
            (Local::Blackhole, _) => Image::Blackhole { source: None },
            (Local::Nothing, Some(set)) => return self.verdict_on_set(set, case),
            (Local::Nothing, None) => {
                return match (case.installed, case.origin) {
                    (None, _) | (Some(_), Origin::Inherited) => Verdict::Rest,
                    (Some(_), Origin::Asked) => Verdict::Delete,
                };
            }
        };
        if case.installed == Some(wanted) { Verdict::Rest } else { Verdict::Write(wanted) }
    }

    fn verdict_on_set(&self, set: SetId, case: &Case) -> Verdict {
        let Some(plan) = self.plans.get(set) else { return Verdict::Wait };
        if self.is_kept(&plan.living, case) {
            return Verdict::Rest;
        }
        let source = self.source(case.family);
        let way = match plan.way {
            PlannedWay::Nowhere if case.installed.is_some() => return Verdict::Delete,
            PlannedWay::Nowhere => return Verdict::Wait,
            way => way,
        };
        let is_as_wanted = match (case.installed, way) {
            (Some(Image::Object { id, source: has }), PlannedWay::Object(_) | PlannedWay::Awaited) => {
                let gateways = self.table.sets.get(set);
                has == source
                    && (way == PlannedWay::Object(id)
                        || gateways.is_some_and(|set| self.objects.serves(id, set, &plan.living)))
            }
            (Some(Image::InLine { set: has, source: from }), PlannedWay::InLine(wants)) => {
                let [has_gateways, wants_gateways] = [has, wants].map(|set| self.table.sets.gateways(set));
                from == source && (has == wants || same_gateways(has_gateways, wants_gateways))
            }
            _ => false,
        };
        match way {
            _ if is_as_wanted => Verdict::Rest,
            PlannedWay::InLine(set) => Verdict::Write(Image::InLine { set, source }),
            PlannedWay::Object(id) => Verdict::Write(Image::Object { id, source }),
            PlannedWay::Awaited | PlannedWay::Nowhere => Verdict::Wait,
        }
    }

    /// Whether an inherited route does all that is wanted of it so far, over next hops that live. If none of
    /// those wanted lives, one that nobody has confirmed is better than none.
    fn is_kept(&self, wanted: &Gateways, case: &Case) -> bool {
        let (Some(installed), Origin::Inherited) = (case.installed, case.origin) else { return false };
        let there = self.legs(installed);
        let has = |wanted: &Gateway| there.iter().any(|there| is_gateway(there, wanted));
        if wanted.is_empty() {
            return there.iter().any(|gateway| self.reach.is_alive(gateway));
        }
        wanted.iter().all(has) && there.iter().all(|gateway| self.reach.is_alive(gateway))
    }

    /// The next hops that a route of ours has at present; empty for one that forwards nothing.
    pub(super) fn legs(&self, image: Image) -> &[Gateway] {
        match image {
            Image::InLine { set, .. } => self.table.sets.gateways(set),
            Image::Object { id, .. } => self.objects.members_of(id),
            Image::Blackhole { .. } | Image::Irregular | Image::Several => &[],
        }
    }

    /// The next hops that a wanted route shows: those that can be reached, or all where none can.
    pub(super) fn shown(&self, set: SetId) -> Gateways {
        let all = || self.table.sets.get(set).cloned().unwrap_or_default();
        match self.plans.get(set) {
            Some(Plan { way: PlannedWay::InLine(usable), .. }) => {
                self.table.sets.get(*usable).cloned().unwrap_or_else(all)
            }
            Some(Plan { living, way: PlannedWay::Object(_) | PlannedWay::Awaited }) => living.clone(),
            Some(Plan { way: PlannedWay::Nowhere, .. }) | None => all(),
        }
    }

    /// Makes the plan of a set that has none.
    pub(super) fn plan(&mut self, set: SetId) {
        if self.plans.get(set).is_some() {
            return;
        }
        let Some(gateways) = self.table.sets.get(set).cloned() else { return };
        let living = self.reach.living(&gateways);
        let on_links = gateways.iter().all(|gateway| gateway.interface.is_some());
        let way = match self.carrier {
            Carrier::Objects if on_links => match self.objects.group_of(&gateways) {
                _ if living.is_empty() => PlannedWay::Nowhere,
                Some(id) => PlannedWay::Object(id),
                None => PlannedWay::Awaited,
            },
            Carrier::Objects | Carrier::Off | Carrier::InLine(_) => match self.reach.usable(&gateways) {
                None => PlannedWay::Nowhere,
                Some(usable) => PlannedWay::InLine(self.table.sets.intern(&usable)),
            },
        };
        self.plans.insert(set, Plan { living, way });
    }

    /// Makes all plans anew after a change of what they follow from, and looks for routes that need a write.
    pub(super) fn refresh(&mut self) {
        if !std::mem::take(&mut self.plans_are_stale) {
            return;
        }
        self.plans.clear();
        self.forget_sets();
        let learned: BTreeSet<SetId> = self.table.cases().filter_map(|(case, _)| case.learned).collect();
        for set in learned {
            self.plan(set);
        }
        let needs_a_walk =
            self.table.cases().any(|(case, _)| self.verdict(case).is_action() || case.is_nothing());
        if needs_a_walk {
            self.walk = match self.walk {
                Walk::Resting | Walk::At(Cursor::START) => Walk::At(Cursor::START),
                Walk::At(cursor) | Walk::Twice(cursor) => Walk::Twice(cursor),
            };
        }
    }

    fn forget_sets(&mut self) {
        let mut used = BTreeSet::new();
        for (case, _) in self.table.cases() {
            used.extend(case.learned);
            if let Some(Image::InLine { set, .. }) = case.installed {
                used.insert(set);
            }
        }
        if self.table.sets.len() > 2 * used.len() + IDLE_SETS {
            self.table.sets.retain(|set| used.contains(&set));
        }
    }

    /// Changes to objects that go before any route; each is to be answered by [`Self::object_completed`] before the
    /// next call.
    pub(in crate::kernel::fib) fn poll_objects(&mut self, now: Instant) -> Vec<ObjectOperation> {
        if !self.is_known() {
            return Vec::new();
        }
        self.refresh();
        let deadline = self.objects.deadline().into_iter().chain(self.sweep_at).min();
        if !self.objects_are_due && deadline.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.objects_are_due = false;
        self.sweep_at.take_if(|at| *at <= now);
        let situation = self.situation();
        let operations = self.objects.poll(&situation, now);
        self.objects_are_due |= self.objects.take_called_in();
        // A loan may have been called in.
        self.plans_are_stale = true;
        self.face_trouble();
        operations
    }

    fn situation(&self) -> Situation {
        let mut situation = Situation {
            awaited: Vec::new(),
            wanted: BTreeSet::new(),
            used: BTreeMap::new(),
            reach: self.reach.clone(),
            is_converged: self.converged,
            in_use: self.carrier == Carrier::Objects,
        };
        let mut awaited = BTreeSet::new();
        for (case, routes) in self.table.cases() {
            let learned = case.learned.filter(|_| case.local == Local::Nothing);
            let set = learned.and_then(|set| self.table.sets.get(set));
            situation.wanted.extend(set.cloned());
            if let Some(Image::Object { id, .. }) = case.installed {
                let users: &mut Users = situation.used.entry(id).or_default();
                match set {
                    Some(set) => *users.by_set.entry(set.clone()).or_default() += routes,
                    None if case.origin == Origin::Inherited => users.unasked += routes,
                    None => {}
                }
            }
            let plan = learned.and_then(|set| self.plans.get(set));
            if plan.is_some_and(|plan| plan.way == PlannedWay::Awaited) && self.verdict(case) == Verdict::Wait
            {
                awaited.extend(set);
            }
        }
        situation.awaited = awaited.into_iter().cloned().collect();
        situation
    }

    /// The kernel's answer to a change of an object.
    pub(in crate::kernel::fib) fn object_completed(
        &mut self,
        operation: &ObjectOperation,
        result: Result<(), KernelError>,
        now: Instant,
    ) {
        let gone = self.objects.completed(operation, result, now);
        self.groups_are_gone(&gone);
        self.face_trouble();
    }

    /// What a dump told of the objects.
    pub(in crate::kernel::fib) fn resync_objects(&mut self, dump: &[Nexthop]) {
        let gone = self.objects.resync(dump);
        self.groups_are_gone(&gone);
    }

    /// When the kernel's objects alone are to be read again: they are few.
    pub(in crate::kernel::fib) fn objects_resync_at(&self) -> Option<Instant> {
        self.objects.resync_at()
    }

    /// What another program did to an object.
    pub(in crate::kernel::fib) fn observe_object(&mut self, nexthop: &Nexthop, fate: Fate, now: Instant) {
        if self.objects.concerns(nexthop) {
            let gone = self.objects.disturbed(nexthop, fate, now);
            self.groups_are_gone(&gone);
            self.face_trouble();
        }
    }

    /// A link changed. The kernel takes objects with it, and routes with these, and says nothing.
    pub(in crate::kernel::fib) fn link_changed(&mut self, index: InterfaceIndex, now: Instant) {
        if self.objects.goes_over(index) {
            self.objects.resync_after(std::time::Duration::ZERO, now);
        }
    }

    /// The kernel has taken the routes of these groups.
    fn groups_are_gone(&mut self, gone: &[ObjectId]) {
        if !gone.is_empty() {
            self.table.change_all(|case| {
                if let Some(Image::Object { id, .. }) = case.installed
                    && gone.contains(&id)
                {
                    case.installed = None;
                }
            });
        }
        self.look_again();
    }

    /// Objects cannot be had: next hops go into the routes, unless the operator will have it otherwise.
    fn face_trouble(&mut self) {
        let Some(reason) = self.objects.take_trouble() else { return };
        match (self.configured, self.carrier) {
            (NexthopObjects::Auto, Carrier::Objects) => self.fall_back(reason),
            (NexthopObjects::Auto | NexthopObjects::On | NexthopObjects::Off, _) => {
                tracing::debug!(%reason, "trouble with nexthop objects");
            }
        }
    }

    fn fall_back(&mut self, reason: NoObjects) {
        self.carrier = Carrier::InLine(reason);
        self.notices.push(Notice::NoObjects { reason });
        self.look_again();
    }

    /// The kernel does not know objects at all.
    pub(in crate::kernel::fib) fn objects_unknown(&mut self, error: &KernelError) {
        self.objects.resync(&[]);
        if self.carrier == Carrier::Objects {
            self.fall_back(NoObjects::Refused { errno: error.errno });
        }
    }

    pub(super) fn is_over(&self, image: Image, index: InterfaceIndex) -> bool {
        match image {
            Image::InLine { set, .. } => {
                self.table.sets.gateways(set).iter().any(|gateway| self.reach.goes_over(gateway, index))
            }
            // It may.
            Image::Irregular | Image::Several => true,
            // Told by the objects.
            Image::Object { .. } | Image::Blackhole { .. } => false,
        }
    }
}
