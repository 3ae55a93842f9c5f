//! The node's own cgroup in every hierarchy, so that its pods are one tree that can be removed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::poll;

/// Which cgroups the machine has. A hybrid machine counts as the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    V1,
    V2,
}

impl Hierarchy {
    pub(crate) fn of_machine() -> Self {
        if Path::new(MOUNT).join("cgroup.controllers").exists() {
            Self::V2
        } else {
            Self::V1
        }
    }
}

/// Makes the cgroup `name` in every hierarchy.
pub(crate) fn create(name: &str) -> Result<()> {
    if Hierarchy::of_machine() == Hierarchy::V2 {
        delegate_controllers()?;
    }
    for parent in parents()? {
        let cgroup = parent.join(name);
        fs::create_dir_all(&cgroup)
            .with_context(|| format!("cannot create the cgroup {}", cgroup.display()))?;
        // A new cpuset of v1 is empty, and no process may enter it until it is not.
        for setting in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read(parent.join(setting)) {
                fs::write(cgroup.join(setting), value)
                    .with_context(|| format!("cannot set {setting}"))?;
            }
        }
    }
    Ok(())
}

/// Removes the cgroup `name` and all below it. Its processes are gone or about to be.
pub(crate) fn remove(name: &str) -> Result<()> {
    for parent in parents()? {
        let cgroup = parent.join(name);
        poll::until(
            &format!("the cgroup {} to be empty", cgroup.display()),
            REMOVAL_LIMIT,
            || Ok(try_remove(&cgroup)?.then_some(())),
        )?;
    }
    Ok(())
}

/// Whether it is gone. Its files cannot be removed and need not be.
fn try_remove(cgroup: &Path) -> Result<bool> {
    let children = match fs::read_dir(cgroup) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        listing => listing.with_context(|| format!("cannot list {}", cgroup.display()))?,
    };
    for child in children.flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            try_remove(&child.path())?;
        }
    }
    let Err(error) = fs::remove_dir(cgroup) else {
        return Ok(true);
    };
    if matches!(
        error.kind(),
        ErrorKind::ResourceBusy | ErrorKind::DirectoryNotEmpty
    ) {
        return Ok(false);
    }
    Err(error).with_context(|| format!("cannot remove {}", cgroup.display()))
}

/// The root of each hierarchy. Where two controllers share one, their names are links to it.
fn parents() -> Result<Vec<PathBuf>> {
    if Hierarchy::of_machine() == Hierarchy::V2 {
        return Ok(vec![MOUNT.into()]);
    }
    let mut parents = Vec::new();
    for entry in fs::read_dir(MOUNT).with_context(|| format!("cannot list {MOUNT}"))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.path().join("cgroup.procs").exists() {
            parents.push(entry.path());
        }
    }
    Ok(parents)
}

/// Lets children of the root have every controller. One that is refused is left to the kubelet to complain about.
fn delegate_controllers() -> Result<()> {
    let root = Path::new(MOUNT);
    for controller in fs::read_to_string(root.join("cgroup.controllers"))?.split_whitespace() {
        if let Err(error) = fs::write(
            root.join("cgroup.subtree_control"),
            format!("+{controller}"),
        ) {
            crate::progress::say(format!("cgroup controller {controller}: {error}"));
        }
    }
    Ok(())
}

const MOUNT: &str = "/sys/fs/cgroup";
const REMOVAL_LIMIT: Duration = Duration::from_secs(30);
