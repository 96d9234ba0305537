//! The objects of one kind, as far as the server has told of them.
//!
//! In: what a watch says, in the order in which it says it. Out: the objects, whether they are all there, and which could
//! not be read. Whatever a watch goes through on the way (lists that are begun again, objects that are told twice), what is
//! here in the end are the objects that the server has in the end.
//!
//! An object has gone at once when an event says so. One that is merely missing in a list, as all are in those of a server
//! that was brought back from an empty copy, is in [`Doubt`]: it counts as before, until a list that was asked for to decide
//! about it has it, or has it not.

use std::collections::{BTreeMap, BTreeSet};

use super::objects::{ObjectName, Unreadable};

/// What a watch says of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told<T> {
    /// A list begins: of what was known before, whatever is not in it is missing.
    ListBegins,
    /// An object is there, in a list or since.
    There(ObjectName, Result<T, Unreadable>),
    /// An object has gone.
    Gone(ObjectName),
    /// The list was whole.
    ListEnds,
}

/// How far it is decided whether what a list has not is no longer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Another list is to be asked for later.
    Held,
    /// First this node has to be listed anew, as proof that the server speaks of us.
    NodeAwaited,
    /// The next list decides.
    Asked,
    /// The list that is under way decides.
    Listing,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Collection<T> {
    objects: BTreeMap<ObjectName, T>,
    unreadable: BTreeMap<ObjectName, Unreadable>,
    progress: Progress,
    /// Of all of them, those that were not in the last whole list.
    missing: BTreeMap<ObjectName, Doubt>,
    /// Whether what an earlier process knew of, and no list of this one has, is no longer there.
    rest: Rest,
}

/// How far the server is in telling of them.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    /// There never was a whole list.
    Unknown,
    /// A list is under way, with these names up to now.
    Listing {
        seen: BTreeSet<ObjectName>,
        before: Before,
    },
    Known,
}

/// What there was before a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Unknown,
    Known,
}

/// Of what is in no list of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Doubted(Doubt),
    /// It is not there.
    Settled,
}

impl<T> Default for Collection<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            progress: Progress::Unknown,
            missing: BTreeMap::new(),
            rest: Rest::Doubted(Doubt::Held),
        }
    }
}

impl<T> Collection<T> {
    /// Takes in what a watch says.
    pub(crate) fn handle(&mut self, told: Told<T>) {
        match told {
            Told::ListBegins => self.begin_list(),
            Told::There(name, object) => {
                if let Progress::Listing { seen, .. } = &mut self.progress {
                    seen.insert(name.clone());
                }
                self.missing.remove(&name);
                match object {
                    Ok(object) => {
                        self.unreadable.remove(&name);
                        self.objects.insert(name, object);
                    }
                    // What it said before goes on to count: a slip of the pen must not cost a node its pods.
                    Err(why) => drop(self.unreadable.insert(name, why)),
                }
            }
            Told::Gone(name) => {
                if let Progress::Listing { seen, .. } = &mut self.progress {
                    seen.remove(&name);
                }
                self.missing.remove(&name);
                self.objects.remove(&name);
                self.unreadable.remove(&name);
            }
            Told::ListEnds => self.end_list(),
        }
    }

    fn begin_list(&mut self) {
        let before = match &self.progress {
            // The last list was cut off.
            Progress::Listing { before, .. } => *before,
            Progress::Unknown => Before::Unknown,
            Progress::Known => Before::Known,
        };
        self.progress = Progress::Listing { seen: BTreeSet::new(), before };
        self.advance(Doubt::Asked, Doubt::Listing);
    }

