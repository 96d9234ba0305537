//! The faults, by what they break.

mod discovery;
mod failover;
mod flood;
mod kernel;
mod kubernetes;
mod leak;
mod links;
mod messages;
mod nemesis;
mod peers;
mod resources;
mod restart;
mod tors;

use crate::fault::Fault;

/// All of them, in the order in which they are made.
pub(crate) fn all() -> Vec<&'static Fault> {
    let kinds = [
        restart::FAULTS,
        tors::FAULTS,
        links::FAULTS,
        discovery::FAULTS,
        kernel::FAULTS,
        messages::FAULTS,
        peers::FAULTS,
        resources::FAULTS,
        nemesis::FAULTS,
        // Last: each has another setting than those before, and thus a rack of its own.
        leak::FAULTS,
        failover::FAULTS,
        kubernetes::FAULTS,
    ];
    kinds.into_iter().flatten().collect()
}

/// An error of the system, with what was to be done.
fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> lab::Error {
    move |source| lab::Error::Io { doing: doing.to_owned(), source }
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
