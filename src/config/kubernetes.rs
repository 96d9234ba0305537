//! What comes from Kubernetes, and goes there: `[kubernetes]`, `[pods.node]`, `[pods.calico]`, `[services]` and `[cni]`.

use std::path::PathBuf;

use super::policies::route_community;
use super::problem::{Problems, Refusal, quoted};
use super::sections::absolute_path;
use super::table::{CNI, KUBERNETES, PODS, PODS_CALICO, PODS_NODE, SERVICES, Section, Value};
use super::{Access, Borrowed, Calico, CalicoApi, Cni, Kubernetes, NodeCidrs, Pods, Services, blocks};

const STATE: &str = "/var/lib/selvedge/cluster.json";
const CONFLIST: &str = "/etc/cni/net.d/10-selvedge.conflist";
const BORROWED_LIMIT: u32 = 100;
/// RFC 1123: what the name of an object may be at most, and so that of a node.
const LONGEST_NAME: usize = 253;

pub(super) fn kubernetes(root: &Section<'_>, problems: &mut Problems) -> Option<Kubernetes> {
    let section = root.section("kubernetes", &KUBERNETES, problems)?;
    let kubeconfig = section.read("kubeconfig", problems, kubeconfig);
    let in_cluster = section.read("in-cluster", problems, Value::boolean);
    let access = match (kubeconfig, in_cluster) {
        (Some(path), None | Some(false)) => Some(Access::Kubeconfig(path)),
        (None, Some(true)) => Some(Access::ServiceAccount),
        (Some(_), Some(true)) => {
            problems.push(section.useless(
                "two ways to the API server",
                "has `kubeconfig` and `in-cluster`",
                "keep the one that is meant",
            ));
            None
        }
        // One that was refused has its own message.
        (None, None | Some(false)) if section.value("kubeconfig").is_none() => {
            problems.push(section.missing(
                "`kubeconfig` or `in-cluster`",
                "write `kubeconfig = \"/etc/selvedge/kubeconfig\"`, or in a pod `in-cluster = true`",
            ));
            None
        }
        (None, None | Some(false)) => None,
    };
    Some(Kubernetes {
        node_name: section.read("node-name", problems, node_name),
        state: section.read("state", problems, state).unwrap_or_else(|| STATE.into()),
        access: access?,
    })
}

fn kubeconfig(value: &Value<'_>) -> Result<PathBuf, Refusal> {
    absolute_path(value, "an absolute path, such as \"/etc/selvedge/kubeconfig\"")
}

fn state(value: &Value<'_>) -> Result<PathBuf, Refusal> {
    absolute_path(value, "an absolute path, such as \"/var/lib/selvedge/cluster.json\"")
}

/// RFC 1123 section 2.1 in lower case, as Kubernetes has it.
fn node_name(value: &Value<'_>) -> Result<String, Refusal> {
    let allowed = "the name of a node: lower case letters, digits, `-` and `.`, up to 253, such as \"c1\"";
    let name = value.string(allowed)?;
    let is_allowed = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(is_allowed) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() > LONGEST_NAME || !name.split('.').all(is_label) {
        return Err(value.refuse(format!("{} is not one", quoted(name)), allowed));
    }
    Ok(name.to_owned())
}

/// `[pods]`; its parts that ask the API server need to know where that is.
pub(super) fn pods(root: &Section<'_>, kubernetes: Option<&Kubernetes>, problems: &mut Problems) -> Pods {
    let Some(section) = root.section("pods", &PODS, problems) else { return Pods::default() };
    let node_cidrs = section.section("node", &PODS_NODE, problems).map(|_| NodeCidrs {});
    let calico = section.section("calico", &PODS_CALICO, problems).map(|calico| Calico {
        api: calico.read("api", problems, calico_api).unwrap_or(CalicoApi::Any),
        borrowed: borrowed(&calico, problems),
    });
    let asks = [("node", node_cidrs.is_some()), ("calico", calico.is_some())];
    for (key, _) in asks.into_iter().filter(|(_, asked)| *asked) {
        refuse_without_server(root, &section, key, kubernetes, problems);
    }
    Pods { static_blocks: blocks::read(&section, problems), node_cidrs, calico }
}