    fn end_list(&mut self) {
        // Ends that have no beginning say nothing.
        let Progress::Listing { seen, .. } = &self.progress else { return };
        for name in self.objects.keys().chain(self.unreadable.keys()) {
            if !seen.contains(name) && !self.missing.contains_key(name) {
                self.missing.insert(name.clone(), Doubt::Held);
            }
        }
        for (name, _) in self.missing.extract_if(.., |_, doubt| *doubt == Doubt::Listing) {
            self.objects.remove(&name);
            self.unreadable.remove(&name);
        }
        if self.rest == Rest::Doubted(Doubt::Listing) {
            self.rest = Rest::Settled;
        }
        self.progress = Progress::Known;
    }

    /// Takes what is missing as far as `from` one step on, and says whether there was any.
    pub(crate) fn advance(&mut self, from: Doubt, to: Doubt) -> bool {
        let mut any = false;
        let rest = match &mut self.rest {
            Rest::Doubted(doubt) => Some(doubt),
            Rest::Settled => None,
        };
        for doubt in self.missing.values_mut().chain(rest).filter(|doubt| **doubt == from) {
            *doubt = to;
            any = true;
        }
        any
    }

    /// Nothing is in doubt: what is missing has gone.
    pub(crate) fn settle(&mut self) {
        for name in std::mem::take(&mut self.missing).into_keys() {
            self.objects.remove(&name);
            self.unreadable.remove(&name);
        }
        self.rest = Rest::Settled;
    }

    /// Whether it is still to be asked about what is missing.
    pub(crate) fn is_unasked(&self) -> bool {
        let rest = match self.rest {
            Rest::Doubted(doubt) => Some(doubt),
            Rest::Settled => None,
        };
        let mut doubts = self.missing.values().copied().chain(rest);
        self.is_known() && doubts.any(|doubt| matches!(doubt, Doubt::Held | Doubt::NodeAwaited))
    }

    /// What was not in the last whole list and counts nevertheless.
    pub(crate) fn missing(&self) -> usize {
        self.missing.len()
    }

    /// Whether there is no doubt that what an earlier process knew of, and is not here, is not there.
    pub(crate) fn is_settled(&self) -> bool {
        self.rest == Rest::Settled
    }

    /// Whether there was a whole list once: from then on, what is not here is not there.
    pub(crate) fn is_known(&self) -> bool {
        match &self.progress {
            Progress::Unknown | Progress::Listing { before: Before::Unknown, .. } => false,
            Progress::Known | Progress::Listing { before: Before::Known, .. } => true,
        }
    }

