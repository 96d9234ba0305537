//! The kernel as far as the reconciler can tell.

use std::collections::VecDeque;

use super::*;

/// What waits in the event socket; what our own writes cause never comes there.
#[derive(Debug)]
pub(super) enum Queued {
    Route(Event, Cause, Observation),
    Object(Nexthop, Fate),
    Link(u32),
    AddressGone(u32),
}

/// The kernel's table as `fib_table_insert` and `fib6_add_rt2node` keep it: in IPv4 a list at each key, of which
/// a replacement takes the first; in IPv6 one route. Its objects as `nexthop.c` keeps them.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    pub(super) routes: BTreeMap<Key, Vec<(Owner, Route)>>,
    pub(super) objects: BTreeMap<ObjectId, Shape>,
    pub(super) foreign_objects: BTreeSet<ObjectId>,
    pub(super) down: BTreeSet<InterfaceIndex>,
    pub(super) queue: VecDeque<Queued>,
    /// Writes that changed routes, and objects.
    pub(super) writes: usize,
    pub(super) object_writes: usize,
}

fn refused(errno: i32) -> Result<(), KernelError> {
    Err(KernelError { errno, message: None })
}

impl Kernel {
    pub(super) fn operate(&mut self, operation: &Operation, sets: &Sets) -> Result<(), KernelError> {
        self.writes += 1;
        let route = |image| match image {
            Image::InLine { set, source } => {
                Route { way: Way::InLine(sets.get(set).unwrap().clone()), source }
            }
            Image::Object { id, source } => Route { way: Way::Object(id), source },
            Image::Blackhole { source } => Route { way: Way::Blackhole, source },
            Image::Irregular | Image::Several => panic!("not for writing"),
        };
        let (Action::Create(image) | Action::Replace(image)) = operation.action else {
            let routes = self.routes.entry(operation.key).or_default();
            return match routes.iter().position(|(owner, _)| *owner == Owner::Ours) {
                None => refused(libc::ESRCH),
                Some(position) => {
                    routes.remove(position);
                    Ok(())
                }
            };
        };
        let route = route(image);
        if let Way::Object(id) = route.way
            && !self.objects.contains_key(&id)
        {
            return refused(libc::EINVAL);
        }
        let routes = self.routes.entry(operation.key).or_default();
        match operation.action {
            Action::Create(_) if !routes.is_empty() => return refused(libc::EEXIST),
            Action::Create(_) => routes.push((Owner::Ours, route)),
            Action::Replace(_) | Action::Delete => {
                routes.splice(..routes.len().min(1), [(Owner::Ours, route)]);
            }
        }
        Ok(())
    }

    pub(super) fn operate_object(&mut self, operation: &ObjectOperation) -> Result<(), KernelError> {
        self.object_writes += 1;
        match operation {
            ObjectOperation::Create(nexthop) if self.objects.contains_key(&nexthop.id) => {
                return refused(libc::EEXIST);
            }
            ObjectOperation::Create(nexthop) | ObjectOperation::Replace(nexthop) => {
                match &nexthop.shape {
                    Shape::Member(gateway) if self.down.contains(&gateway.interface.unwrap()) => {
                        return refused(libc::ENETDOWN);
                    }
                    Shape::Group(ids) if !ids.iter().all(|id| self.objects.contains_key(id)) => {
                        return refused(libc::EINVAL);
                    }
                    Shape::Member(_) | Shape::Group(_) | Shape::Other => {}
                }
                self.objects.insert(nexthop.id, nexthop.shape.clone());
            }
            ObjectOperation::Delete(id) if !self.objects.contains_key(id) => return refused(libc::ENOENT),
            ObjectOperation::Delete(id) => self.remove_object(*id, None),
        }
        Ok(())
    }

    /// Takes an object, its place in groups, groups that are empty by that, and their routes. IPv4 routes go
    /// without a word; IPv6 routes with one, unless it was us (`None`).
    pub(super) fn remove_object(&mut self, id: ObjectId, cause: Option<Cause>) {
        self.objects.remove(&id);
        let mut empty = vec![id];
        for (group, shape) in &mut self.objects {
            if let Shape::Group(ids) = shape {
                ids.retain(|member| *member != id);
                if ids.is_empty() {
                    empty.push(*group);
                }
            }
        }
        self.objects.retain(|id, _| !empty.contains(id));
        for (&key, routes) in &mut self.routes {
            for (owner, route) in routes.extract_if(
                ..,
                |(_, route)| matches!(route.way, Way::Object(object) if empty.contains(&object)),
            ) {
                if let (Family::Ipv6Unicast, Some(cause)) = (key.prefix.family(), cause) {
                    let installed = Installed::Route(route);
                    let observation = Observation { key, owner, installed };
                    self.queue.push_back(Queued::Route(Event::Deleted, cause, observation));
                }
            }
        }
    }

    /// Links 2 and 3.
    pub(super) fn carrier(&self) -> [bool; 2] {
        [2, 3].map(|link| !self.down.contains(&InterfaceIndex(link)))
    }

