//! Where the programs of a cluster are.

use std::path::{Path, PathBuf};

/// Debian's.
pub(super) const ETCD: &str = "/usr/bin/etcd";
pub(super) const OPENSSL: &str = "/usr/bin/openssl";

pub(super) const APISERVER: &str = "kube-apiserver";
pub(super) const CONTROLLER_MANAGER: &str = "kube-controller-manager";
pub(super) const KUBECTL: &str = "kubectl";

pub(super) fn all_are_there() -> bool {
    let built = [APISERVER, CONTROLLER_MANAGER, KUBECTL].map(built);
    let installed = [ETCD, OPENSSL].map(PathBuf::from);
    built.iter().chain(&installed).all(|program| program.exists())
}

/// A program that `tests/kubernetes-build` makes.
pub(super) fn built(program: &str) -> PathBuf {
    folder().join(program)
}

/// The folder by the same rule as that script's.
fn folder() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("SELVEDGE_KUBE_CACHE").unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        // Without either there is nothing to be found, and what needs it is skipped.
        cache.unwrap_or_else(|| Path::new("/var/cache").to_owned()).join("selvedge/kubernetes-1.20.2")
    })
}