    /// In the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ObjectName, &T)> {
        self.objects.iter()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.objects.values()
    }

    /// Objects that could not be read the last time they were told of, with the reason.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = (&ObjectName, &Unreadable)> {
        self.unreadable.iter()
    }

    /// Of those, the ones that never could be read: whatever they say is missing here.
    pub(crate) fn never_read(&self) -> impl Iterator<Item = &ObjectName> {
        self.unreadable.keys().filter(|name| !self.objects.contains_key(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName { namespace: None, name: text.to_owned() }
    }

    fn there(text: &str, value: u8) -> Told<u8> {
        Told::There(name(text), Ok(value))
    }

    fn names(collection: &Collection<u8>) -> Vec<&str> {
        collection.iter().map(|(name, _)| name.name.as_str()).collect()
    }

    fn told(all: impl IntoIterator<Item = Told<u8>>) -> Collection<u8> {
        let mut collection = Collection::default();
        all.into_iter().for_each(|told| collection.handle(told));
        collection
    }

    fn list(collection: &mut Collection<u8>, all: impl IntoIterator<Item = Told<u8>>) {
        let list = [Told::ListBegins].into_iter().chain(all).chain([Told::ListEnds]);
        list.for_each(|told| collection.handle(told));
    }

    /// As far as the next list decides.
    fn ask(collection: &mut Collection<u8>) {
        assert!(collection.advance(Doubt::Held, Doubt::NodeAwaited));
        assert!(collection.advance(Doubt::NodeAwaited, Doubt::Asked));
    }

    #[test]
    fn what_two_lists_have_not_has_gone_if_the_second_was_asked_for() {
        let mut collection = told([Told::ListBegins, there("a", 1), there("b", 2), Told::ListEnds]);
        collection.handle(Told::ListBegins);
        collection.handle(there("b", 3));
        assert_eq!((names(&collection), collection.missing()), (vec!["a", "b"], 0), "the list is not whole");
        assert!(collection.is_known());
        // It was cut off, and begins again.
        list(&mut collection, [there("c", 4)]);
        list(&mut collection, [there("c", 4)]);
        assert_eq!((names(&collection), collection.missing()), (vec!["a", "b", "c"], 2), "nobody asked");
        ask(&mut collection);
        assert!(!collection.is_unasked());
        // This one has another one missing, and not the first.
        list(&mut collection, [there("a", 5)]);
        assert_eq!((names(&collection), collection.missing()), (vec!["a", "c"], 1));
        ask(&mut collection);
        list(&mut collection, [there("a", 5)]);
        assert_eq!((names(&collection), collection.missing()), (vec!["a"], 0));
    }

    #[test]
    fn a_list_that_was_under_way_when_it_was_asked_for_does_not_decide() {
        let mut collection = told([Told::ListBegins, there("a", 1), Told::ListEnds]);
        list(&mut collection, []);
        collection.handle(Told::ListBegins);
        ask(&mut collection);
        collection.handle(Told::ListEnds);
        assert_eq!(names(&collection), ["a"]);
        // Nor does one that is cut off.
        collection.handle(Told::ListBegins);
        list(&mut collection, []);
        assert_eq!(names(&collection), Vec::<&str>::new());
    }

    #[test]
    fn what_an_event_says_of_what_is_missing_counts_at_once() {
        let mut collection = told([Told::ListBegins, there("a", 1), there("b", 1), Told::ListEnds]);
        list(&mut collection, []);
        collection.handle(Told::Gone(name("a")));
        collection.handle(there("b", 2));
        assert_eq!((names(&collection), collection.missing()), (vec!["b"], 0));
    }

    #[test]
    fn the_first_list_says_nothing_of_what_was_before_it() {
        let mut collection = told([Told::ListBegins, there("a", 1), Told::ListEnds]);
        assert!(!collection.is_settled());
        ask(&mut collection);
        assert!(!collection.is_settled());
        list(&mut collection, [there("a", 1)]);
        assert!(collection.is_settled());
    }

    #[test]
    fn nothing_is_known_before_the_first_whole_list() {
        let mut collection = told([Told::ListBegins, there("a", 1)]);
        assert!(!collection.is_known());
        collection.handle(Told::ListBegins);
        assert!(!collection.is_known());
        assert!(!told([Told::ListEnds]).is_known(), "it had no beginning");
        collection.handle(Told::ListEnds);
        assert!(collection.is_known());
        assert_eq!(
            (names(&collection), collection.missing()),
            (vec!["a"], 1),
            "of the list that was cut off"
        );
    }

    #[test]
    fn an_object_that_goes_during_a_list_is_gone() {
        let collection = told([Told::ListBegins, there("a", 1), Told::Gone(name("a")), Told::ListEnds]);
        assert_eq!(names(&collection), Vec::<&str>::new());
    }

    #[test]
    fn an_object_that_cannot_be_read_is_named_and_counts_as_it_was() {
        let garbage = || Told::There(name("a"), Err(Unreadable::Json("spec".to_owned())));
        let mut collection = told([
            Told::ListBegins,
            there("a", 1),
            Told::ListEnds,
            Told::ListBegins,
            garbage(),
            Told::ListEnds,
        ]);
        assert_eq!(collection.values().collect::<Vec<_>>(), [&1]);
        assert_eq!(collection.unreadable().count(), 1);
        collection.handle(there("a", 2));
        assert_eq!(collection.unreadable().count(), 0);
        collection.handle(garbage());
        collection.handle(Told::Gone(name("a")));
        assert_eq!((names(&collection), collection.unreadable().count()), (vec![], 0));
    }
}
