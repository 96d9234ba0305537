//! The API server: whether it answers, and what of it cannot be used. Part of several answers.

use selvedge::control::api::{
    ApiServer, Kubernetes, KubernetesSummary, RefusedKind, RoleRule, UnreadableObject,
};

use super::{counted, span};
use crate::output::printable;

/// For `show summary`.
pub(super) fn in_summary(summary: &KubernetesSummary) -> String {
    let KubernetesSummary { server, blocks, service_prefixes, problems } = summary;
    let server = match server {
        ApiServer::Away { since_s, reason } => format!("away for {} ({})", span(*since_s), printable(reason)),
        ApiServer::Untried => "not heard yet".to_owned(),
        ApiServer::Answers => "answers".to_owned(),
    };
    let problems = match problems {
        0 => String::new(),
        _ => format!("; {}: see `bgpctl show pods`", counted(*problems, "problem", "problems")),
    };
    let blocks = counted(*blocks, "block", "blocks");
    let prefixes = counted(*service_prefixes, "prefix", "prefixes");
    format!("Kubernetes: API server {server}; {blocks} and {prefixes} of services announced{problems}\n")
}

/// Who is asked.
pub(super) fn head(kubernetes: Option<&Kubernetes>) -> String {
    let Some(Kubernetes { node, server, .. }) = kubernetes else {
        return "Kubernetes: not asked, since the configuration has no [kubernetes]\n".to_owned();
    };
    let server = match server {
        ApiServer::Untried => "not heard yet; what it said before, if anything, is in force".to_owned(),
        ApiServer::Answers => "answers".to_owned(),
        ApiServer::Away { since_s, reason } => {
            format!("away for {}, what it said last is in force: {}", span(*since_s), printable(reason))
        }
    };
    format!("Kubernetes: this is node {}; API server {server}\n", printable(node))
}

/// What a person has to look at, a line each.
pub(super) fn errors(kubernetes: &Kubernetes) -> String {
    let Kubernetes { node, node_absent, server: _, refused, unreadable, unreadable_count, missing, awaited } =
        kubernetes;
    let mut text = String::new();
    if *node_absent {
        text.push_str(&format!(
            "error: the API server has no node {}: is that the name that Kubernetes has for it ([kubernetes] node-name)?\n",
            printable(node)
        ));
    }
    text.extend(refused.iter().map(refusal));
    // Of those that are refused it is said why.
    for kind in awaited.iter().filter(|kind| refused.iter().all(|refused| refused.kind != **kind)) {
        text.push_str(&format!(
            "error: the API server has not listed {} yet: what depends on it stays as it is\n",
            printable(kind)
        ));
    }
    for (kind, missing) in missing {
        text.push_str(&format!(
            "error: {} of kind {} missing from the API server's list: kept until it lists this node, and them not, once more\n",
            counted(*missing, "object", "objects"),
            printable(kind)
        ));
    }
    text.extend(unreadable.iter().map(unreadable_object));
    let named = u64::try_from(unreadable.len()).unwrap_or(u64::MAX);
    let unnamed = unreadable_count.saturating_sub(named);
    if unnamed > 0 {
        text.push_str(&format!(
            "error: {} that make no sense\n",
            counted(unnamed, "more object", "more objects")
        ));
    }
    text
}

fn refusal(refused: &RefusedKind) -> String {
    let RefusedKind { kind, code, reason, rule } = refused;
    let (kind, reason) = (printable(kind), printable(reason));
    let what = match code {
        401 => format!("does not know who we are, asked for {kind}"),
        403 if is_write(rule.as_ref()) => format!("does not let us write to {kind}"),
        403 => format!("does not let us read {kind}"),
        404 => format!("has no {kind}"),
        code => format!("refuses {kind} (HTTP {code})"),
    };
    format!("error: the API server {what}: {reason}\n{}", rule.as_ref().map(role_rule).unwrap_or_default())
}

fn is_write(rule: Option<&RoleRule>) -> bool {
    rule.is_some_and(|rule| rule.verbs.iter().any(|verb| verb == "patch"))
}

fn role_rule(rule: &RoleRule) -> String {
    let group = match rule.api_group.as_str() {
        "" => "\"\" (the core)".to_owned(),
        group => printable(group),
    };
    let verbs: Vec<String> = rule.verbs.iter().map(|verb| printable(verb)).collect();
    let (verbs, resource) = (verbs.join(", "), printable(&rule.resource));
    format!("  its role (RBAC) lacks a rule with the verbs {verbs} for {resource} of the API group {group}\n")
}

