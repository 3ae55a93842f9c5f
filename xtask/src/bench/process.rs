//! What the kernel knows of a process.

use std::fs::{self, File};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Child(process::Child);

/// What it has used so far, and has now.
#[derive(Debug)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) resident: u64,
    pub(crate) anonymous: u64,
    pub(crate) threads: u32,
    /// How often it has slept and woken.
    pub(crate) wakes: u32,
}

impl Child {
    /// Starts it with its errors in a file.
    pub(crate) fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log)?)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self(child))
    }

    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }

    /// The CPU time is that of all its threads, also of those that have ended, as that of a look-up has.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let read = |file: &str| {
            let path = format!("/proc/{}/{file}", self.0.id());
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let status = read("status")?;
        let memory = read("smaps_rollup")?;
        // Exact, where utime and stime count ticks of 10 ms.
        let pid = Pid::from_raw(self.0.id().try_into()?);
        let cpu = clock_gettime(clock_getcpuclockid(pid)?)?;
        Ok(Usage {
            cpu: cpu.into(),
            resident: u64::from(number(&memory, "Rss:")?) * 1024,
            anonymous: u64::from(number(&memory, "Anonymous:")?) * 1024,
            threads: number(&status, "Threads:")?,
            wakes: number(&status, "voluntary_ctxt_switches:")?,
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The CPU time of all children that have ended.
pub(crate) fn cpu_of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let span = |time: TimeVal| -> Result<Duration> {
        let seconds = Duration::from_secs(time.tv_sec().try_into()?);
        Ok(seconds + Duration::from_micros(time.tv_usec().try_into()?))
    };
    Ok(span(usage.user_time())? + span(usage.system_time())?)
}

fn number(text: &str, key: &str) -> Result<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let word = line.and_then(|line| line.split_whitespace().next());
    let word = word.with_context(|| format!("no line {key}"))?;
    Ok(word.parse()?)
}