fn calico_api(value: &Value<'_>) -> Result<CalicoApi, Refusal> {
    let allowed = "\"auto\", \"crd.projectcalico.org/v1\", \"projectcalico.org/v3\"";
    match value.string(allowed)? {
        "auto" => Ok(CalicoApi::Any),
        "crd.projectcalico.org/v1" => Ok(CalicoApi::CrdV1),
        "projectcalico.org/v3" => Ok(CalicoApi::V3),
        other => Err(value.refuse(format!("{} is none of them", quoted(other)), allowed)),
    }
}

fn borrowed(section: &Section<'_>, problems: &mut Problems) -> Borrowed {
    let advertised = section.read("borrowed", problems, |value| {
        let allowed = "\"advertise\", \"refuse\"";
        match value.string(allowed)? {
            "advertise" => Ok(Advertised::Yes),
            "refuse" => Ok(Advertised::No),
            other => Err(value.refuse(format!("{} is neither", quoted(other)), allowed)),
        }
    });
    let community = section.read("borrowed-community", problems, route_community);
    let limit = section.read("borrowed-limit", problems, |value| value.integer(1..=u32::MAX));
    match advertised {
        None | Some(Advertised::Yes) => {
            Borrowed::Advertise { community, limit: limit.unwrap_or(BORROWED_LIMIT) }
        }
        Some(Advertised::No) => {
            // One that was refused has its own message.
            let useless = [("borrowed-community", community.is_some()), ("borrowed-limit", limit.is_some())];
            for (key, _) in useless.into_iter().filter(|(_, is_read)| *is_read) {
                if let Some(value) = section.value(key) {
                    problems.push(*value.refuse(
                        "has no effect beside `borrowed = \"refuse\"`",
                        "together with `borrowed = \"advertise\"`",
                    ));
                }
            }
            Borrowed::Refuse
        }
    }
}

enum Advertised {
    Yes,
    No,
}

pub(super) fn services(
    root: &Section<'_>,
    kubernetes: Option<&Kubernetes>,
    problems: &mut Problems,
) -> Option<Services> {
    let section = root.section("services", &SERVICES, problems)?;
    refuse_without_server(root, root, "services", kubernetes, problems);
    Some(Services {
        load_balancer: blocks::ranges(&section, "load-balancer", problems).unwrap_or_default(),
        external: blocks::ranges(&section, "external", problems).unwrap_or_default(),
        cluster: blocks::ranges(&section, "cluster", problems).unwrap_or_default(),
        aggregate: section.read("aggregate", problems, Value::boolean).unwrap_or(false),
    })
}

/// `[cni]`. Calico has a plugin of its own, and an IPAM whose blocks no other may give addresses of.
pub(super) fn cni(root: &Section<'_>, pods: &Pods, problems: &mut Problems) -> Option<Cni> {
    let section = root.section("cni", &CNI, problems)?;
    if pods.calico.is_some() {
        problems.push(section.useless(
            "two that connect pods",
            "is there beside [pods.calico], which has a CNI plugin of its own",
            "leave out [cni], or give this node its blocks by [pods.node] or [pods.static]",
        ));
    }
    let file = section.read("file", problems, conflist).unwrap_or_else(|| CONFLIST.into());
    Some(Cni { file })
}

fn conflist(value: &Value<'_>) -> Result<PathBuf, Refusal> {
    // Runtimes read a list from no file that is called otherwise (libcni, `ConfFiles`).
    let allowed = "an absolute path that ends in .conflist, such as \"/etc/cni/net.d/10-selvedge.conflist\"";
    let path = absolute_path(value, allowed)?;
    match path.extension() {
        Some(extension) if extension == "conflist" => Ok(path),
        Some(_) | None => Err(value.refuse("no runtime would take it for a list of plugins", allowed)),
    }
}

/// Where `[kubernetes]` is there and wrong, that has its own message.
pub(super) fn refuse_without_server(
    root: &Section<'_>,
    section: &Section<'_>,
    key: &'static str,
    kubernetes: Option<&Kubernetes>,
    problems: &mut Problems,
) {
    if kubernetes.is_none()
        && root.value("kubernetes").is_none()
        && let Some(value) = section.value(key)
    {
        problems.push(*value.refuse(
            "asks the API server, and no [kubernetes] says where that is",
            "together with a table [kubernetes]",
        ));
    }
}
