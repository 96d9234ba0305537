//! The faults, by what they break.

mod links;
mod messages;
mod restart;
mod tors;

use crate::fault::Fault;

/// All of them, in the order in which they are made.
pub(crate) fn all() -> Vec<&'static Fault> {
    [restart::FAULTS, tors::FAULTS, links::FAULTS, messages::FAULTS].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_is_declared_in_full_and_has_a_name_of_its_own() {
        let mut names = BTreeSet::new();
        for fault in all() {
            assert!(names.insert(fault.name), "{} twice", fault.name);
            assert!(fault.number.0 > 0 && !fault.name.is_empty() && !fault.expected.is_empty(), "{fault:?}");
            // What would break the table.
            assert!(!fault.name.contains('|') && !fault.expected.contains('|'), "{fault:?}");
        }
    }
}
