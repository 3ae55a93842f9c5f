//! A real one-node Kubernetes cluster on this machine, in namespaces of its own. `docs/test-cluster.md` explains it.

pub(crate) mod address;
mod cgroup;
mod config;
mod daemons;
mod exec;
mod layout;
mod lifecycle;
pub(crate) mod node;
mod pki;
mod process;
mod supervise;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, ensure};

use crate::cache::Fingerprint;
use crate::workspace::Workspace;
pub(crate) use exec::NodeDaemon;
use layout::Layout;
pub(crate) use lifecycle::UpOptions;
pub(crate) use pki::{LeafFiles, create_authority, issue_leaf};
use process::NodeProcess;

/// A cluster that may or may not be up.
#[derive(Debug)]
pub(crate) struct Cluster<'w> {
    workspace: &'w Workspace,
    name: ClusterName,
    layout: Layout,
    ends_with_us: bool,
}

/// Safe as a part of a path and of a cgroup's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterName(String);

impl<'w> Cluster<'w> {
    pub(crate) fn open(workspace: &'w Workspace, name: ClusterName) -> Self {
        let layout = Layout::at(workspace.cache.clusters().join(&name.0));
        Self {
            workspace,
            name,
            layout,
            ends_with_us: false,
        }
    }

    /// Once started, it is killed by the kernel when this program ends, however that happens. One that is up already stays as it is.
    pub(crate) fn ending_with_us(mut self) -> Self {
        self.ends_with_us = true;
        self
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.layout.root().to_owned()
    }

    /// Of the administrator.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig("admin")
    }

    pub(crate) fn pki_dir(&self) -> PathBuf {
        self.layout.pki()
    }

    /// A certificate for a server, from the CA in `pki/ca.crt`.
    pub(crate) fn issue_leaf(
        &self,
        name: &str,
        dns_names: &[&str],
        addresses: &[IpAddr],
    ) -> Result<LeafFiles> {
        issue_leaf(&self.layout.pki(), name, dns_names, addresses)
    }

    /// For a person to read.
    pub(crate) fn status(&self) -> Result<String> {
        let Some(node) = self.node()? else {
            return Ok(format!("cluster {} is not up\n", self.name));
        };
        let mut text = format!(
            "cluster {} ({})\nroot        {}\nkubeconfig  {}\npid 1       {}\n",
            self.name,
            if self.is_healthy()? {
                "up"
            } else {
                "not healthy"
            },
            self.root().display(),
            self.kubeconfig().display(),
            node.init(),
        );
        let overview = address::overview()
            .into_iter()
            .map(|(what, value)| format!("{what:11} {value}\n"));
        text.extend(overview);
        let nodes = self.kubectl(&["get", "nodes", "--output=wide"])?;
        let pods = self.kubectl(&["get", "pods", "--all-namespaces", "--output=wide"])?;
        Ok(format!("{text}\n{nodes}\n{pods}"))
    }

    fn node(&self) -> Result<Option<NodeProcess>> {
        NodeProcess::find(self.layout.root())
    }

    /// Different for clusters of the same name in different caches.
    fn cgroup_name(&self) -> String {
        let place = Fingerprint::default()
            .text(&self.layout.root().to_string_lossy())
            .key()
            .to_string();
        let place: String = place.chars().take(6).collect();
        format!("kube-sts-{}-{place}", self.name)
    }
}

impl FromStr for ClusterName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ensure!(
            (1..=20).contains(&text.len())
                && text.bytes().all(is_allowed)
                && !text.starts_with('-'),
            "a cluster's name has 1 to 20 of a-z, 0-9 and -",
        );
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_folder() {
        for name in [
            "",
            "..",
            "a/b",
            "-x",
            "UP",
            "a-name-that-is-too-long-for-it",
        ] {
            name.parse::<ClusterName>().unwrap_err();
        }
        assert_eq!("ci-2".parse::<ClusterName>().unwrap().to_string(), "ci-2");
    }
}
