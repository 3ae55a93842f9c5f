//! The processes of a node as the host sees them.
//!
//! They are found by their command line and not by a file with a process id: such a file may be missing after a
//! crash, or name a stranger.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::poll;

/// The two processes a node hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeProcess {
    /// Holds the namespaces together: with it, everything in them dies.
    unshare: Pid,
    /// Pid 1 of the node, by its number on the host.
    init: Pid,
}

impl NodeProcess {
    /// The node whose files are at `root`, if it runs.
    pub(crate) fn find(root: &Path) -> Result<Option<Self>> {
        for entry in fs::read_dir("/proc").context("no /proc")? {
            let name = entry?.file_name();
            let Some(pid) = name
                .to_str()
                .and_then(|name| name.parse().ok())
                .map(Pid::from_raw)
            else {
                continue;
            };
            // Before it executes, the child of unshare has the same command line, but no child.
            if command_line(pid).is_some_and(|line| is_node_of(&line, root))
                && let Some(init) = children(pid).first()
            {
                return Ok(Some(Self {
                    unshare: pid,
                    init: *init,
                }));
            }
        }
        Ok(None)
    }

    pub(crate) fn init(self) -> Pid {
        self.init
    }

    /// Ends the node and everything in it.
    pub(crate) fn end(self) -> Result<()> {
        for pid in [self.unshare, self.init] {
            send(pid, Signal::SIGKILL)?;
        }
        poll::until("the node's processes to end", END_LIMIT, || {
            let is_gone = [self.unshare, self.init]
                .into_iter()
                .all(|pid| command_line(pid).is_none());
            Ok(is_gone.then_some(()))
        })
    }
}

/// The children of a process, oldest first.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok().map(Pid::from_raw))
        .collect()
}

/// Sends a signal; that the process is gone already is fine.
pub(crate) fn send(pid: Pid, signal: Signal) -> Result<()> {
    match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot signal process {pid}")),
    }
}

/// The arguments of a process; none for one that is gone or dead and not yet reaped.
fn command_line(pid: Pid) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&bytes);
    let arguments: Vec<String> = line.split_terminator('\0').map(str::to_owned).collect();
    (!arguments.is_empty()).then_some(arguments)
}

/// `unshare … <this program> cluster node --root <root>`
fn is_node_of(line: &[String], root: &Path) -> bool {
    let expected = ["cluster", "node", "--root", &root.to_string_lossy()].map(str::to_owned);
    line.first().is_some_and(|program| program == "unshare") && line.ends_with(&expected)
}

const END_LIMIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn is_node(line: &str) -> bool {
        let line: Vec<String> = line.split(' ').map(str::to_owned).collect();
        is_node_of(&line, Path::new("/cache/clusters/one"))
    }

    #[test]
    fn knows_its_own_node_only() {
        assert!(is_node(
            "unshare --pid --fork /target/xtask cluster node --root /cache/clusters/one"
        ));
        assert!(!is_node(
            "unshare --pid --fork /target/xtask cluster node --root /cache/clusters/one-more"
        ));
        assert!(!is_node(
            "/target/xtask cluster node --root /cache/clusters/one"
        ));
    }
}
