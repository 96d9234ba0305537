//! F19: a file that is read again in a bad moment.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use lab::{Error, Result};
use selvedge::config;

use super::without_a_session_lost;
use crate::site::{Site, tool};

/// Every cut would be a process each.
const CUT_EVERY: usize = 5;

pub(super) fn all(site: &mut Site) -> Result<()> {
    let path = site.agent()?.socket().with_file_name("selvedge.toml");
    let good = fs::read_to_string(&path).map_err(super::super::io("read the configuration"))?;
    let fabric = site.victim()?.netns.routes()?;
    let outcome = without_a_session_lost(site, |site| {
        let cuts = half_written(site, &path, &good)?;
        let others = unreadable(site, &path, &good)?;
        let now = site.victim()?.netns.routes()?;
        site.demand(now == fabric, || "the kernel's routes have changed".to_owned());
        site.note(format!("{cuts} half-written and {others} other bad files refused"));
        Ok(())
    });
    // Whatever became of it.
    remove(&path)?;
    fs::write(&path, &good).map_err(super::super::io("restore the configuration"))?;
    outcome?;
    let done = site.agent()?.bgpctl(&["reload"])?;
    site.demand(done.contains("no change"), || format!("the good file again: {done}"));
    Ok(())
}

/// Of the cuts, those that are no configuration: a file that ends with a whole line may be one.
fn half_written(site: &mut Site, path: &Path, good: &str) -> Result<usize> {
    let mut refused = 0;
    for length in (0..good.len()).step_by(CUT_EVERY) {
        let Some(cut) = good.get(..length).filter(|cut| config::parse(cut, "").is_err()) else { continue };
        fs::write(path, cut).map_err(super::super::io("write half a configuration"))?;
        let place = if cut.trim().is_empty() { "is empty" } else { "selvedge.toml" };
        demand_refusal(site, &format!("{length} octets"), place)?;
        refused += 1;
    }
    Ok(refused)
}

fn unreadable(site: &mut Site, path: &Path, good: &str) -> Result<usize> {
    let io = super::super::io;
    let lines = good.lines().count();
    fs::write(path, [good.as_bytes(), b"# \xff\xfe\n"].concat()).map_err(io("write no UTF-8"))?;
    demand_refusal(site, "no UTF-8", &format!("selvedge.toml:{}: is not UTF-8", lines + 1))?;
    fs::write(path, [good.as_bytes(), b"[bgp\n"].concat()).map_err(io("write no TOML"))?;
    demand_refusal(site, "no TOML", &format!("selvedge.toml:{}", lines + 1))?;
    fs::write(path, format!("{good}\n# {}\n", "x".repeat(10 << 20))).map_err(io("write 10 MB"))?;
    demand_refusal(site, "10 MB", "larger than")?;
    remove(path)?;
    demand_refusal(site, "no file", "cannot read")?;
    symlink("nowhere", path).map_err(io("make a link"))?;
    demand_refusal(site, "a link to nowhere", "cannot read")?;
    remove(path)?;
    symlink("selvedge.toml", path).map_err(io("make a link"))?;
    demand_refusal(site, "a link to itself", "cannot read")?;
    remove(path)?;
    symlink("/dev/zero", path).map_err(io("make a link"))?;
    demand_refusal(site, "a link to a device", "is not a regular file")?;
    remove(path)?;
    fs::create_dir(path).map_err(io("make a directory"))?;
    demand_refusal(site, "a directory", "is a directory")?;
    remove(path)?;
    tool(&site.victim()?.netns, &format!("mkfifo {}", path.display()))?;
    demand_refusal(site, "a pipe", "is not a regular file")?;
    remove(path)?;
    // As Kubernetes swaps a ConfigMap: a link that comes to lead elsewhere, to the same text.
    let other = path.with_file_name("other.toml");
    fs::write(&other, good).map_err(io("write a configuration"))?;
    symlink(&other, path).map_err(io("make a link"))?;
    let done = site.agent()?.bgpctl(&["reload"])?;
    site.demand(done.contains("no change"), || format!("a link to the same text: {done}"));
    fs::remove_file(&other).map_err(io("remove a configuration"))?;
    Ok(9)
}

/// A reload fails and says what and where.
fn demand_refusal(site: &mut Site, what: &str, place: &str) -> Result<()> {
    match site.agent()?.bgpctl(&["reload"]) {
        Ok(done) => site.demand(false, || format!("{what} were taken: {done}")),
        Err(Error::ToolFailed { output, .. }) => {
            site.demand(output.contains(place), || format!("{what}: {place:?} is not in {output:?}"));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let removed = if metadata.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    removed.map_err(super::super::io("remove the configuration"))
}
