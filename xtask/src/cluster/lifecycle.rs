//! Bringing a cluster up and taking it down again, whatever state it was left in.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::address::{NODE_NAME, render_dns_manifests};
use super::exec::NODE_ENVIRONMENT;
use super::node::Plan;
use super::{Cluster, cgroup, config, pki};
use crate::progress::{Stopwatch, say, tail};
use crate::tools::Module;
use crate::{image, poll};

/// What `up` does beyond the bare node.
#[derive(Debug, Default)]
pub(crate) struct UpOptions {
    /// Image tars for the node, beside its own.
    pub(crate) images: Vec<PathBuf>,
}

impl Cluster<'_> {
    /// Makes sure that the cluster runs and has the images.
    pub(crate) fn up(&self, options: &UpOptions) -> Result<()> {
        let _lock = self.lock()?;
        let programs = Module::K8s.ensure(self.workspace)?;
        let base_images = image::base(self.workspace)?;
        if self.is_healthy()? {
            say(format!("cluster {} is already up", self.name));
            return options
                .images
                .iter()
                .try_for_each(|tar| self.import_image(tar));
        }
        if self.layout.root().exists() || self.node()?.is_some() {
            say(format!(
                "cluster {}: removing what is left of an earlier run",
                self.name
            ));
            self.remove()?;
        }
        let watch = Stopwatch::start();
        self.prepare(&Plan {
            programs,
            base_images: base_images.into_iter().map(|image| image.tar).collect(),
            more_images: options.images.clone(),
        })?;
        self.start_node()?;
        self.start_dns()?;
        fs::write(self.layout.up_complete(), [])?;
        say(format!(
            "cluster {} is up after {:.1} s",
            self.name,
            watch.seconds()
        ));
        Ok(())
    }

    /// Removes the cluster and everything of it. `keep_logs`: a folder to copy its logs to.
    pub(crate) fn down(&self, keep_logs: Option<&Path>) -> Result<()> {
        let _lock = self.lock()?;
        if let Some(folder) = keep_logs {
            self.copy_logs(folder)?;
        }
        if !self.layout.root().exists() && self.node()?.is_none() {
            say(format!("cluster {} is not up", self.name));
            return self.remove(); // a cgroup may be left all the same
        }
        let watch = Stopwatch::start();
        self.remove()?;
        say(format!(
            "cluster {} is down after {:.1} s",
            self.name,
            watch.seconds()
        ));
        Ok(())
    }

    /// Whether it runs as `up` leaves it.
    pub(crate) fn is_healthy(&self) -> Result<bool> {
        if self.node()?.is_none() || !self.layout.up_complete().exists() {
            return Ok(false);
        }
        let query = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        let status = self.kubectl(&[
            "--request-timeout=5s",
            "get",
            "node",
            NODE_NAME,
            "--output",
            query,
        ]);
        Ok(status.is_ok_and(|status| status == "True"))
    }

    fn lock(&self) -> Result<crate::cache::Lock> {
        self.workspace.cache.lock(&format!("cluster-{}", self.name))
    }

    /// All that can be done before there is a node.
    fn prepare(&self, plan: &Plan) -> Result<()> {
        self.layout.create()?;
        pki::create(&self.layout.pki())?;
        let cgroup_name = self.cgroup_name();
        cgroup::create(&cgroup_name)?;
        config::write(&self.layout, &cgroup_name, cgroup::Hierarchy::of_machine())?;
        fs::write(self.layout.node_plan(), serde_json::to_vec(plan)?)?;
        Ok(())
    }

    /// Starts pid 1 and shows its progress until its node is Ready.
    fn start_node(&self) -> Result<()> {
        let log = self.layout.log("node");
        let mut unshare = self.spawn_node(&log)?;
        let mut shown = 0;
        let started = poll::until("the node", NODE_LIMIT, || {
            shown = show_news(&log, shown)?;
            if let Some(status) = unshare.try_wait()? {
                bail!("pid 1 of the node has ended: {status}");
            }
            Ok(self.layout.node_ready().exists().then_some(()))
        });
        show_news(&log, shown)?;
        started.with_context(|| {
            format!(
                "cluster {} did not start; its logs are in {}",
                self.name,
                self.log_folder()
            )
        })
    }

    fn spawn_node(&self, log: &Path) -> Result<Child> {
        let log = File::create(log)?;
        // `--kill-child` makes one kill enough; a session of its own keeps Ctrl-C of the terminal away.
        let mut command = if self.ends_with_us {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--", "setsid"]);
            command
        } else {
            Command::new("setsid")
        };
        command
            .args([
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--net",
                "--fork",
            ])
            .args(["--kill-child", "--mount-proc"])
            .arg(std::env::current_exe()?)
            .args(["cluster", "node", "--root"])
            .arg(self.layout.root())
            .env_clear()
            .envs(NODE_ENVIRONMENT)
            .env("KUBE_STS_CACHE", self.workspace.cache.root())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start unshare")
    }

    fn start_dns(&self) -> Result<()> {
        let mut apply = self.command_in_netns("kubectl")?;
        let mut apply = apply
            .args(["apply", "--filename=-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = apply.stdin.take() {
            stdin.write_all(render_dns_manifests().as_bytes())?;
        }
        ensure!(apply.wait()?.success(), "cannot apply CoreDNS");
        let rollout = self.kubectl(&[
            "--namespace=kube-system",
            "rollout",
            "status",
            "deployment/coredns",
            "--timeout=90s",
        ]);
        if let Err(error) = rollout {
            let pods = self
                .kubectl(&["--namespace=kube-system", "describe", "pods"])
                .unwrap_or_default();
            bail!(
                "CoreDNS did not start: {error:#}\n{pods}\n{}",
                tail(&self.layout.log("kubelet"))
            );
        }
        Ok(())
    }

    fn copy_logs(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        let Ok(logs) = fs::read_dir(self.layout.path("log")) else {
            return Ok(());
        };
        for log in logs {
            let log = log?;
            fs::copy(log.path(), folder.join(log.file_name()))?;
        }
        say(format!("logs kept in {}", folder.display()));
        Ok(())
    }

    /// Processes first, then what they held: cgroups, then files.
    fn remove(&self) -> Result<()> {
        if let Some(node) = self.node()? {
            node.end()?;
        }
        cgroup::remove(&self.cgroup_name())?;
        let root = self.layout.root();
        if !root.exists() {
            return Ok(());
        }
        // Deleting through a mount would delete what is mounted.
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let inside = format!(" {}/", root.display());
        ensure!(
            !mounts.contains(&inside),
            "something is mounted below {}: unmount it",
            root.display()
        );
        fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))
    }

    fn log_folder(&self) -> String {
        self.layout.text("log")
    }
}

/// Repeats the whole lines that are new in pid 1's log; returns how many there are by now.
fn show_news(log: &Path, shown: usize) -> Result<usize> {
    let text = fs::read_to_string(log)?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines: Vec<&str> = whole.lines().collect();
    for line in lines.iter().skip(shown) {
        say(line);
    }
    Ok(lines.len())
}

/// More than the sum of what pid 1 waits for itself.
const NODE_LIMIT: Duration = Duration::from_secs(8 * 60);
