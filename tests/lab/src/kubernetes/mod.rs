//! A real API server in a namespace of the lab: kube-apiserver 1.20 over etcd, with RBAC, and
//! kube-controller-manager beside it where a test asks for it.
//!
//! In come the programs that `tests/kubernetes-build` makes, and Debian's etcd. Out go daemons with their files and logs
//! in one directory, and `kubectl` to write objects and read them. The server listens on one address of its namespace
//! alone, so whoever is elsewhere reaches it over the fabric or not at all.
//!
//! What 1.20 does not have: `EndpointSlice` of `discovery.k8s.io/v1`, which is defined here as a custom resource so that
//! tests write slices themselves; streaming lists; `internalTrafficPolicy`; `ipMode`; rules in the schema of a CRD.

mod apiserver;
mod controllers;
mod credentials;
mod etcd;
pub mod fake;
mod kubectl;
mod merge;
mod programs;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::netns::Netns;
use crate::wait::eventually;

use apiserver::ApiServer;
use controllers::ControllerManager;
use credentials::ADMIN_TOKEN;
use etcd::Etcd;
use kubectl::Kubectl;

/// Kinds of `crd.projectcalico.org/v1` that say which node has which block: `BlockAffinity`, `IPAMBlock`, `IPPool`. For
/// [`Cluster::define`].
pub const CALICO_V1: &str = include_str!("../../data/calico-v1.yaml");
/// The same kinds as `projectcalico.org/v3` has them where Calico runs without an API server of its own.
pub const CALICO_V3: &str = include_str!("../../data/calico-v3.yaml");
/// `EndpointSlice`, defined in every [`Cluster`].
const ENDPOINT_SLICE: &str = include_str!("../../data/endpointslice.yaml");

/// Where API servers listen.
const PORT: u16 = 6443;
/// Addresses of services, IPv4 first.
pub const SERVICE_RANGES: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];
/// What the controller manager gives nodes blocks from: a /26 of the first to each, a /64 of the second.
pub const POD_RANGES: [&str; 2] = ["10.42.0.0/16", "fd00:10:42::/48"];

/// From a definition to objects of that kind: the server takes a second or two.
const DEFINE_LIMIT: Duration = Duration::from_secs(60);
/// How long others may keep changing what is patched.
const PATCH_LIMIT: Duration = Duration::from_secs(10);

/// What a cluster is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterOptions {
    /// Where its API server listens: an address that the namespace has, and has found to be nobody else's.
    pub address: IpAddr,
    /// Who tends its objects.
    pub controllers: Controllers,
}

/// Whether kube-controller-manager runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controllers {
    /// Nobody writes but the tests.
    Absent,
    /// It gives each node blocks of [`POD_RANGES`], turns conditions of nodes into taints, and fills Endpoints.
    Present,
}

/// A running cluster. Its daemons are killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    // In this order they are dropped: nobody is to complain that the next one is gone.
    controllers: Option<ControllerManager>,
    apiserver: ApiServer,
    etcd: Etcd,
    kubectl: Kubectl,
    directory: PathBuf,
}

impl Cluster {
    /// Whether this machine has all that it takes.
    #[must_use]
    pub fn is_installed() -> bool {
        programs::all_are_there()
    }

    /// Starts it, with its files in `directory`; returns when objects can be written.
    ///
    /// # Errors
    /// A program is missing or does not start.
    pub fn start(netns: &Netns, directory: &Path, options: ClusterOptions) -> Result<Self> {
        let entrance = netns.entrance();
        let address = SocketAddr::new(options.address, PORT);
        let etcd = Etcd::start(&entrance, directory)?;
        let apiserver = ApiServer::prepare(&entrance, directory, address)?;
        let kubectl = Kubectl::new(&entrance, directory, address)?;
        let mut cluster =
            Self { controllers: None, apiserver, etcd, kubectl, directory: directory.to_owned() };
        cluster.start_apiserver()?;
        cluster.define(ENDPOINT_SLICE)?;
        if options.controllers == Controllers::Present {
            let kubeconfig = directory.join("controllers.kubeconfig");
            cluster.write_kubeconfig(&kubeconfig, ADMIN_TOKEN)?;
            let controllers = ControllerManager::start(&entrance, directory, &kubeconfig, &cluster.kubectl)?;
            cluster.controllers = Some(controllers);
        }
        Ok(cluster)
    }

