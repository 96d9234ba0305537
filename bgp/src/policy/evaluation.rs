//! What a policy makes of a path.
//!
//! In: a policy, a prefix and attributes. Out: whether the path is accepted, and with which attributes.
//!
//! The peer decides how long the lists in attributes are, and how many prefixes come with the same ones: so what a rule
//! says of attributes is worked out once for all prefixes that share them ([`Variants`]), and so is what rules make of
//! them. A prefix costs a look at its own conditions.

use std::sync::Arc;

use super::language::{Action, Carried, Policy, Rule};
use crate::message::Attributes;
use crate::{Asn, Prefix};

/// How a policy comes to an end for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// What becomes of it.
    pub action: Action,
    /// Its attributes where the rules have changed them. Those of a rejected path are nobody's.
    pub changed: Option<Arc<Attributes>>,
    /// The rules that held, by their place in the policy, in this order.
    pub matched: Vec<usize>,
    /// What decided.
    pub decided_by: Decider,
}

/// What a path's fate depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decider {
    /// The last rule that held.
    Rule,
    /// No rule: the end of the policy was reached.
    Default,
}

/// How often rules have held, since the policy came into force for a neighbor: each time that a path is judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hits {
    /// In the order of the rules.
    pub rules: Vec<u64>,
    /// Paths that came to the end of the policy.
    pub default: u64,
}

impl Hits {
    /// Of a policy that comes into force.
    #[must_use]
    pub fn none_yet(policy: Option<&Policy>) -> Self {
        Self { rules: vec![0; policy.map_or(0, |policy| policy.rules.len())], default: 0 }
    }

    pub(crate) fn count(&mut self, step: Step) {
        match step {
            Step::Rule(number) => {
                if let Some(hits) = self.rules.get_mut(number) {
                    *hits += 1;
                }
            }
            Step::Default => self.default += 1,
        }
    }
}

/// Something that held for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Rule(usize),
    /// The end of the policy.
    Default,
}

/// Who decides on LOCAL_PREF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preference {
    /// The policy may.
    Free,
    /// The guard has: RFC 8326, a path is to be the last choice, whatever policy thinks of it otherwise.
    Fixed,
}

/// Attributes, and what the rules of one policy have made of them for some prefix so far.
#[derive(Debug)]
pub(crate) struct Variants {
    /// The first one is what came; never empty.
    list: Vec<Variant>,
    /// The AS that prepending puts before the path.
    prepended: Asn,
    preference: Preference,
}

/// Names one of the [`Variants`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VariantNumber(usize);

impl VariantNumber {
    /// What came, without a change.
    pub(crate) const UNCHANGED: Self = Self(0);

    pub(crate) fn index(self) -> usize {
        self.0
    }
}

#[derive(Debug)]
struct Variant {
    attributes: Arc<Attributes>,
    /// Made with the first rule that looks at attributes.
    carried: Option<Carried>,
    /// What is known of the rules: whether what they say of attributes holds. Grows as far as was looked.
    holds: Vec<Known>,
    /// Which variant each rule makes of this one, where that is known.
    made: Vec<(usize, VariantNumber)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    NotYet,
    Holds,
    Fails,
}

impl Variant {
    fn new(attributes: Arc<Attributes>) -> Self {
        Self { attributes, carried: None, holds: Vec::new(), made: Vec::new() }
    }
}

impl Variants {
    pub(crate) fn new(attributes: Arc<Attributes>, prepended: Asn, preference: Preference) -> Self {
        let first = Variant::new(attributes);
        Self { list: vec![first], prepended, preference }
    }

    /// The variant that is accepted for a prefix; `None` where the path is rejected. Every step is told to `note`. The
    /// policy has to be the same in all calls.
    pub(crate) fn judge(
        &mut self,
        policy: &Policy,
        prefix: Prefix,
        mut note: impl FnMut(Step),
    ) -> Option<VariantNumber> {
        let mut at = VariantNumber::UNCHANGED;
        let mut action = policy.default;
        let mut last = Step::Default;
        for (number, rule) in policy.rules.iter().enumerate() {
            if !rule.conditions.allow_prefix(prefix) || !self.holds(at, number, rule) {
                continue;
            }
            at = self.changed(at, number, rule);
            if let Some(end) = rule.action {
                (action, last) = (end, Step::Rule(number));
                break;
            }
            note(Step::Rule(number));
        }
        note(last);
        match action {
            Action::Accept => Some(at),
            Action::Reject => None,
        }
    }

    /// The attributes of a variant.
    pub(crate) fn attributes(&self, variant: VariantNumber) -> Option<&Arc<Attributes>> {
        self.list.get(variant.0).map(|variant| &variant.attributes)
    }

    fn holds(&mut self, at: VariantNumber, number: usize, rule: &Rule) -> bool {
        if !rule.conditions.look_at_attributes() {
            return true;
        }
        let Some(Variant { attributes, carried, holds, .. }) = self.list.get_mut(at.0) else {
            return false;
        };
        if holds.len() <= number {
            holds.resize(number + 1, Known::NotYet);
        }
        let Some(known) = holds.get_mut(number) else {
            return false;
        };
        if *known == Known::NotYet {
            let carried = carried.get_or_insert_with(|| Carried::by(attributes));
            let holds = rule.conditions.allow_attributes(attributes, carried);
            *known = if holds { Known::Holds } else { Known::Fails };
        }
        *known == Known::Holds
    }

    fn changed(&mut self, at: VariantNumber, number: usize, rule: &Rule) -> VariantNumber {
        if rule.changes.is_empty() {
            return at;
        }
        let Some(Variant { attributes, made, .. }) = self.list.get(at.0) else {
            return at;
        };
        if let Some((_, known)) = made.iter().find(|(by, _)| *by == number) {
            return *known;
        }
        let mut changed = rule.changes.apply(attributes, self.prepended);
        match self.preference {
            Preference::Free => {}
            Preference::Fixed => changed.local_pref = attributes.local_pref,
        }
        // The same by another way is the same one.
        let next = match self.list.iter().position(|variant| *variant.attributes == changed) {
            Some(same) => same,
            None => {
                let attributes = Arc::new(changed);
                self.list.push(Variant::new(attributes));
                self.list.len() - 1
            }
        };
        if let Some(variant) = self.list.get_mut(at.0) {
            variant.made.push((number, VariantNumber(next)));
        }
        VariantNumber(next)
    }
}

impl Policy {
    /// Judges one path. `prepended` is the AS that prepending puts before its path: the neighbor's on the way in, ours on
    /// the way out.
    #[must_use]
    pub fn judge(&self, prefix: Prefix, attributes: &Arc<Attributes>, prepended: Asn) -> Ruling {
        self.rule_on(prefix, Variants::new(Arc::clone(attributes), prepended, Preference::Free))
    }

    /// The same for attributes that nothing was made of yet.
    pub(crate) fn rule_on(&self, prefix: Prefix, mut variants: Variants) -> Ruling {
        let (mut matched, mut decided_by) = (Vec::new(), Decider::Rule);
        let accepted = variants.judge(self, prefix, |step| match step {
            Step::Rule(number) => matched.push(number),
            Step::Default => decided_by = Decider::Default,
        });
        let changed = accepted.filter(|variant| *variant != VariantNumber::UNCHANGED);
        Ruling {
            action: if accepted.is_some() { Action::Accept } else { Action::Reject },
            changed: changed.and_then(|variant| variants.attributes(variant).cloned()),
            matched,
            decided_by,
        }
    }
}

#[cfg(test)]
mod tests;
