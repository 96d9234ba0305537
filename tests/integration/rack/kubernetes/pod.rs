//! The agent as the DaemonSet's container, as far as that can be had without a kubelet: its arguments, its environment, its
//! capabilities and its service account, where a pod finds them.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::*;

/// Where every pod has its service account.
const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";
/// `CAP_NET_BIND_SERVICE`, `CAP_NET_ADMIN` and `CAP_NET_RAW` of linux/capability.h, as /proc has them.
const THREE: &str = "0000000000003400";
/// Puts the folder $1 there, for this process and those after it alone, and goes on as the rest of the words.
const IN_POD: &str = "mount --bind \"$1\" /run/secrets/kubernetes.io/serviceaccount && shift && exec \"$@\"";
/// A name that the host does not have.
const NODE: &str = "worker-1";

/// The folder that the service account is mounted over, for as long as it is needed; empty all the while.
struct MountPoint(Vec<PathBuf>);

impl MountPoint {
    fn make() -> Self {
        let above: Vec<_> = Path::new(ACCOUNT).ancestors().map(Path::to_owned).collect();
        let missing: Vec<_> = above.into_iter().filter(|folder| !folder.exists()).collect();
        fs::create_dir_all(ACCOUNT).unwrap();
        Self(missing)
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        for folder in &self.0 {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The command line that leads to the daemon, as the container of this template is to be started.
fn command_line(template: &Value, account: &Path, server: std::net::SocketAddr) -> Vec<OsString> {
    let container = &template["spec"]["containers"][0];
    let context = &container["securityContext"];
    assert_eq!((&context["runAsUser"], &context["capabilities"]["drop"]), (&json!(0), &json!(["ALL"])));
    let added = context["capabilities"]["add"].as_array().unwrap().iter();
    let capabilities: String =
        added.map(|name| format!(",+{}", name.as_str().unwrap().to_lowercase())).collect();
    let fields = container["env"].as_array().unwrap().iter().map(|variable| {
        assert_eq!(variable["valueFrom"]["fieldRef"]["fieldPath"], "spec.nodeName");
        format!("{}={NODE}", variable["name"].as_str().unwrap())
    });
    let mut words: Vec<OsString> = ["--mount", "sh", "-c", IN_POD, "sh"].map(Into::into).into();
    words.extend([account.into(), "env".into()]);
    words.extend(fields.map(OsString::from));
    // What every container finds, whatever its manifest says.
    words.push(format!("KUBERNETES_SERVICE_HOST={}", server.ip()).into());
    words.push(format!("KUBERNETES_SERVICE_PORT={}", server.port()).into());
    words.extend(["setpriv".into(), format!("--bounding-set=-all{capabilities}").into()]);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    words.extend(["--no-new-privs".into(), "--".into(), env!("CARGO_BIN_EXE_selvedge").into()]);
    words
}

/// The exit code of the container's readiness probe, and what it says.
fn probe(template: &Value, agent: &lab::Agent) -> (i32, String) {
    let command = template["spec"]["containers"][0]["readinessProbe"]["exec"]["command"].as_array().unwrap();
    let words: Vec<&str> = command.iter().map(|word| word.as_str().unwrap()).collect();
    let [program, words @ ..] = &words[..] else { panic!("{command:?}") };
    assert!(program.ends_with("/bgpctl"), "{program}");
    match agent.bgpctl(words) {
        Ok(text) => (0, text),
        Err(lab::Error::ToolFailed { status, output, .. }) => (status.code().unwrap(), output),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_container_of_the_daemonset_does_its_job() {
    let Some(mut bench) = Bench::up("kubepod", "[pods.calico]\n") else { return };
    let cluster = bench.cluster(POOL);
    cluster
        .apply(&json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE } }).to_string())
        .unwrap();
    let daemonset = cluster.json(&["get", "daemonset", "selvedge", "--namespace=kube-system"]).unwrap();
    let template = &daemonset["spec"]["template"];
    assert_eq!(template["spec"]["serviceAccountName"], "selvedge");

    // What a kubelet would make.
    let folder = bench.kubeconfigs[0].with_file_name("account");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("token"), cluster.token("kube-system", "selvedge").unwrap()).unwrap();
    fs::copy(cluster.authority(), folder.join("ca.crt")).unwrap();
    fs::write(folder.join("namespace"), "kube-system").unwrap();
    let _mount_point = MountPoint::make();
    let state = bench.kubeconfigs[0].with_file_name("state.json");
    let (agent, netns) = bench.rack.nodes[0].agent_mut().unwrap();
    assert!(agent.terminate().unwrap().success());
    // The container is root's, and without root's powers has no way into what is another user's.
    Account { uid: 0, gid: 0 }.own(folder.parent().unwrap()).unwrap();
    let arguments = command_line(template, &folder, cluster.address());
    let programs =
        Programs { daemon: "/usr/bin/unshare".into(), arguments, account: None, ..agent.programs().clone() };
    agent.replace_programs(programs);
    let config = fs::read_to_string("conf/lab/c1.toml").unwrap();
    let sections = format!("[kubernetes]\nin-cluster = true\nstate = '{}'\n[pods.calico]\n", state.display());
    agent.write_config(&(config + &sections)).unwrap();
    let before = agent.log().len();
    agent.start_again(netns).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id().unwrap())).unwrap();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(
            status.lines().any(|line| line.split_whitespace().eq([&format!("{set}:"), THREE])),
            "{status}"
        );
    }

    cluster.apply(&block(NODE)).unwrap();
    cluster.apply(&affinity(NODE, "confirmed")).unwrap();
    bench.await_on_tor(prefix("10.1.9.0/26"), &["c1"]);
    eventually("what it was told is kept", FOUND, || Ok(state.exists().then_some(()))).unwrap();
    let log = bench.log_of(0);
    assert!(!log[before..].contains("refuses"), "{log}");

    let (agent, _) = bench.rack.nodes[0].agent_mut().unwrap();
    let ready = eventually("a probe that succeeds", CONVERGENCE, || match probe(template, agent) {
        (0, text) => Ok(Some(text)),
        (1, text) if text.contains("not ready yet: ") => Ok(None),
        other => panic!("{other:?}"),
    });
    assert!(ready.unwrap().starts_with("ready: UplinksReady: "));
    assert!(agent.terminate().unwrap().success());
    let (code, text) = probe(template, agent);
    assert!(code == 3 && text.contains("is selvedge running?"), "{code}: {text}");
}
