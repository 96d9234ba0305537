//! Policies in the words of the control API: what they are, what they have done, what they did to one path.

use bgp::policy::{Decider, Policy, Refusal, Ruling, Transit, Withheld};
use bgp::rib::{AppliedPolicy, Lending, PoliciesView};

use super::{Neighbor, View, stopping, words};
use crate::config::{RuleText, action_word};
use crate::control::api;

impl View {
    /// Of one neighbor, or of all.
    pub(super) async fn policies(&self, selector: Option<&str>) -> Result<api::Policies, api::Error> {
        let chosen: Vec<&Neighbor> = match selector {
            Some(selector) => vec![self.find(selector).await?],
            None => self.neighbors.iter().collect(),
        };
        let ids: Vec<_> = chosen.iter().map(|neighbor| neighbor.id).collect();
        let question = move |rib: &bgp::rib::Rib| {
            (ids.into_iter().map(|id| rib.policies(id)).collect::<Vec<_>>(), rib.is_at_rest())
        };
        let (views, at_rest) = self.rib.ask(question).await.map_err(|_| stopping())?;
        let known = chosen.into_iter().zip(views);
        // One without a view has been removed meanwhile.
        let policies =
            known.filter_map(|(neighbor, view)| Some(neighbor_policies(neighbor.name.to_string(), &view?)));
        Ok(api::Policies { neighbors: policies.collect(), at_rest })
    }
}

fn neighbor_policies(neighbor: String, view: &PoliciesView) -> api::NeighborPolicies {
    api::NeighborPolicies {
        neighbor,
        import: api::PolicyChain { guard: import_guard(view), policy: view.import.as_ref().map(in_force) },
        export: api::PolicyChain { guard: export_guard(view), policy: view.export.as_ref().map(in_force) },
        allow_transit: match view.transit {
            Transit::Never => false,
            Transit::Allowed => true,
        },
        allowas_in: view.allowed_own_as,
    }
}

fn import_guard(view: &PoliciesView) -> Vec<api::GuardRule> {
    let is_of_the_guard = |refusal: &Refusal| *refusal != Refusal::Policy;
    let reason = |refusal| match (refusal, view.lending) {
        (Refusal::OwnPrefix, Lending::Addresses) => words::OWN_PREFIX_BUT_LENT,
        (refusal, Lending::Addresses | Lending::Nothing) => words::refusal(refusal),
    };
    let rule = |refusal| api::GuardRule {
        reason: reason(refusal).to_owned(),
        hits: view.refused_total.get(&refusal).copied().unwrap_or(0),
    };
    Refusal::ALL.into_iter().filter(is_of_the_guard).map(rule).collect()
}

fn export_guard(view: &PoliciesView) -> Vec<api::GuardRule> {
    let is_in_force = |(withheld, _): &(Withheld, u64)| match (withheld, view.transit) {
        (Withheld::Policy, _) | (Withheld::Learned, Transit::Allowed) => false,
        (
            Withheld::Learned
            | Withheld::FromThisPeer
            | Withheld::InternalToInternal
            | Withheld::NoAdvertise
            | Withheld::NoExport,
            _,
        ) => true,
    };
    let rule = |(withheld, hits)| api::GuardRule { reason: words::withheld(withheld).to_owned(), hits };
    view.withheld_total.iter().filter(is_in_force).map(rule).collect()
}

fn in_force(AppliedPolicy { policy, hits }: &AppliedPolicy) -> api::PolicyInForce {
    let rules = policy.rules.iter().zip(&hits.rules).zip(1..);
    api::PolicyInForce {
        name: policy.name.clone(),
        rules: rules
            .map(|((rule, hits), number)| {
                let RuleText { conditions, actions } = RuleText::of(rule);
                api::PolicyRule { number, conditions, actions, hits: *hits }
            })
            .collect(),
        default: action_word(policy.default).to_owned(),
        default_hits: hits.default,
    }
}

