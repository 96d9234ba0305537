//! `deploy/kubernetes` as it ships: what the API server takes, and what it lets whoever runs by these manifests do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::kubernetes::{CALICO_V1, CALICO_V3};
use lab::{Cluster, Controllers};
use selvedge::config;
use serde_json::{Value, json};

use super::fixture::Bench;
use super::refusal;

/// Everything that a section of the configuration needs, as `kubectl auth can-i --list` has it.
const NEEDED: [(&str, &[&str]); 4] = [
    ("node", &["nodes [list watch]"]),
    (
        "calico",
        &[
            "blockaffinities.crd.projectcalico.org [list watch]",
            "blockaffinities.projectcalico.org [list watch]",
            "ipamblocks.crd.projectcalico.org [list watch]",
            "ipamblocks.projectcalico.org [list watch]",
            "ippools.crd.projectcalico.org [list watch]",
            "ippools.projectcalico.org [list watch]",
        ],
    ),
    ("services", &["endpointslices.discovery.k8s.io [list watch]", "services [list watch]"]),
    ("readiness", &["nodes [patch]", "nodes/status [patch]"]),
];

/// The operator's tool in the image.
const BGPCTL: &str = "/usr/bin/bgpctl";

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes").join(path)
}

pub(super) fn apply(cluster: &Cluster, folder: &str) {
    let folder = shipped(folder);
    cluster
        .kubectl(&["apply", "--validate=true", "--kustomize", folder.to_str().unwrap()])
        .unwrap_or_else(|error| panic!("{error}"));
}

/// What a token may do beyond what everybody may: asking who and what one may be.
fn allowed(cluster: &Cluster, token: &str) -> BTreeSet<String> {
    let list = cluster.kubectl_as(token, &["auth", "can-i", "--list", "--no-headers"]).unwrap();
    let rows = list.lines().filter_map(|line| {
        let (resource, verbs) = (line.split_whitespace().next()?, line.rsplit_once('[')?.1);
        let mut verbs: Vec<_> = verbs.trim_end_matches(']').split(' ').collect();
        verbs.sort_unstable();
        // Rows without a resource are about paths such as /healthz.
        let is_for_all = resource.starts_with('[') || resource.starts_with("selfsubject");
        (!is_for_all).then(|| format!("{resource} [{}]", verbs.join(" ")))
    });
    rows.collect()
}

fn needed(sections: &[&str]) -> BTreeSet<String> {
    let of_sections = NEEDED.iter().filter(|(section, _)| sections.contains(section));
    of_sections.flat_map(|(_, rows)| rows.iter().map(|row| (*row).to_owned())).collect()
}

