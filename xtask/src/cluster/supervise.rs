//! Pid 1's view of the programs it has started.

use std::fs::File;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::daemons::Daemon;
use super::layout::Layout;
use crate::progress::tail;

/// The programs that must stay alive.
#[derive(Debug)]
pub(crate) struct Supervisor {
    layout: Layout,
    running: Vec<(&'static str, Pid)>,
}

impl Supervisor {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            running: Vec::new(),
        }
    }

    /// Starts a program with its output in its log.
    pub(crate) fn start(&mut self, daemon: &Daemon) -> Result<()> {
        let Daemon {
            name,
            program,
            arguments,
        } = daemon;
        let log = File::create(self.layout.log(name))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        self.running
            .push((name, Pid::from_raw(i32::try_from(child.id())?)));
        Ok(())
    }

    /// An error with the end of its log if one of them has ended.
    pub(crate) fn require_all(&self) -> Result<()> {
        for (name, pid) in &self.running {
            let status = waitpid(*pid, Some(WaitPidFlag::WNOHANG))?;
            if status != WaitStatus::StillAlive {
                bail!(
                    "{name} has ended: {status:?}\n{}",
                    tail(&self.layout.log(name))
                );
            }
        }
        Ok(())
    }

    /// Reaps whatever is orphaned in the node, until the node is killed. Reports what must not end.
    pub(crate) fn reap_forever(&self) -> Result<()> {
        loop {
            match waitpid(None, None) {
                Ok(status) => self.report(status),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("nothing left to wait for"),
            }
        }
    }

    fn report(&self, status: WaitStatus) {
        let ended = self
            .running
            .iter()
            .find(|(_, pid)| status.pid() == Some(*pid));
        if let Some((name, _)) = ended {
            println!("{name} has ended: {status:?}");
        }
    }
}