/// What the rules of a policy did to a path.
pub(super) fn trace(policy: &Policy, ruling: &Ruling) -> api::PolicyTrace {
    let rule = |&place: &usize| {
        let actions = policy.rules.get(place).map(|rule| RuleText::of(rule).actions).unwrap_or_default();
        api::RuleTrace { number: place + 1, actions }
    };
    api::PolicyTrace {
        policy: policy.name.clone(),
        rules: ruling.matched.iter().map(rule).collect(),
        default: match ruling.decided_by {
            Decider::Rule => None,
            Decider::Default => Some(action_word(ruling.action).to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use bgp::policy::{Hits, WithheldCounts};

    use super::*;
    use crate::config;

    fn policy() -> Arc<Policy> {
        let text = "[bgp]\nlocal-as = 65001\n[[policy]]\nname = 'p'\n\
                    [[policy.rule]]\ncommunity = '1:1'\nset-med = 5\n[[policy.rule]]\naction = 'accept'\n";
        config::parse(text, "test.toml").unwrap().policies.remove(0)
    }

    fn view(transit: Transit) -> PoliciesView {
        PoliciesView {
            allowed_own_as: 2,
            transit,
            lending: Lending::Nothing,
            refused_total: BTreeMap::from([(Refusal::Martian, 3), (Refusal::Policy, 4)]),
            withheld_total: WithheldCounts::default(),
            import: Some(AppliedPolicy { policy: policy(), hits: Hits { rules: vec![7, 8], default: 9 } }),
            export: None,
        }
    }

    #[test]
    fn the_guard_comes_first_with_a_counter_for_each_reason() {
        let shown = neighbor_policies("eth0".to_owned(), &view(Transit::Never));
        let counted: Vec<_> = shown.import.guard.iter().filter(|rule| rule.hits > 0).collect();
        assert_eq!(counted.len(), 1, "what policy rejects is counted by its rules");
        assert_eq!((counted[0].reason.as_str(), counted[0].hits), ("nobody may announce this prefix", 3));
        assert_eq!(shown.import.guard.len(), Refusal::ALL.len() - 1);
        assert_eq!(shown.export.guard.len(), Withheld::ALL.len() - 1);
        assert_eq!((shown.allow_transit, shown.allowas_in, shown.export.policy), (false, 2, None));
        let open = neighbor_policies("eth0".to_owned(), &view(Transit::Allowed));
        assert_eq!(open.export.guard.len(), Withheld::ALL.len() - 2);
        assert!(open.allow_transit);
    }

    #[test]
    fn the_guard_says_what_of_our_own_may_be_elsewhere() {
        let lends = PoliciesView { lending: Lending::Addresses, ..view(Transit::Never) };
        let rules = |view| neighbor_policies("eth0".to_owned(), view).import.guard;
        let both = rules(&view(Transit::Never)).into_iter().zip(rules(&lends));
        let differing: Vec<_> = both
            .filter(|(before, now)| before != now)
            .map(|(before, now)| (before.reason, now.reason))
            .collect();
        let (whole, lent) = (words::refusal(Refusal::OwnPrefix), words::OWN_PREFIX_BUT_LENT);
        assert_eq!(differing, [(whole.to_owned(), lent.to_owned())]);
    }

    #[test]
    fn a_policy_is_shown_as_the_file_writes_it() {
        let shown = neighbor_policies("eth0".to_owned(), &view(Transit::Never)).import.policy.unwrap();
        let rule = |number, condition: &[&str], action: &str, hits| api::PolicyRule {
            number,
            conditions: condition.iter().map(|text| (*text).to_owned()).collect(),
            actions: vec![action.to_owned()],
            hits,
        };
        assert_eq!(
            shown.rules,
            [rule(1, &["community = \"1:1\""], "set-med = 5", 7), rule(2, &[], "action = \"accept\"", 8)]
        );
        assert_eq!((shown.default.as_str(), shown.default_hits), ("reject", 9));
    }
}
