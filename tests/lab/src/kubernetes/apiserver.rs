//! kube-apiserver, which may be killed, stopped and started again over the same objects.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::credentials::{self, ADMIN_TOKEN};
use super::kubectl::Kubectl;
use super::programs::{APISERVER, built};
use super::{SERVICE_RANGES, etcd};
use crate::error::{Error, Result};
use crate::netns::Entrance;
use crate::process::Process;

/// From start to readiness, which takes five to ten seconds; the rest is for a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(120);
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// What answers only when everything is there that a client may expect: what the server sets up by itself (its roles,
/// for one), and the namespace that it makes.
const READY: [&str; 2] = ["/readyz", "/api/v1/namespaces/default"];

#[derive(Debug)]
pub(super) struct ApiServer {
    entrance: Entrance,
    directory: PathBuf,
    address: SocketAddr,
    process: Option<Process>,
}

impl ApiServer {
    /// Makes the files that it needs; it has yet to be started.
    pub(super) fn prepare(entrance: &Entrance, directory: &Path, address: SocketAddr) -> Result<Self> {
        credentials::write_signing_key(directory)?;
        credentials::write_tokens(directory)?;
        Ok(Self { entrance: entrance.clone(), directory: directory.to_owned(), address, process: None })
    }

    /// Starts it, or its successor; returns when it is ready.
    pub(super) fn start(&mut self, kubectl: &Kubectl) -> Result<()> {
        self.kill()?;
        let mut command = self.entrance.command(built(APISERVER));
        command.args(["--etcd-servers", &etcd::clients_url()]);
        command.args(["--bind-address", &self.address.ip().to_string()]);
        command.args(["--secure-port", &self.address.port().to_string()]);
        // Where it leaves a certificate for that address, and finds it again.
        command.arg("--cert-dir").arg(self.directory.join(credentials::PKI));
        command.arg("--token-auth-file").arg(self.directory.join(credentials::TOKENS));
        for role in ["--service-account-key-file", "--service-account-signing-key-file"] {
            command.arg(role).arg(self.directory.join(credentials::SIGNING_KEY));
        }
        command.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
        command.args(["--authorization-mode", "RBAC", "--disable-admission-plugins", "ServiceAccount"]);
        // Without the gate it drops a node's second block without a word.
        command.args(["--service-cluster-ip-range", &SERVICE_RANGES.join(",")]);
        command.args(["--feature-gates", "IPv6DualStack=true"]);
        // Its own EndpointSlice is another version, and in the way of the one that is defined.
        command.args(["--runtime-config", "discovery.k8s.io/v1beta1=false"]);
        command.args(["--endpoint-reconciler-type", "none", "--allow-privileged=true"]);
        let process = Process::start(APISERVER, command, &self.directory.join("apiserver.log"))?;
        self.await_ready(process, kubectl)
    }

    fn await_ready(&mut self, mut process: Process, kubectl: &Kubectl) -> Result<()> {
        let mut said = String::from("nobody listens yet");
        let ready = process.await_ready(START_LIMIT, || {
            // Before anybody listens, to start kubectl is a waste of the time that the server needs.
            if self.entrance.connect(self.address, CONNECT_LIMIT).is_err() {
                return Ok(false);
            }
            let mut answers = READY.iter().map(|path| kubectl.run(ADMIN_TOKEN, &["get", "--raw", path]));
            let refusal = answers.find_map(Result::err);
            said = refusal.as_ref().map(ToString::to_string).unwrap_or_default();
            Ok(refusal.is_none())
        });
        match ready {
            Ok(()) => {}
            Err(timeout @ Error::Timeout { .. }) => return Err(Error::Missing(format!("{timeout}: {said}"))),
            Err(error) => return Err(error),
        }
        credentials::write_authority(&self.directory)?;
        self.process = Some(process);
        Ok(())
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), Process::kill)
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let missing = || Error::Missing("the API server is not running".to_owned());
        self.process.as_ref().ok_or_else(missing)?.signal(signal)
    }

    /// Over all its starts.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("apiserver.log")).unwrap_or_default()
    }
}
