//! UPDATEs in slices: where paths go by a long policy, one message may be more than a turn's work.
//!
//! In: UPDATEs, and how many prefixes a turn may judge. Out: what goes into the turn, and the rest, which means the same
//! behind it.

use super::{Task, ToRib};
use crate::message::{Reach, Update};

impl Task {
    /// What of a message goes into a turn with so much left. The rest is heard in the next one, before anything else. Only
    /// where a path costs more than a look at a prefix is one message too much.
    pub(super) fn slice(&mut self, mut message: ToRib, left: usize) -> ToRib {
        let weight = self.weight(&message);
        if let ToRib::Updates { peer, updates } = &mut message
            && weight > 1
        {
            let rest = split_off(updates, (left / weight).max(1));
            self.unheard = (!rest.is_empty()).then_some(ToRib::Updates { peer: *peer, updates: rest });
        }
        message
    }

    /// How many looks at a prefix each prefix of a message costs.
    pub(super) fn weight(&self, message: &ToRib) -> usize {
        let ToRib::Updates { peer, .. } = message else { return 1 };
        self.rib.looks_at_a_path(*peer)
    }
}

/// Leaves UPDATEs with `limit` announced prefixes, and gives the rest in order.
fn split_off(updates: &mut Vec<Update>, limit: usize) -> Vec<Update> {
    let mut left = limit;
    for (place, update) in updates.iter().enumerate() {
        match left.checked_sub(announced(update)) {
            Some(fewer) => left = fewer,
            None => {
                let mut rest = updates.split_off(place);
                updates.extend(rest.first_mut().map(|update| take(update, left)));
                return rest;
            }
        }
    }
    Vec::new()
}

fn announced(update: &Update) -> usize {
    update.reach.iter().map(|reach| reach.prefixes.len()).sum()
}

/// What is withdrawn, which comes before all else (RFC 4271 section 4.3), and some of the announced prefixes.
fn take(update: &mut Update, mut limit: usize) -> Update {
    let mut taken = Update { withdrawn: std::mem::take(&mut update.withdrawn), ..Update::default() };
    for reach in &mut update.reach {
        let behind = reach.prefixes.split_off(limit.min(reach.prefixes.len()));
        let prefixes = std::mem::replace(&mut reach.prefixes, behind);
        limit -= prefixes.len();
        if !prefixes.is_empty() {
            taken.reach.push(Reach { attributes: reach.attributes.clone(), prefixes });
        }
    }
    update.reach.retain(|reach| !reach.prefixes.is_empty());
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rib::fixtures::from_peer;
    use crate::{Family, Prefix};

    fn prefixes(numbers: &[u8]) -> Vec<Prefix> {
        numbers.iter().map(|number| Prefix::host([20, 0, 0, *number].into())).collect()
    }

    fn update() -> impl Strategy<Value = Update> {
        let numbers = || prop::collection::vec(any::<u8>(), 0..6);
        let reach = (1..4_u32, prop::collection::vec(any::<u8>(), 1..6)).prop_map(|(peer, numbers)| Reach {
            attributes: from_peer(peer, &[]),
            prefixes: prefixes(&numbers),
        });
        (numbers(), prop::collection::vec(reach, 0..3), any::<bool>()).prop_map(|(withdrawn, reach, ends)| {
            let end_of_rib = ends.then_some(Family::Ipv4Unicast);
            Update { withdrawn: prefixes(&withdrawn), reach, end_of_rib, ..Update::default() }
        })
    }

    /// What is said, one word after the other.
    fn words(updates: &[Update]) -> Vec<String> {
        let words = |update: &Update| {
            let mut words: Vec<_> = update.withdrawn.iter().map(|prefix| format!("not {prefix}")).collect();
            for reach in &update.reach {
                words.extend(reach.prefixes.iter().map(|prefix| format!("{prefix} {:?}", reach.attributes)));
            }
            words.extend(update.end_of_rib.map(|family| family.to_string()));
            words
        };
        updates.iter().flat_map(words).collect()
    }

    proptest! {
        #[test]
        fn slices_say_the_same_one_after_the_other(updates in prop::collection::vec(update(), 0..5), limit in 1..9_usize) {
            let (whole, mut rest, mut said) = (words(&updates), updates, Vec::new());
            loop {
                let behind = split_off(&mut rest, limit);
                let count: usize = rest.iter().map(announced).sum();
                prop_assert!(count <= limit && (count == limit || behind.is_empty()));
                said.extend(words(&rest));
                if behind.is_empty() {
                    break;
                }
                rest = behind;
            }
            prop_assert_eq!(said, whole);
        }
    }
}
