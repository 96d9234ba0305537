//! The objects of one kind, as far as the server has told of them.
//!
//! In: what a watch says, in the order in which it says it. Out: the objects, whether they are all there, and which could
//! not be read. Whatever a watch goes through on the way (lists that are begun again, objects that are told twice), what is
//! here in the end are the objects that the server has in the end.

use std::collections::{BTreeMap, BTreeSet};

use super::objects::{ObjectName, Unreadable};

/// What a watch says of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told<T> {
    /// A list begins: of what was known before, whatever is not in it has gone.
    ListBegins,
    /// An object is there, in a list or since.
    There(ObjectName, Result<T, Unreadable>),
    /// An object has gone.
    Gone(ObjectName),
    /// The list was whole.
    ListEnds,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Collection<T> {
    objects: BTreeMap<ObjectName, T>,
    unreadable: BTreeMap<ObjectName, Unreadable>,
    progress: Progress,
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

impl<T> Default for Collection<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), unreadable: BTreeMap::new(), progress: Progress::Unknown }
    }
}

impl<T> Collection<T> {
    /// Takes in what a watch says.
    pub(crate) fn handle(&mut self, told: Told<T>) {
        match told {
            Told::ListBegins => {
                let before = match &self.progress {
                    // The last list was cut off.
                    Progress::Listing { before, .. } => *before,
                    Progress::Unknown => Before::Unknown,
                    Progress::Known => Before::Known,
                };
                self.progress = Progress::Listing { seen: BTreeSet::new(), before };
            }
            Told::There(name, object) => {
                if let Progress::Listing { seen, .. } = &mut self.progress {
                    seen.insert(name.clone());
                }
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
                self.objects.remove(&name);
                self.unreadable.remove(&name);
            }
            Told::ListEnds => {
                // Ends that have no beginning say nothing.
                if let Progress::Listing { seen, .. } = &self.progress {
                    self.objects.retain(|name, _| seen.contains(name));
                    self.unreadable.retain(|name, _| seen.contains(name));
                    self.progress = Progress::Known;
                }
            }
        }
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

    #[test]
    fn what_is_not_in_the_next_whole_list_has_gone() {
        let first = [Told::ListBegins, there("a", 1), there("b", 2), Told::ListEnds];
        let mut collection = told(first);
        collection.handle(Told::ListBegins);
        collection.handle(there("b", 3));
        assert_eq!(names(&collection), ["a", "b"], "not before the list is whole");
        assert!(collection.is_known());
        // It was cut off, and begins again.
        collection.handle(Told::ListBegins);
        collection.handle(there("c", 4));
        collection.handle(Told::ListEnds);
        assert_eq!(names(&collection), ["c"]);
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
        assert_eq!(names(&collection), Vec::<&str>::new());
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
