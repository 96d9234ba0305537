//! Pods made as a container runtime makes them: by the plugins of a CNI configuration list, one after the other, each told
//! what those before it have done (CNI specification 0.4.0, "Network Configuration Lists").
//!
//! In: the file that a runtime would find, and namespaces for the pods. Out: what the plugins of Debian's
//! containernetworking-plugins make of them.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::{Doing, Error, Result};
use crate::netns::Netns;
use crate::process::output_of_fed;

/// Where Debian has the plugins.
const PLUGINS: &str = "/usr/lib/cni";
const INTERFACE: &str = "eth0";

/// The plugins of one node, as its file has them.
#[derive(Debug)]
pub struct Plugins {
    list: Value,
    /// Where `host-local` is to remember addresses: all nodes of a lab have the same disk.
    memory: PathBuf,
}

impl Plugins {
    /// Whether this machine has them.
    #[must_use]
    pub fn are_installed() -> bool {
        ["ptp", "host-local", "portmap"].iter().all(|plugin| Path::new(PLUGINS).join(plugin).exists())
    }

    /// Reads the file as runtimes do.
    ///
    /// # Errors
    /// It is not there, or is no list.
    pub fn read(list: &Path, memory: &Path) -> Result<Self> {
        let text = fs::read_to_string(list).doing(|| format!("read {}", list.display()))?;
        let list = serde_json::from_str(&text)
            .map_err(|source| Error::Json { command: list.display().to_string(), source })?;
        Ok(Self { list, memory: memory.to_owned() })
    }

    /// Connects a pod of this node; gives its addresses, in the order of the ranges.
    ///
    /// # Errors
    /// A plugin refuses.
    pub fn add(&self, node: &Netns, pod: &Netns) -> Result<Vec<IpAddr>> {
        let mut result = None;
        for plugin in self.plugins() {
            let text = self.call("ADD", plugin, result.as_ref(), node, pod)?;
            let parsed = serde_json::from_str(&text);
            result = Some(parsed.map_err(|source| Error::Json { command: "ADD".to_owned(), source })?);
        }
        let result = result.unwrap_or_default();
        let file = self.result_of(pod);
        fs::write(&file, result.to_string()).doing(|| format!("write {}", file.display()))?;
        let addresses = result.get("ips").and_then(Value::as_array).into_iter().flatten();
        let address = |ip: &Value| ip.get("address")?.as_str()?.split('/').next()?.parse().ok();
        Ok(addresses.filter_map(address).collect())
    }

    /// Takes a pod's connection away: the same plugins from the last to the first.
    ///
    /// # Errors
    /// A plugin refuses, or the pod has none.
    pub fn delete(&self, node: &Netns, pod: &Netns) -> Result<()> {
        let file = self.result_of(pod);
        let result = fs::read_to_string(&file).doing(|| format!("read {}", file.display()))?;
        let result = serde_json::from_str(&result)
            .map_err(|source| Error::Json { command: file.display().to_string(), source })?;
        for plugin in self.plugins().into_iter().rev() {
            self.call("DEL", plugin, Some(&result), node, pod)?;
        }
        fs::remove_file(&file).doing(|| format!("remove {}", file.display()))
    }

    /// Addresses that `host-local` has given away and not taken back: it has a file for each.
    ///
    /// # Errors
    /// Its folder cannot be read.
    pub fn given_away(&self) -> Result<Vec<IpAddr>> {
        let folder = self.memory.join(self.name());
        let entries = fs::read_dir(&folder).doing(|| format!("read {}", folder.display()))?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    fn plugins(&self) -> Vec<&Value> {
        self.list.get("plugins").and_then(Value::as_array).into_iter().flatten().collect()
    }

    fn name(&self) -> &str {
        self.list.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    fn result_of(&self, pod: &Netns) -> PathBuf {
        self.memory.join(format!("{}.json", pod.name()))
    }

    fn call(
        &self,
        verb: &str,
        plugin: &Value,
        result: Option<&Value>,
        node: &Netns,
        pod: &Netns,
    ) -> Result<String> {
        let program = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
        let mut command = node.command(Path::new(PLUGINS).join(program));
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", pod.name()).env("CNI_IFNAME", INTERFACE);
        command.env("CNI_NETNS", pod.path()).env("CNI_PATH", PLUGINS);
        output_of_fed(command, &self.input(plugin, result).to_string())
    }

    /// What a plugin is told: its part of the list, what holds for all of it, and what was done before.
    fn input(&self, plugin: &Value, result: Option<&Value>) -> Value {
        let mut input = plugin.clone();
        if let Some(ipam) = input.get_mut("ipam").and_then(Value::as_object_mut) {
            ipam.insert("dataDir".to_owned(), json!(self.memory));
        }
        let Some(fields) = input.as_object_mut() else { return input };
        for key in ["cniVersion", "name"] {
            fields.insert(key.to_owned(), self.list.get(key).cloned().unwrap_or_default());
        }
        if fields.remove("capabilities").is_some() {
            fields.insert("runtimeConfig".to_owned(), json!({ "portMappings": [] }));
        }
        if let Some(result) = result {
            fields.insert("prevResult".to_owned(), result.clone());
        }
        input
    }
}
