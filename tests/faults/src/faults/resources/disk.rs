//! F15: a daemon of its own, without neighbors, whose socket has to be in a file system that takes nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use lab::{Error, Netns, Process, Result, Scratch, eventually, output_of};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::site::Site;

/// The agent tries again every five seconds.
const PATIENCE: Duration = Duration::from_secs(15);
const BLOCK: &str = "10.99.0.0/26";

pub(super) fn all(site: &mut Site) -> Result<()> {
    let mut scratch = Scratch::create(&format!("disk-{}", std::process::id()))?;
    let disk = Disk::mount(scratch.directory("disk")?)?;
    for (name, obstacle) in [("full", Obstacle::Full), ("read-only", Obstacle::ReadOnly)] {
        // A namespace each: routes stay when their daemon goes.
        let netns = scratch.netns(name)?;
        let log = scratch.directory(name)?.join("log");
        let config = configuration(&scratch.directory(name)?, &disk.path.join(name).join("control.sock"))?;
        disk.put_in_the_way(obstacle)?;
        let mut command = netns.command(&site.agent()?.programs().daemon);
        command.arg("--config").arg(&config);
        let daemon = Process::start(name, command, &log)?;
        await_block(&netns)?;
        let warnings = || daemon.log().lines().filter(|line| line.contains("no control socket")).count();
        site.demand(warnings() == 1, || format!("{name}: {} warnings", warnings()));
        disk.clear()?;
        let socket = disk.path.join(name).join("control.sock");
        eventually("the control socket", PATIENCE, || {
            let mut bgpctl = std::process::Command::new(&site.agent()?.programs().bgpctl);
            bgpctl.arg("--socket").arg(&socket).args(["show", "summary"]);
            Ok(output_of(bgpctl).ok())
        })?;
        site.demand(warnings() == 1, || format!("{name}: {} warnings in the end", warnings()));
    }
    log_that_nobody_takes(site, &mut scratch)?;
    site.note("the daemon runs in all three cases; one warning, and the socket when there is room");
    Ok(())
}

fn configuration(directory: &Path, socket: &Path) -> Result<PathBuf> {
    let path = directory.join("selvedge.toml");
    let text = format!(
        "[bgp]\nlocal-as = 65001\nrouter-id = \"1.1.1.1\"\n[pods.static]\nblocks = [{BLOCK:?}]\n[control]\nsocket = {socket:?}\n"
    );
    fs::write(&path, text).map_err(super::super::io("write a configuration"))?;
    Ok(path)
}

/// The daemon does its work: its block is in the kernel.
fn await_block(netns: &Netns) -> Result<()> {
    let has_block = |routes: &[lab::Route]| routes.iter().any(|route| route.prefix.to_string() == BLOCK);
    netns.await_routes(BLOCK, PATIENCE, has_block).map(drop)
}

/// Standard error on a disk without room.
fn log_that_nobody_takes(site: &mut Site, scratch: &mut Scratch) -> Result<()> {
    let netns = scratch.netns("log")?;
    let directory = scratch.directory("log")?;
    let socket = directory.join("control.sock");
    let config = configuration(&directory, &socket)?;
    let full = File::options().write(true).open("/dev/full").map_err(super::super::io("open /dev/full"))?;
    let mut command = netns.command(&site.agent()?.programs().daemon);
    command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(full);
    let mut daemon = Killed(command.spawn().map_err(super::super::io("start a daemon"))?);
    await_block(&netns)?;
    for _ in 0..3 {
        let mut bgpctl = std::process::Command::new(&site.agent()?.programs().bgpctl);
        bgpctl.arg("--socket").arg(&socket).arg("reload");
        output_of(bgpctl)?;
    }
    let ended = daemon.0.try_wait().map_err(super::super::io("look after a daemon"))?;
    site.demand(ended.is_none(), || format!("without a log the daemon ended: {ended:?}"));
    Ok(())
}

/// A process that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only where it has ended and been reaped already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    Full,
    ReadOnly,
}

/// A file system of a few pages.
struct Disk {
    path: PathBuf,
}

impl Disk {
    fn mount(path: PathBuf) -> Result<Self> {
        let options = Some("size=16k,nr_inodes=16");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), options).map_err(mounting)?;
        Ok(Self { path })
    }

    fn put_in_the_way(&self, obstacle: Obstacle) -> Result<()> {
        match obstacle {
            Obstacle::ReadOnly => self.remount(MsFlags::MS_RDONLY),
            Obstacle::Full => {
                // Files without content, until there is no room for another.
                let fill = (0..).map(|number: u32| File::create_new(self.path.join(format!("file{number}"))));
                match fill.take_while(std::result::Result::is_ok).count() {
                    0 => Err(Error::Missing("a disk with room".to_owned())),
                    _ => Ok(()),
                }
            }
        }
    }

    fn clear(&self) -> Result<()> {
        self.remount(MsFlags::empty())?;
        let entries = fs::read_dir(&self.path).map_err(super::super::io("list a disk"))?;
        for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
            fs::remove_file(entry.path()).map_err(super::super::io("clear a disk"))?;
        }
        Ok(())
    }

    fn remount(&self, flags: MsFlags) -> Result<()> {
        mount(None::<&str>, &self.path, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>)
            .map_err(mounting)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A daemon that still has its socket there keeps the file system, not the name.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

fn mounting(error: nix::Error) -> Error {
    Error::Io { doing: "mount a file system".to_owned(), source: error.into() }
}