#[test]
fn each_overlay_gives_what_its_sections_need_and_no_more() {
    let Some(bench) = Bench::up("kubedeploy", Controllers::Absent) else { return };
    let cluster = &bench.cluster;
    cluster.define(CALICO_V1).unwrap();
    cluster.define(CALICO_V3).unwrap();
    cluster.apply("apiVersion: v1\nkind: Node\nmetadata: {name: c1}\n").unwrap();

    apply(cluster, "alone");
    let token = cluster.token("kube-system", "selvedge").unwrap();
    assert_eq!(allowed(cluster, &token), needed(&["node", "services"]));
    apply(cluster, "beside-calico");
    assert_eq!(allowed(cluster, &token), needed(&["node", "services", "calico"]));
    // By requests, too: what is allowed is answered, and what is not is refused.
    for words in [
        &["get", "nodes"][..],
        &["get", "nodes", "--field-selector=metadata.name=c1"],
        &["get", "services", "--all-namespaces"],
        &["get", "endpointslices", "--all-namespaces"],
        &["get", "blockaffinities.crd.projectcalico.org"],
        &["get", "ipamblocks.projectcalico.org"],
        &["get", "ippools.crd.projectcalico.org"],
    ] {
        cluster.kubectl_as(&token, words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }
    for words in [
        &["get", "node", "c1"][..],
        &["get", "secrets", "--all-namespaces"],
        &["get", "pods", "--all-namespaces"],
        &["get", "configmaps", "--namespace=kube-system"],
        &["get", "service", "kubernetes"],
        &["delete", "node", "c1"],
        &["delete", "services", "--all"],
        &["create", "service", "clusterip", "x", "--tcp=80"],
        &["create", "serviceaccount", "x"],
        &["create", "clusterrolebinding", "x", "--clusterrole=cluster-admin", "--user=x"],
        &["get", "--raw", "/metrics"],
    ] {
        let refused = refusal(cluster.kubectl_as(&token, words));
        // Of `create` kubectl leaves the word in brackets out.
        assert!(refused.contains("orbidden"), "{words:?}: {refused}");
    }
    apply(cluster, "rbac/readiness");
    // Two roles about nodes are one row.
    let mut all = needed(&["services", "calico", "readiness"]);
    assert!(all.remove("nodes [patch]") && all.insert("nodes [list patch watch]".to_owned()));
    assert_eq!(allowed(cluster, &token), all);
    assert!(refusal(cluster.kubectl_as(&token, &["delete", "node", "c1"])).contains("(Forbidden)"));

    // A host outside of Kubernetes may do the same by its certificate.
    let as_host = |verb: &str, kind: &str| {
        cluster.kubectl(&["auth", "can-i", verb, kind, "--as=selvedge-host", "--all-namespaces"])
    };
    for kind in ["nodes", "services", "endpointslices.discovery.k8s.io", "ippools.crd.projectcalico.org"] {
        assert_eq!(as_host("watch", kind).unwrap().trim(), "yes", "{kind}");
    }
    assert!(as_host("list", "secrets").is_err());
}

#[test]
fn the_pods_are_such_that_the_server_takes_them_and_alike() {
    let Some(bench) = Bench::up("kubepods", Controllers::Absent) else { return };
    let cluster = &bench.cluster;
    let [alone, beside] = ["alone", "beside-calico"].map(|overlay| {
        apply(cluster, overlay);
        let daemonset = ["daemonset", "selvedge", "--namespace=kube-system"];
        let spec = cluster.json(&[&["get"], &daemonset[..]].concat()).unwrap()["spec"].clone();
        cluster.delete(&daemonset).unwrap();
        spec
    });

    let pod = shipped("static-pod/selvedge.yaml");
    cluster.kubectl(&["apply", "--validate=true", "--filename", pod.to_str().unwrap()]).unwrap();
    let fixed = cluster.json(&["get", "pod", "selvedge", "--namespace=kube-system"]).unwrap()["spec"].clone();
    assert_eq!(fixed["priority"], 2_000_001_000, "the kubelet evicts it last");
    for key in ["containers", "volumes", "hostNetwork", "terminationGracePeriodSeconds", "priorityClassName"]
    {
        assert_eq!(fixed[key], beside["template"]["spec"][key], "{key}");
    }
    let mounts = |spec: &Value| -> Vec<String> {
        let mounts = spec["template"]["spec"]["containers"][0]["volumeMounts"].as_array().unwrap().iter();
        mounts.map(|mount| mount["mountPath"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(mounts(&beside), ["/etc/selvedge", "/run/selvedge", "/var/lib/selvedge"]);
    assert_eq!(mounts(&alone), ["/etc/cni/net.d", "/etc/selvedge", "/run/selvedge", "/var/lib/selvedge"]);
    let container = &beside["template"]["spec"]["containers"][0];
    assert_eq!(container["readinessProbe"]["exec"]["command"], json!([BGPCTL, "ready"]));
    for probe in ["livenessProbe", "startupProbe"] {
        assert_eq!(container[probe], Value::Null, "a router that forwards is not to be killed");
    }
    let security = &beside["template"]["spec"]["containers"][0]["securityContext"];
    let capabilities = json!({ "drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"] });
    assert_eq!(security["capabilities"], capabilities);
    assert_eq!(
        [&security["allowPrivilegeEscalation"], &security["readOnlyRootFilesystem"]],
        [&json!(false), &json!(true)]
    );
}

#[test]
fn what_the_guide_tells_an_operator_to_type_is_taken() {
    let Some(bench) = Bench::up("kubeguide", Controllers::Absent) else { return };
    let cluster = &bench.cluster;
    cluster.define(CALICO_V1).unwrap();
    let pool = json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "metadata": { "name": "default-ipv4-ippool" },
        "spec": { "cidr": "10.42.0.0/16", "ipipMode": "Always" },
    });
    cluster.apply(&pool.to_string()).unwrap();
    cluster.apply("apiVersion: v1\nkind: Node\nmetadata: {name: c1}\n").unwrap();
    let commands = commands_of_the_guide();
    assert!(commands.len() >= 8, "{commands:?}");
    for line in commands {
        let words = shell_words(&line.replace("deploy/kubernetes", shipped("").to_str().unwrap()));
        let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        cluster.kubectl(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

fn guide() -> String {
    fs::read_to_string(shipped("README.md")).unwrap()
}

/// What is to be typed, in its order: at a line of its own, or in the text between `quotes`. Not what waits for a kubelet.
fn commands_of_the_guide() -> Vec<String> {
    let guide = guide();
    let lines = guide.lines().flat_map(|line| match line.strip_prefix("    ") {
        Some(typed) => vec![typed.split(" # ").next().unwrap_or_default().trim()],
        None => line.split('`').skip(1).step_by(2).collect(),
    });
    let is_tried = |line: &&str| {
        let mut words = line.split(' ');
        line.starts_with("kubectl ") && !words.any(|word| ["exec", "rollout"].contains(&word))
    };
    lines.filter(is_tried).map(str::to_owned).collect()
}

#[test]
fn the_files_of_the_guide_are_what_the_daemon_takes() {
    let guide = guide();
    let files: Vec<&str> =
        guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [with_calico, alone] = files[..] else { panic!("{files:?}") };
    let parse = |text: &str| config::parse(text, "README.md").unwrap_or_else(|error| panic!("{error}"));
    let calico = parse(with_calico);
    assert!(calico.pods.calico.is_some() && calico.cni.is_none() && calico.sysctl.manage);
    let alone = parse(&with_calico.replace("[pods.calico]\n", alone));
    assert!(alone.pods.node_cidrs.is_some() && alone.cni.is_some());
}

/// Words as a shell takes them, as far as the guide goes: single quotes, and nothing else.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for letter in line.chars() {
        match letter {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            letter => words.last_mut().unwrap().push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The probe finds the socket: where the daemon has it, unless its file says otherwise, is a volume of the pod, which
/// bgpctl looks at without being told.
#[test]
fn the_probe_asks_where_the_daemon_listens() {
    let socket = config::parse("[bgp]\nlocal-as = 65001\n", "none").unwrap().control.socket;
    let manifest = fs::read_to_string(shipped("static-pod/selvedge.yaml")).unwrap();
    let folder = socket.parent().unwrap().display();
    assert!(manifest.contains(&format!("- {{name: run, mountPath: {folder}}}\n")), "{folder}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bgpctl"));
    command.args(["ready", "--help"]);
    let help = lab::output_of(command).unwrap();
    assert!(help.contains(&format!("[default: {}]", socket.display())), "{help}");
    let dockerfile = fs::read_to_string(shipped("Dockerfile")).unwrap();
    let copied = dockerfile.lines().find(|line| line.starts_with("COPY --from=build ")).unwrap();
    let (folder, program) = BGPCTL.rsplit_once('/').unwrap();
    assert!(copied.ends_with(&format!("/{program} {folder}/")), "{copied}");
}

#[test]
fn the_image_has_both_programs_and_the_compiler_of_the_project() {
    let text = fs::read_to_string(shipped("Dockerfile")).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    for line in &lines {
        let word = line.split(' ').next().unwrap();
        let is_known = ["FROM", "WORKDIR", "COPY", "RUN", "ENV", "ENTRYPOINT"].contains(&word);
        assert!(is_known && !line.ends_with('\\'), "{line}");
    }
    let compiler = format!("FROM rust:{}-bookworm AS build", env!("CARGO_PKG_RUST_VERSION"));
    assert_eq!(lines.first(), Some(&compiler.as_str()));
    let copied = lines.iter().find(|line| line.starts_with("COPY --from=build ")).unwrap();
    for program in [env!("CARGO_BIN_EXE_selvedge"), env!("CARGO_BIN_EXE_bgpctl")] {
        let name = Path::new(program).file_name().unwrap().to_str().unwrap();
        assert!(copied.split(' ').any(|word| word == format!("/source/target/release/{name}")), "{copied}");
    }
    let version = env!("CARGO_PKG_VERSION");
    for manifest in ["base/daemonset.yaml", "static-pod/selvedge.yaml"] {
        let manifest = fs::read_to_string(shipped(manifest)).unwrap();
        assert!(manifest.contains(&format!("image: selvedge:{version}\n")));
    }
}
