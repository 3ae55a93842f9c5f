//! Running something in the node's namespaces, or with its programs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::Cluster;
use super::layout::Layout;
use crate::progress::output_of;
use crate::python;
use crate::tools::Module;

/// A program started in the node from outside. It ends with the node at the latest; dropping this leaves it running.
#[derive(Debug)]
pub(crate) struct NodeDaemon {
    /// `nsenter`, which waits for the program.
    wrapper: Child,
    pub(crate) log: PathBuf,
}

impl NodeDaemon {
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.wrapper.try_wait()?.is_none())
    }
}

impl Cluster<'_> {
    /// A program in the node's network with the host's files: kubectl, helm, aws, tests.
    pub(crate) fn command_in_netns(&self, program: &str) -> Result<Command> {
        self.nsenter(&["--net"], program)
    }

    /// A program that sees the node's files, names and processes too. Its working folder is `/`.
    pub(crate) fn command_in_node(&self, program: &str) -> Result<Command> {
        self.nsenter(&["--net", "--mount", "--pid"], program)
    }

    /// Starts a program that ends with the node, with its output in `log/<name>.log` and nothing but `environment`.
    pub(crate) fn spawn_daemon(
        &self,
        name: &str,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<NodeDaemon> {
        let log = self.layout.log(name);
        let file = File::create(&log)?;
        let entered = self.command_in_node(program)?;
        // In a session of its own, or Ctrl-C would end it too.
        let mut command = Command::new("setsid");
        command
            .arg(entered.get_program())
            .args(entered.get_args())
            .args(arguments);
        command
            .env_clear()
            .envs(NODE_ENVIRONMENT)
            .envs(environment.iter().copied());
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let wrapper = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(NodeDaemon { wrapper, log })
    }

    /// Runs kubectl as the cluster's administrator and returns what it writes.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output_of(self.command_in_netns("kubectl")?.args(arguments))
    }

    /// Gives the node an image; done already if it has this very tar.
    pub(crate) fn import_image(&self, tar: &Path) -> Result<()> {
        let line = tar.to_string_lossy();
        let mut imported = std::fs::read_to_string(self.layout.imported()).unwrap_or_default();
        if imported.lines().any(|known| known == line) {
            return Ok(());
        }
        output_of(ctr(&self.layout).args(["image", "import"]).arg(tar))?;
        imported += &line;
        imported.push('\n');
        std::fs::write(self.layout.imported(), imported)?;
        Ok(())
    }

    fn nsenter(&self, namespaces: &[&str], program: &str) -> Result<Command> {
        let node = self
            .node()?
            .with_context(|| format!("cluster {} is not up", self.name))?;
        let mut command = Command::new("nsenter");
        command
            .arg("--target")
            .arg(node.init().to_string())
            .args(namespaces)
            .arg("--")
            .arg(self.resolve(program)?);
        // Clients keep what they remember of this cluster with its files, and go with it.
        command
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.layout.path("client/kubectl"))
            .env("HELM_CACHE_HOME", self.layout.path("client/helm-cache"))
            .env("HELM_CONFIG_HOME", self.layout.path("client/helm-config"))
            .env("HELM_DATA_HOME", self.layout.path("client/helm-data"));
        Ok(command)
    }

    /// The path of a program: ours by its name, else the machine's. Builds ours if need be.
    fn resolve(&self, program: &str) -> Result<PathBuf> {
        if program.contains('/') {
            return Ok(std::path::absolute(program)?);
        }
        if let Some(module) = Module::of_program(program) {
            return Ok(module.ensure(self.workspace)?.join(program));
        }
        if matches!(program, "aws" | "python") {
            return Ok(python::ensure(self.workspace)?.join(program));
        }
        SYSTEM_FOLDERS
            .iter()
            .map(|folder| Path::new(folder).join(program))
            .find(|path| path.is_file())
            .with_context(|| format!("there is no program {program}"))
    }
}

/// containerd's client, in the namespace where the kubelet looks. Works inside the node and outside.
pub(crate) fn ctr(layout: &Layout) -> Command {
    let mut command = Command::new("/usr/bin/ctr");
    command
        .arg("--address")
        .arg(layout.containerd_socket())
        .args(["--namespace", "k8s.io"]);
    command
}

const SYSTEM_FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
/// All the node's own programs get: a proxy's address or a certificate bundle of the host would mislead them.
pub(crate) const NODE_ENVIRONMENT: [(&str, &str); 2] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("HOME", "/root"),
];