    pub(super) fn set_carrier(&mut self, carrier: [bool; 2]) {
        for (link, carrier) in [2, 3].into_iter().zip(carrier) {
            let index = InterfaceIndex(link);
            let changed = if carrier { self.down.remove(&index) } else { self.down.insert(index) };
            if !changed {
                continue;
            }
            let is_on =
                |shape: &Shape| matches!(shape, Shape::Member(gateway) if gateway.interface == Some(index));
            if !carrier {
                let gone: Vec<ObjectId> =
                    self.objects.iter().filter(|(_, shape)| is_on(shape)).map(|(id, _)| *id).collect();
                gone.into_iter().for_each(|id| self.remove_object(id, Some(Cause::Kernel)));
            }
            self.queue.push_back(Queued::Link(link));
        }
    }

    /// The last IPv4 address of a link goes, and with it, without a word, what `fib_sync_down_dev` takes of ours.
    pub(super) fn take_last_ipv4_address(&mut self, link: u32) {
        let is_on = |gateway: &Gateway| gateway.interface.is_none_or(|index| index.0 == link);
        let goes = |(owner, route): &(Owner, Route)| match &route.way {
            Way::InLine(legs) => *owner == Owner::Ours && legs.iter().all(is_on),
            Way::Object(_) | Way::Blackhole => false,
        };
        for (key, routes) in &mut self.routes {
            if key.prefix.family() == Family::Ipv4Unicast {
                routes.retain(|route| !goes(route));
            }
        }
        self.queue.push_back(Queued::AddressGone(link));
    }

    /// Another program deletes an object.
    pub(super) fn delete_object(&mut self, which: usize) {
        let Some((&id, shape)) = self.objects.iter().nth(which) else { return };
        let nexthop = Nexthop { id, protocol: OURS.protocol, shape: shape.clone() };
        self.queue.push_back(Queued::Object(nexthop, Fate::Gone));
        self.remove_object(id, Some(Cause::Program));
    }

    pub(super) fn dump_objects(&self) -> Vec<Nexthop> {
        let told = |(&id, shape): (&ObjectId, &Shape)| {
            let protocol = if self.foreign_objects.contains(&id) { FOREIGN.0 } else { OURS.protocol };
            Nexthop { id, protocol, shape: shape.clone() }
        };
        self.objects.iter().map(told).collect()
    }

    /// Where packets go.
    pub(super) fn resolved(&self, route: &Route) -> Route {
        let Way::Object(id) = route.way else { return route.clone() };
        let Some(Shape::Group(ids)) = self.objects.get(&id) else { panic!("{route:?}") };
        let mut gateways: Gateways = ids
            .iter()
            .map(|id| match self.objects.get(id) {
                Some(Shape::Member(gateway)) => *gateway,
                other => panic!("{other:?}"),
            })
            .collect();
        gateways.sort_unstable();
        Route { way: Way::InLine(gateways), source: route.source }
    }

    /// Another program adds a route, where there is none or, in IPv4, behind or before what is there.
    pub(super) fn add(&mut self, key: Key, owner: Owner, route: Route, front: bool) {
        let routes = self.routes.entry(key).or_default();
        if key.prefix.family() == Family::Ipv6Unicast && !routes.is_empty() {
            return;
        }
        // Not the same twice.
        if routes.contains(&(owner, route.clone())) {
            return;
        }
        routes.insert(if front { 0 } else { routes.len() }, (owner, route.clone()));
        self.tell(Event::Added, key, owner, route);
    }

    pub(super) fn replace(&mut self, key: Key, owner: Owner, route: Route) {
        let routes = self.routes.entry(key).or_default();
        if !routes.contains(&(owner, route.clone())) {
            routes.splice(..routes.len().min(1), [(owner, route.clone())]);
            self.tell(Event::Replaced, key, owner, route);
        }
    }

    pub(super) fn delete(&mut self, key: Key, owner: Owner) {
        let routes = self.routes.entry(key).or_default();
        if let Some(position) = routes.iter().position(|(known, _)| *known == owner) {
            let (_, route) = routes.remove(position);
            self.tell(Event::Deleted, key, owner, route);
        }
    }

    pub(super) fn tell(&mut self, event: Event, key: Key, owner: Owner, route: Route) {
        let installed = Installed::Route(route);
        self.queue.push_back(Queued::Route(event, Cause::Program, Observation { key, owner, installed }));
    }

    pub(super) fn dump(&self) -> Reading {
        let mut reading = Reading::default();
        for (&key, routes) in &self.routes {
            for (owner, route) in routes {
                let installed = Installed::Route(route.clone());
                reading.add(&OURS, Observation { key, owner: *owner, installed });
            }
        }
        reading
    }

    /// What is there, with its next hops.
    pub(super) fn of(&self, key: Key, owner: Owner) -> Vec<Route> {
        let routes = self.routes.get(&key).into_iter().flatten();
        routes.filter(|(known, _)| *known == owner).map(|(_, route)| self.resolved(route)).collect()
    }
}
