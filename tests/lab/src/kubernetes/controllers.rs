//! kube-controller-manager, as far as nodes and their blocks are concerned.

use std::path::Path;
use std::time::Duration;

use super::credentials::ADMIN_TOKEN;
use super::kubectl::Kubectl;
use super::programs::{CONTROLLER_MANAGER, built};
use super::{POD_RANGES, SERVICE_RANGES};
use crate::error::Result;
use crate::netns::Entrance;
use crate::process::Process;

/// Those whose work an agent sees, and those without which namespaces are never deleted and have no account `default`.
const CONTROLLERS: &str = "nodeipam,nodelifecycle,endpoint,namespace,serviceaccount,garbagecollector";

/// What nobody else makes.
const FIRST_WORK: [&str; 4] = ["get", "serviceaccount", "default", "--namespace=default"];

/// From start to the first work, which takes a second or two; the rest is for a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct ControllerManager {
    process: Process,
}

impl ControllerManager {
    /// Starts it; returns when it has begun to work.
    pub(super) fn start(
        entrance: &Entrance,
        directory: &Path,
        kubeconfig: &Path,
        kubectl: &Kubectl,
    ) -> Result<Self> {
        let mut command = entrance.command(built(CONTROLLER_MANAGER));
        command.arg("--kubeconfig").arg(kubeconfig);
        command.args(["--leader-elect=false", "--port", "0", "--secure-port", "0"]);
        command.args(["--controllers", CONTROLLERS, "--feature-gates", "IPv6DualStack=true"]);
        command.args(["--allocate-node-cidrs", "--cluster-cidr", &POD_RANGES.join(",")]);
        command.args(["--node-cidr-mask-size-ipv4", "26", "--node-cidr-mask-size-ipv6", "64"]);
        command.args(["--service-cluster-ip-range", &SERVICE_RANGES.join(",")]);
        let mut process = Process::start(CONTROLLER_MANAGER, command, &directory.join("controllers.log"))?;
        process.await_ready(START_LIMIT, || Ok(kubectl.run(ADMIN_TOKEN, &FIRST_WORK).is_ok()))?;
        Ok(Self { process })
    }

    pub(super) fn log(&self) -> String {
        self.process.log()
    }
}
