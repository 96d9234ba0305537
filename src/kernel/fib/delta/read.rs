//! Taking a dump of the whole table for the truth.

use std::collections::HashMap;
use std::time::Instant;

use bgp::Families;

use super::super::route::{Installed, Key, Observation, Owner, Ownership, Protocol};
use super::super::table::{Cursor, Image, Local, Origin};
use super::super::trouble::Disturbance;
use super::{Delta, Picture};

/// What the kernel has at each key.
type Images = Vec<(Key, Image)>;

/// A table while it is read: most routes have one of few shapes, which are kept once.
#[derive(Debug, Default)]
pub(in crate::kernel::fib) struct Reading {
    shapes: Vec<Installed>,
    numbers: HashMap<Installed, u32>,
    last: u32,
    ours: Vec<(Key, u32)>,
    foreign: Vec<(Key, Protocol)>,
}

impl Reading {
    pub(in crate::kernel::fib) fn add(&mut self, ownership: &Ownership, observation: Observation) {
        let Observation { key, owner, installed } = observation;
        match owner {
            Owner::Ours => {
                let number = self.number(installed);
                self.ours.push((key, number));
            }
            Owner::Foreign(protocol) if ownership.writes_at(key) => self.foreign.push((key, protocol)),
            // With another metric: a route of its own.
            Owner::Foreign(_) => {}
        }
    }

    /// Of the routes that are ours.
    pub(in crate::kernel::fib) fn families(&self) -> Families {
        self.ours.iter().map(|(key, _)| key.prefix.family()).collect()
    }

    fn number(&mut self, installed: Installed) -> u32 {
        let last = usize::try_from(self.last).ok().and_then(|last| self.shapes.get(last));
        if last == Some(&installed) {
            return self.last;
        }
        self.last = match self.numbers.get(&installed) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.shapes.len()).unwrap_or(u32::MAX);
                self.shapes.push(installed.clone());
                self.numbers.insert(installed, number);
                number
            }
        };
        self.last
    }

    /// One entry for each key of ours, in order; and the foreign ones.
    fn into_images(mut self, delta: &mut Delta) -> (Images, Vec<(Key, Protocol)>) {
        let images: Vec<Image> = self.shapes.iter().map(|shape| delta.table.image(shape)).collect();
        let image = |number: u32| usize::try_from(number).ok().and_then(|number| images.get(number)).copied();
        self.ours.sort_by_key(|(key, _)| *key);
        let mut ours = Images::with_capacity(self.ours.len());
        for (key, number) in self.ours {
            match ours.last_mut() {
                Some((last, image)) if *last == key => *image = Image::Several,
                _ => ours.extend(image(number).map(|image| (key, image))),
            }
        }
        (ours, self.foreign)
    }
}

impl Delta {
    /// Takes what a complete dump told for the truth. The objects were read just before.
    pub(in crate::kernel::fib) fn resync(&mut self, reading: Reading, now: Instant) {
        self.resync_at = None;
        // The dump is newer than every write.
        self.unconfirmed.clear();
        let (ours, foreign) = reading.into_images(self);
        let is_first = self.picture == Picture::Blank;
        for key in self.missing(&ours) {
            self.found(key, None, now);
        }
        for &(key, image) in &ours {
            if is_first {
                self.inherit(key, image);
            } else if self.table.case(key).installed != Some(image) {
                self.found(key, Some(image), now);
            }
        }
        for (key, trouble) in &mut self.troubles {
            trouble.foreign.clear();
            trouble.in_doubt = false;
            self.dirty.insert(*key);
        }
        for (key, protocol) in foreign {
            self.troubles.entry(key).or_default().foreign.push(protocol);
            self.dirty.insert(key);
        }
        self.picture = Picture::Fresh;
        self.look_again();
    }

    /// Keys at which we believed something to be.
    fn missing(&self, ours: &[(Key, Image)]) -> Vec<Key> {
        let (mut missing, mut rest) = (Vec::new(), ours.iter().peekable());
        let mut cursor = Some(Cursor::START);
        while let Some(at) = cursor {
            cursor = self.table.walk(at, usize::MAX, |key, case| {
                if case.installed.is_none() {
                    return;
                }
                while rest.peek().is_some_and(|(found, _)| *found < key) {
                    rest.next();
                }
                let is_next = rest.peek().is_some_and(|(found, _)| *found == key);
                // Keys of other metrics come last, and not in the order of the whole.
                let is_there = is_next || ours.binary_search_by_key(&key, |(found, _)| *found).is_ok();
                if !is_there {
                    missing.push(key);
                }
            });
        }
        missing
    }

    fn inherit(&mut self, key: Key, image: Image) {
        let origin = if self.converged { Origin::Asked } else { Origin::Inherited };
        self.table.change(key, |case| {
            case.installed = Some(image);
            // The node itself says at once all that it wants.
            if case.local == Local::Nothing {
                case.origin = origin;
            }
        });
    }

    /// The dump has something else than we believed.
    fn found(&mut self, key: Key, image: Option<Image>, now: Instant) {
        self.table.change(key, |case| case.changed(image));
        self.disturbed(key, Some(Disturbance::Unseen), now);
    }
}
