//! The node's kube-apiserver, as whoever runs it sees it: a process and its flags.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::stage::{Stage, output, wait_for};

/// The running one.
pub(super) struct ApiServer {
    process: PathBuf,
    /// That process, where these tests have started it.
    child: Option<Child>,
    command: Vec<String>,
}

impl ApiServer {
    /// The one that kubectl talks to. The tests see the node's processes.
    pub(super) fn find(stage: &Stage) -> Result<Self> {
        let url = "jsonpath={.clusters[0].cluster.server}";
        let url = stage.kubectl(&["config", "view", "-o", url])?;
        let port = url.rsplit(':').next().unwrap_or_default();
        let port = format!("--secure-port={port}");
        let processes = fs::read_dir("/proc")?.filter_map(|entry| Some(entry.ok()?.path()));
        let mut running = processes.filter_map(|process| {
            let command = command_of(&process);
            let program = Path::new(command.first()?).file_name()?;
            (program == "kube-apiserver" && command.contains(&port)).then_some(Self {
                process,
                child: None,
                command,
            })
        });
        running.next().context("kube-apiserver does not run")
    }

    /// The last value of a flag.
    pub(super) fn last(&self, flag: &str) -> Result<String> {
        let prefix = format!("--{flag}=");
        let mut values = self.command.iter().rev();
        let value = values.find_map(|argument| argument.strip_prefix(&prefix));
        value.map(str::to_owned).context(prefix)
    }

    /// Kills it, and starts it with other values of these flags. It outlives the tests.
    pub(super) fn restart(&mut self, stage: &Stage, flags: &[(&str, &[&str])]) -> Result<()> {
        for (flag, values) in flags {
            let prefix = format!("--{flag}=");
            self.command
                .retain(|argument| !argument.starts_with(&prefix));
            let values = values.iter().map(|value| format!("{prefix}{value}"));
            self.command.extend(values);
        }
        self.kill()?;
        let log = stage.scratch.join("kube-apiserver.log");
        let file = File::create(&log)?;
        let child = Command::new("setsid")
            .args(&self.command)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        self.process = Path::new("/proc").join(child.id().to_string());
        let child = self.child.insert(child);
        let ready = wait_for("kube-apiserver to be ready", MINUTE, || {
            if child.try_wait()?.is_some() {
                return Ok(Some(false));
            }
            let ask = ["get", "--raw", "/readyz", "--request-timeout=5s"];
            stage.kubectl(&ask).map(|_| Some(true))
        });
        match ready {
            Ok((true, _)) => Ok(()),
            Ok((false, _)) => bail!("kube-apiserver has ended: {}", end_of(&log)),
            Err(error) => Err(error.context(end_of(&log))),
        }
    }

    /// Until its port is free: its threads end one after another.
    fn kill(&mut self) -> Result<()> {
        let pid = self.process.file_name().context("a process has an id")?;
        output(Command::new("kill").arg("-9").arg(pid))?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        let (address, port) = (self.last("advertise-address")?, self.last("secure-port")?);
        wait_for("kube-apiserver's port to be free", MINUTE, || {
            let connected = TcpStream::connect(format!("{address}:{port}"));
            Ok(connected.is_err().then_some(()))
        })?;
        Ok(())
    }
}

/// Empty for one that has ended.
fn command_of(process: &Path) -> Vec<String> {
    let text = fs::read(process.join("cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let arguments = text.split_terminator('\0');
    arguments.map(str::to_owned).collect()
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut lines: Vec<&str> = text.lines().rev().take(30).collect();
    lines.reverse();
    lines.join("\n")
}

const MINUTE: Duration = Duration::from_secs(60);
