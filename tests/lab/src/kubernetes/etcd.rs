//! etcd, which keeps the objects while the API server is killed and started. It is reached inside the namespace alone.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::programs::ETCD;
use crate::error::Result;
use crate::netns::Entrance;
use crate::process::Process;

/// From start to health; generous, for a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

const CLIENTS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2379);

#[derive(Debug)]
pub(super) struct Etcd {
    process: Process,
}

impl Etcd {
    /// Starts it with its data in `directory/etcd`; returns when it takes writes.
    pub(super) fn start(entrance: &Entrance, directory: &Path) -> Result<Self> {
        let mut command = entrance.command(ETCD);
        command.arg("--data-dir").arg(directory.join("etcd"));
        // A power cut is no fault that the lab has.
        command.arg("--unsafe-no-fsync");
        for role in ["--listen-client-urls", "--advertise-client-urls"] {
            command.args([role, &clients_url()]);
        }
        let mut process = Process::start("etcd", command, &directory.join("etcd.log"))?;
        process.await_ready(START_LIMIT, || Ok(is_healthy(entrance).unwrap_or(false)))?;
        Ok(Self { process })
    }

    pub(super) fn log(&self) -> String {
        self.process.log()
    }
}

pub(super) fn clients_url() -> String {
    format!("http://{CLIENTS}")
}

fn is_healthy(entrance: &Entrance) -> io::Result<bool> {
    let mut stream = entrance.connect(CLIENTS, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.contains(r#""health":"true""#))
}