fn unreadable_object(object: &UnreadableObject) -> String {
    let UnreadableObject { kind, name, reason } = object;
    let (kind, name, reason) = (printable(kind), printable(name), printable(reason));
    format!("error: {kind} {name} makes no sense, and counts as it was before: {reason}\n")
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    pub(in crate::render) fn answering() -> Kubernetes {
        Kubernetes {
            node: "c1".to_owned(),
            node_absent: false,
            server: ApiServer::Answers,
            refused: Vec::new(),
            unreadable: Vec::new(),
            unreadable_count: 0,
            missing: BTreeMap::new(),
            awaited: Vec::new(),
        }
    }

    fn away() -> ApiServer {
        ApiServer::Away { since_s: 83, reason: "connection\u{1b}[2J refused".to_owned() }
    }

    #[test]
    fn the_summary_has_one_line() {
        let answer = KubernetesSummary { server: away(), blocks: 1, service_prefixes: 12, problems: 0 };
        assert_eq!(
            in_summary(&answer),
            "Kubernetes: API server away for 00:01:23 (connection\\u{1b}[2J refused); 1 block and 12 prefixes of services announced\n"
        );
        let answer =
            KubernetesSummary { server: ApiServer::Answers, blocks: 0, service_prefixes: 1, problems: 2 };
        assert_eq!(
            in_summary(&answer),
            "Kubernetes: API server answers; 0 blocks and 1 prefix of services announced; 2 problems: see `bgpctl show pods`\n"
        );
        let answer = KubernetesSummary { server: ApiServer::Untried, ..answer };
        assert!(in_summary(&answer).starts_with("Kubernetes: API server not heard yet; "));
    }

    #[test]
    fn an_absence_is_said_with_its_time_and_its_reason() {
        let rows = [
            (ApiServer::Answers, "answers"),
            (ApiServer::Untried, "not heard yet; what it said before, if anything, is in force"),
            (away(), "away for 00:01:23, what it said last is in force: connection\\u{1b}[2J refused"),
        ];
        for (server, expected) in rows {
            let kubernetes = Kubernetes { server, ..answering() };
            let text = head(Some(&kubernetes));
            assert_eq!(text, format!("Kubernetes: this is node c1; API server {expected}\n"));
        }
        assert!(head(None).starts_with("Kubernetes: not asked"));
    }

    #[test]
    fn refusals_say_what_would_help() {
        let rule = |api_group: &str, resource: &str| {
            let verbs = vec!["list".to_owned(), "watch".to_owned()];
            Some(RoleRule { api_group: api_group.to_owned(), resource: resource.to_owned(), verbs })
        };
        let refused = |kind: &str, code, rule| RefusedKind {
            kind: kind.to_owned(),
            code,
            reason: "its words".to_owned(),
            rule,
        };
        let verbs = vec!["patch".to_owned()];
        let patch = RoleRule { api_group: String::new(), resource: "nodes/status".to_owned(), verbs };
        let kubernetes = Kubernetes {
            node_absent: true,
            refused: vec![
                refused("BlockAffinity", 403, rule("crd.projectcalico.org", "blockaffinities")),
                refused("Service", 403, rule("", "services")),
                refused("nodes/status", 403, Some(patch)),
                refused("Calico", 404, None),
                refused("Node", 401, None),
                refused("IPPool", 400, None),
            ],
            ..answering()
        };
        let expected = "\
error: the API server has no node c1: is that the name that Kubernetes has for it ([kubernetes] node-name)?
error: the API server does not let us read BlockAffinity: its words
  its role (RBAC) lacks a rule with the verbs list, watch for blockaffinities of the API group crd.projectcalico.org
error: the API server does not let us read Service: its words
  its role (RBAC) lacks a rule with the verbs list, watch for services of the API group \"\" (the core)
error: the API server does not let us write to nodes/status: its words
  its role (RBAC) lacks a rule with the verbs patch for nodes/status of the API group \"\" (the core)
error: the API server has no Calico: its words
error: the API server does not know who we are, asked for Node: its words
error: the API server refuses IPPool (HTTP 400): its words
";
        assert_eq!(errors(&kubernetes), expected);
        assert_eq!(errors(&answering()), "");
        // Why it is awaited is said already.
        let kubernetes = Kubernetes { awaited: vec!["Service".to_owned()], ..kubernetes };
        assert_eq!(errors(&kubernetes), expected);
    }

    #[test]
    fn what_is_missing_or_awaited_is_said_with_what_becomes_of_it() {
        let kubernetes = Kubernetes {
            missing: [("BlockAffinity".to_owned(), 3), ("Ser\u{7}vice".to_owned(), 1)].into(),
            awaited: vec!["IPPool".to_owned()],
            ..answering()
        };
        let expected = "\
error: the API server has not listed IPPool yet: what depends on it stays as it is
error: 3 objects of kind BlockAffinity missing from the API server's list: kept until it lists this node, and them not, once more
error: 1 object of kind Ser\\u{7}vice missing from the API server's list: kept until it lists this node, and them not, once more
";
        assert_eq!(errors(&kubernetes), expected);
    }

    #[test]
    fn objects_that_make_no_sense_are_named_up_to_a_number() {
        let object = UnreadableObject {
            kind: "Service".to_owned(),
            name: "default/web".to_owned(),
            reason: "spec.clusterIPs \"x\u{7}\" is not an address".to_owned(),
        };
        let kubernetes = Kubernetes { unreadable: vec![object], unreadable_count: 3, ..answering() };
        let expected = "\
error: Service default/web makes no sense, and counts as it was before: spec.clusterIPs \"x\\u{7}\" is not an address
error: 2 more objects that make no sense
";
        assert_eq!(errors(&kubernetes), expected);
    }
}
