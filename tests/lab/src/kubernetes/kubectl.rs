//! kubectl inside the namespace, with files of its own: nothing of the user's is read or written.

use std::fs;
use std::io::{BufReader, ErrorKind, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::credentials::ADMIN_TOKEN;
use super::programs::{KUBECTL, built};
use crate::error::{Doing, Error, Result};
use crate::netns::Entrance;
use crate::process::{output_of, output_of_fed};
use crate::wait::check_interrupt;

/// A kubectl that watches. It is killed when it is dropped.
#[derive(Debug)]
struct Watcher {
    child: Child,
}

#[derive(Debug)]
pub(super) struct Kubectl {
    entrance: Entrance,
    server: SocketAddr,
    /// Its home, with its memory of kinds.
    home: PathBuf,
}

impl Kubectl {
    pub(super) fn new(entrance: &Entrance, directory: &Path, server: SocketAddr) -> Result<Self> {
        let home = directory.join("home");
        fs::create_dir_all(&home).doing(|| format!("make {}", home.display()))?;
        Ok(Self { entrance: entrance.clone(), server, home })
    }

    pub(super) fn run(&self, token: &str, words: &[&str]) -> Result<String> {
        let mut command = self.command(token);
        command.args(words);
        output_of(command)
    }

    /// Reads what kubectl prints as the server tells of changes.
    pub(super) fn watch(
        &self,
        what: &str,
        object: &[&str],
        limit: Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        let mut command = self.command(ADMIN_TOKEN);
        command.arg("get").args(object).args(["--watch", "--output=json"]);
        // It ends by itself, whether the server does anything or not.
        command.arg(format!("--request-timeout={}ms", limit.as_millis()));
        let mut watcher = Watcher::start(command)?;
        let mut last = Value::Null;
        for object in watcher.objects() {
            check_interrupt()?;
            last = object.map_err(|source| Error::Json { command: format!("kubectl for {what}"), source })?;
            if wanted(&last) {
                return Ok(last);
            }
        }
        watcher.complaint()?;
        Err(Error::Timeout { what: format!("{what}, which is {last}"), limit })
    }

    /// With the server, the token and the certificate of a file.
    pub(super) fn run_from(&self, entrance: &Entrance, kubeconfig: &Path, words: &[&str]) -> Result<String> {
        let mut command = self.command_in(entrance, kubeconfig);
        command.args(words);
        output_of(command)
    }

    /// `options` tell what to print.
    pub(super) fn apply(&self, manifest: &str, options: &[&str]) -> Result<String> {
        let mut command = self.command(ADMIN_TOKEN);
        // It checks names of fields first: the server drops one that it does not know without a word.
        command.args(["apply", "--validate=true", "--filename=-"]).args(options);
        output_of_fed(command, manifest)
    }

    /// Sends an object to a path of the API as a new one.
    pub(super) fn create(&self, path: &str, object: &Value) -> Result<String> {
        self.send("create", path, object)
    }

    /// Sends it in place of what is there.
    pub(super) fn replace(&self, path: &str, object: &Value) -> Result<String> {
        self.send("replace", path, object)
    }

    /// Has kubectl ask again which kinds there are; it remembers that for ten minutes.
    pub(super) fn forget_kinds(&self) -> Result<()> {
        let cache = self.home.join(".kube/cache");
        match fs::remove_dir_all(&cache) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::Io { doing: format!("remove {}", cache.display()), source: error })
            }
            _gone => Ok(()),
        }
    }

    fn send(&self, verb: &str, path: &str, object: &Value) -> Result<String> {
        let mut command = self.command(ADMIN_TOKEN);
        command.args([verb, "--raw", path, "--filename=-"]);
        output_of_fed(command, &object.to_string())
    }

    fn command(&self, token: &str) -> Command {
        let mut command = self.command_in(&self.entrance, Path::new("/dev/null"));
        // Not verified by it: the server must be heard before its certificate has been read. Others do verify.
        command.arg("--insecure-skip-tls-verify");
        command.arg(format!("--server=https://{}", self.server)).arg(format!("--token={token}"));
        command
    }

    fn command_in(&self, entrance: &Entrance, kubeconfig: &Path) -> Command {
        let mut command = entrance.command(built(KUBECTL));
        command.env("HOME", &self.home).env("KUBECONFIG", kubeconfig);
        for proxy in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
            command.env_remove(proxy);
        }
        command
    }
}

impl Watcher {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().doing(|| "start kubectl".to_owned())?;
        Ok(Self { child })
    }

    /// Each state of the object, as it comes, until kubectl ends.
    fn objects(&mut self) -> impl Iterator<Item = serde_json::Result<Value>> + use<> {
        let output = self.child.stdout.take().map(BufReader::new);
        output.into_iter().flat_map(|output| serde_json::Deserializer::from_reader(output).into_iter())
    }

    /// Why kubectl ended, if it was not for the time that it had.
    fn complaint(mut self) -> Result<()> {
        let mut output = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_string(&mut output).doing(|| "read what kubectl says".to_owned())?;
        }
        let status = self.child.wait().doing(|| "wait for kubectl".to_owned())?;
        if status.success() || output.contains("Timeout") || output.contains("deadline exceeded") {
            return Ok(());
        }
        let command = "kubectl get --watch".to_owned();
        Err(Error::ToolFailed { command, status, output: output.trim_end().to_owned() })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Both fail only where it has ended and been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
