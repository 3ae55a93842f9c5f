//! Where each file of one cluster is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The root of one cluster's files: all it writes is below it, or in the node's own namespaces.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// For configuration files and arguments.
    pub(crate) fn text(&self, relative: &str) -> String {
        self.path(relative).to_string_lossy().into_owned()
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.path("pki")
    }

    pub(crate) fn kubeconfig(&self, client: &str) -> PathBuf {
        self.path("kubeconfig").join(client)
    }

    pub(crate) fn log(&self, daemon: &str) -> PathBuf {
        self.path("log").join(format!("{daemon}.log"))
    }

    pub(crate) fn containerd_socket(&self) -> PathBuf {
        self.path("containerd/containerd.sock")
    }

    /// What pid 1 of the node is to start.
    pub(crate) fn node_plan(&self) -> PathBuf {
        self.path("run/node.json")
    }

    /// There as soon as pid 1 has a Ready node.
    pub(crate) fn node_ready(&self) -> PathBuf {
        self.path("run/node-ready")
    }

    /// There as soon as `up` is done.
    pub(crate) fn up_complete(&self) -> PathBuf {
        self.path("run/up-complete")
    }

    /// The images imported so far, a tar's path a line.
    pub(crate) fn imported(&self) -> PathBuf {
        self.path("run/imported")
    }

    pub(crate) fn create(&self) -> Result<()> {
        let socket = self.containerd_socket();
        ensure!(
            socket.as_os_str().len() < SOCKET_PATH_LIMIT,
            "{} is too long for a socket: set KUBE_STS_CACHE to a shorter place",
            socket.display(),
        );
        for folder in FOLDERS {
            let folder = self.path(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(())
    }
}

/// `sun_path` of the kernel.
const SOCKET_PATH_LIMIT: usize = 108;

const FOLDERS: [&str; 9] = [
    "run",
    "log",
    "pki/leaf",
    "kubeconfig",
    "containerd/cni/net.d",
    "containerd/cni/data",
    "kubelet/plugins-exec",
    "kubelet/pod-logs",
    "client",
];