    /// Where the API server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.apiserver.address()
    }

    /// The certificate that the server's own one is signed with, as PEM.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        credentials::authority_path(&self.directory)
    }

    // ---- the API server and its faults

    /// Kills the API server: its connections are reset, the objects stay with etcd.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill_apiserver(&mut self) -> Result<()> {
        self.apiserver.kill()
    }

    /// Sends the API server a signal: stopped, it keeps its connections and says nothing more.
    ///
    /// # Errors
    /// It is not running.
    pub fn signal_apiserver(&self, signal: Signal) -> Result<()> {
        self.apiserver.signal(signal)
    }

    /// Starts the API server after [`Cluster::kill_apiserver`]; returns when it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_apiserver(&mut self) -> Result<()> {
        self.apiserver.start(&self.kubectl)
    }

    /// The ends of the logs of all its daemons.
    #[must_use]
    pub fn log(&self) -> String {
        let controllers = self.controllers.as_ref().map(ControllerManager::log).unwrap_or_default();
        let [apiserver, etcd] = [self.apiserver.log(), self.etcd.log()];
        [("etcd", etcd), ("kube-apiserver", apiserver), ("kube-controller-manager", controllers)]
            .map(|(name, log)| {
                let skip = log.lines().count().saturating_sub(40);
                let end: Vec<&str> = log.lines().skip(skip).collect();
                format!("log of {name}:\n{}\n", end.join("\n"))
            })
            .concat()
    }

    // ---- objects

    /// Runs kubectl as the administrator and gives what it prints.
    ///
    /// # Errors
    /// The server refuses, or is not there.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.kubectl.run(ADMIN_TOKEN, words)
    }

    /// Runs kubectl as whoever the token belongs to.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`]; [`Error::ToolFailed`] says "Forbidden" where RBAC refuses.
    pub fn kubectl_as(&self, token: &str, words: &[&str]) -> Result<String> {
        self.kubectl.run(token, words)
    }

    /// Runs kubectl in another namespace, with a file of [`Cluster::write_kubeconfig`]: as somebody who reaches the server
    /// over the fabric, and wants to see its certificate.
    ///
    /// # Errors
    /// As [`Cluster::kubectl_as`], or there is no way to the server.
    pub fn kubectl_from(&self, netns: &Netns, kubeconfig: &Path, words: &[&str]) -> Result<String> {
        self.kubectl.run_from(&netns.entrance(), kubeconfig, words)
    }

    /// What kubectl prints as JSON: `&["get", "node", "c1"]`.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        parsed(words, &self.kubectl(&[words, &["--output=json"]].concat())?)
    }

    /// Watches an object, `&["node", "c1"]`, from what it is now until it is as wanted. Where it is not there yet, name it
    /// by a selector: `&["nodes", "--field-selector=metadata.name=c1"]`.
    ///
    /// # Errors
    /// [`Error::Timeout`], or as [`Cluster::kubectl`].
    pub fn await_object(
        &self,
        what: &str,
        object: &[&str],
        limit: Duration,
        wanted: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        self.kubectl.watch(what, object, limit, wanted)
    }

    /// Writes objects as `kubectl apply` does: YAML documents, or JSON.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn apply(&self, manifest: &str) -> Result<()> {
        self.kubectl.apply(manifest, &[]).map(drop)
    }

    /// Writes CRDs, and waits until the server and kubectl know the kinds.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`], or it takes more than a minute.
    pub fn define(&self, crds: &str) -> Result<()> {
        let applied = self.kubectl.apply(crds, &["--output=json"])?;
        let applied = parsed(&["apply"], &applied)?;
        // One object, or a list of them.
        let crds = applied.get("items").and_then(Value::as_array).cloned().unwrap_or_else(|| vec![applied]);
        for path in crds.iter().flat_map(paths_of) {
            eventually(&format!("objects at {path}"), DEFINE_LIMIT, || {
                // Of what is not defined yet the server says "not found".
                Ok(self.kubectl(&["get", "--raw", &path]).ok())
            })?;
        }
        self.kubectl.forget_kinds()
    }

    /// Deletes an object, `&["node", "c1"]`, and waits until it is gone.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn delete(&self, object: &[&str]) -> Result<()> {
        self.kubectl(&[&["delete"], object].concat()).map(drop)
    }

    /// Merges fields into an object (RFC 7396), `&["node", "c1"]`; into its status with [`Cluster::patch_status`].
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn patch(&self, object: &[&str], patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        self.kubectl(&[&["patch"], object, &["--type=merge", "--patch", &patch]].concat()).map(drop)
    }

    /// Merges fields into the status (RFC 7396) of the object at a path of the API: `/api/v1/nodes/c1`. A list, as of
    /// conditions, is replaced as a whole.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn patch_status(&self, path: &str, status: &Value) -> Result<()> {
        // kubectl of 1.20 patches no subresource. It replaces one, and the server refuses what is out of date.
        eventually(&format!("a status at {path}"), PATCH_LIMIT, || {
            let get = ["get", "--raw", path];
            let mut object = parsed(&get, &self.kubectl(&get)?)?;
            merge::merge(&mut object, &json!({ "status": status }));
            match self.kubectl.replace(&format!("{path}/status"), &object) {
                Ok(_) => Ok(Some(())),
                Err(Error::ToolFailed { output, .. }) if output.contains("(Conflict)") => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// Sets a label, `name=value`, or removes it, `name-`.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn label(&self, object: &[&str], label: &str) -> Result<()> {
        self.kubectl(&[&["label", "--overwrite"], object, &[label]].concat()).map(drop)
    }

    /// Sets an annotation, `name=value`, or removes it, `name-`.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn annotate(&self, object: &[&str], annotation: &str) -> Result<()> {
        self.kubectl(&[&["annotate", "--overwrite"], object, &[annotation]].concat()).map(drop)
    }

    // ---- who may do what

    /// A new token of a service account that exists, good for an hour: what a kubelet would mount into its pods.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "expirationSeconds": 3600 },
        });
        let answer = parsed(&[&path], &self.kubectl.create(&path, &request)?)?;
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        token.map(str::to_owned).ok_or_else(|| Error::Missing(format!("no token in {answer}")))
    }

    /// Writes a kubeconfig file for whoever the token belongs to: complete in itself, with the server's address and the
    /// certificate to verify it by. Everybody may read it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path, token: &str) -> Result<()> {
        credentials::write_kubeconfig(&self.directory, self.address(), path, token)
    }
}

fn parsed(words: &[&str], text: &str) -> Result<Value> {
    let command = || format!("kubectl {}", words.join(" "));
    serde_json::from_str(text).map_err(|source| Error::Json { command: command(), source })
}

/// Where the objects that a CRD defines are served.
fn paths_of(crd: &Value) -> Vec<String> {
    let word = |pointer: &str| crd.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let versions = crd.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    versions
        .filter_map(|version| version.get("name")?.as_str())
        .map(|version| format!("/apis/{}/{version}/{}", word("/spec/group"), word("/spec/names/plural")))
        .collect()
}
