//! What a lab leaves in the file system, and how the next one finds it again.
//!
//! Each lab owns a directory `/run/selvedge-lab/NAME` with a lock file that it holds for as long as it lives, and a
//! list of the namespaces that it made. The kernel releases the lock however the lab ends; so a directory whose
//! lock is free belongs to a lab that was killed, and everything on its list can go.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error, Result};
use crate::netns::{Netns, clear_leftover};

/// Not below /tmp: cleaners of old files must not take the sockets of a lab that runs for weeks.
const DIRECTORY: &str = "/run/selvedge-lab";

/// The directory of one lab. Removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    name: String,
    path: PathBuf,
    namespaces: File,
    /// Held for as long as the lab lives, never read.
    #[cfg_attr(not(test), expect(dead_code, reason = "holding it is its use"))]
    lock: File,
}

impl Scratch {
    /// Makes the directory, after clearing what earlier labs left that were killed. `name` is part of every
    /// namespace name.
    ///
    /// # Errors
    /// [`Error::Running`] if a lab of this name is alive, or the system refuses.
    pub fn create(name: &str) -> Result<Self> {
        let _alone = lock_out_others()?;
        clear_all_leftovers()?;
        let path = Path::new(DIRECTORY).join(name);
        fs::create_dir_all(&path).doing(|| format!("make {}", path.display()))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).doing(|| format!("make {}", lock_path.display()))?;
        if lock.try_lock().is_err() {
            return Err(Error::Running { lock: lock_path });
        }
        let list = path.join("namespaces");
        let namespaces = File::options()
            .create(true)
            .append(true)
            .open(&list)
            .doing(|| format!("make {}", list.display()))?;
        Ok(Self { name: name.to_owned(), path, namespaces, lock })
    }

    /// Ends the daemons and removes the namespaces and files of every lab that was killed. One that lives is left alone.
    ///
    /// # Errors
    /// The system refuses.
    pub fn clear_abandoned() -> Result<()> {
        let _alone = lock_out_others()?;
        clear_all_leftovers()
    }

    /// Makes a namespace called `LAB-role` that will be found even if this process is killed.
    ///
    /// # Errors
    /// The system refuses.
    pub fn netns(&mut self, role: &str) -> Result<Netns> {
        let name = format!("{}-{role}", self.name);
        writeln!(self.namespaces, "{name}").doing(|| format!("note namespace {name}"))?;
        Netns::create(&name)
    }

    /// Makes a directory for one daemon's files; short, as socket paths end at 107 octets. Others than root may pass
    /// through it, for daemons that give up root.
    ///
    /// # Errors
    /// The system refuses.
    pub fn directory(&self, role: &str) -> Result<PathBuf> {
        let path = self.path.join(role);
        fs::create_dir_all(&path).doing(|| format!("make {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))
            .doing(|| format!("open up {}", path.display()))?;
        Ok(path)
    }

    /// What the kernel does for a lab that is killed.
    #[cfg(test)]
    pub(crate) fn release_lock_as_if_killed(&self) {
        self.lock.unlock().unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next lab.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Until the file is dropped, no other lab starts: a lab that has its lock file and not yet the lock would pass for an
/// abandoned one.
fn lock_out_others() -> Result<File> {
    fs::create_dir_all(DIRECTORY).doing(|| format!("make {DIRECTORY} (this needs root)"))?;
    let directory = File::open(DIRECTORY).doing(|| format!("open {DIRECTORY}"))?;
    directory.lock().doing(|| format!("lock {DIRECTORY}"))?;
    Ok(directory)
}

fn clear_all_leftovers() -> Result<()> {
    let labs = fs::read_dir(DIRECTORY).doing(|| format!("list {DIRECTORY}"))?;
    for lab in labs.flatten() {
        clear_if_abandoned(&lab.path())?;
    }
    Ok(())
}

fn clear_if_abandoned(lab: &Path) -> Result<()> {
    // A lab that is just starting has no lock file yet: not ours to judge.
    let Ok(lock) = File::open(lab.join("lock")) else { return Ok(()) };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(source)) => {
            return Err(Error::Io { doing: format!("lock {}", lab.display()), source });
        }
    }
    for name in fs::read_to_string(lab.join("namespaces")).unwrap_or_default().lines() {
        clear_leftover(name);
    }
    fs::remove_dir_all(lab).doing(|| format!("remove {}", lab.display()))
}
