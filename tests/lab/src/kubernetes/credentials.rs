//! Who a cluster trusts, and how a client knows the cluster: keys, tokens, certificates and kubeconfig files.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::programs::OPENSSL;
use crate::error::{Doing, Error, Result};
use crate::process::output_of;

/// The administrator's. No secret: the server is reached in the lab alone.
pub(super) const ADMIN_TOKEN: &str = "admin-of-the-lab";

/// Names within the directory of the cluster: the server's certificate and its key, the list of tokens that it knows
/// from its start, and what it signs those of service accounts with.
pub(super) const PKI: &str = "pki";
pub(super) const TOKENS: &str = "tokens.csv";
pub(super) const SIGNING_KEY: &str = "accounts.key";

const CERTIFICATE_BEGINS: &str = "-----BEGIN CERTIFICATE-----";

pub(super) fn write_signing_key(directory: &Path) -> Result<()> {
    let mut openssl = Command::new(OPENSSL);
    openssl.args(["ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out"]);
    openssl.arg(directory.join(SIGNING_KEY));
    output_of(openssl).map(drop)
}

/// Token, name, identifier and groups of each user that is no service account.
pub(super) fn write_tokens(directory: &Path) -> Result<()> {
    write(&directory.join(TOKENS), &format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n"))
}

pub(super) fn authority_path(directory: &Path) -> PathBuf {
    directory.join("ca.crt")
}

/// Keeps the certificate of the authority that the server made for itself: the last of the two that it presents.
pub(super) fn write_authority(directory: &Path) -> Result<()> {
    let path = directory.join(PKI).join("apiserver.crt");
    let presented = fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
    let begin = presented.rfind(CERTIFICATE_BEGINS).filter(|begin| *begin > 0);
    let authority = begin.and_then(|begin| presented.get(begin..));
    let missing = || Error::Missing(format!("no certificate of an authority in {}", path.display()));
    write(&authority_path(directory), authority.ok_or_else(missing)?)
}

pub(super) fn write_kubeconfig(directory: &Path, server: SocketAddr, path: &Path, token: &str) -> Result<()> {
    let mut openssl = Command::new(OPENSSL);
    openssl.args(["base64", "-A", "-in"]).arg(authority_path(directory));
    let authority = output_of(openssl)?;
    // JSON is YAML too.
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "lab",
            "cluster": { "server": format!("https://{server}"), "certificate-authority-data": authority },
        }],
        "users": [{ "name": "lab", "user": { "token": token } }],
        "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "lab" } }],
        "current-context": "lab",
    });
    write(path, &format!("{config:#}\n"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).doing(|| format!("write {}", path.display()))
}
