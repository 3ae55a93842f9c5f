//! Getting at somebody's cluster: its clients, and which namespaces of it are the demo's.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use super::GivenOptions;
use crate::progress::output_of;
use crate::stage::NAMESPACE;
use crate::tools::Module;
use crate::workspace::Workspace;

/// kubectl and helm for one context.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) context: String,
    kubeconfig: Option<PathBuf>,
    kubectl: PathBuf,
    helm: PathBuf,
    /// What the clients remember.
    memory: PathBuf,
}

#[derive(Deserialize)]
struct Namespaces {
    items: Vec<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    deletion_timestamp: Option<String>,
}

impl Access {
    pub(super) fn new(workspace: &Workspace, options: &GivenOptions) -> Result<Self> {
        Ok(Self {
            context: options.context.clone(),
            kubeconfig: options.kubeconfig.clone(),
            kubectl: Module::K8s.ensure(workspace)?.join("kubectl"),
            helm: Module::Helm.ensure(workspace)?.join("helm"),
            memory: workspace.cache.root().join("demo/client"),
        })
    }

    pub(super) fn client(&self, program: &str) -> Command {
        let (path, option) = match program {
            "helm" => (&self.helm, "--kube-context"),
            _ => (&self.kubectl, "--context"),
        };
        let mut command = Command::new(path);
        command
            .args([option, &self.context])
            .env("KUBECACHEDIR", self.memory.join("kubectl"))
            .env("HELM_CACHE_HOME", self.memory.join("helm-cache"))
            .env("HELM_CONFIG_HOME", self.memory.join("helm-config"))
            .env("HELM_DATA_HOME", self.memory.join("helm-data"));
        // By the variable, which may name several files.
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        command
    }

    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output_of(self.client("kubectl").args(arguments))
    }

    /// kubectl as a person types it; its own option would take one file alone.
    pub(super) fn kubectl_by_hand(&self) -> String {
        let kubeconfig = self.kubeconfig_by_hand("KUBECONFIG=", " ");
        format!("{kubeconfig}kubectl --context {}", self.context)
    }

    /// What takes the demo down again, as a person types it.
    pub(super) fn down_by_hand(&self) -> String {
        let kubeconfig = self.kubeconfig_by_hand(" --kubeconfig ", "");
        format!(
            "cargo xtask demo --context {}{kubeconfig} --down",
            self.context
        )
    }

    fn kubeconfig_by_hand(&self, before: &str, after: &str) -> String {
        self.kubeconfig.as_ref().map_or_else(String::new, |file| {
            format!("{before}{}{after}", file.display())
        })
    }

    /// What tells this cluster from all others, whatever its context is called.
    pub(super) fn identity(&self) -> Result<String> {
        self.kubectl(&[
            "--request-timeout=10s",
            "get",
            "namespace",
            "kube-system",
            "--output=jsonpath={.metadata.uid}",
        ])
        .with_context(|| {
            format!(
                "the cluster of the context {} does not answer",
                self.context
            )
        })
    }

    /// Makes the demo's namespaces. Nothing that somebody else made is touched.
    pub(super) fn claim_namespaces(&self) -> Result<()> {
        let existing = self.namespaces()?;
        let known = || {
            let ours = |found: &&Namespace| ALL.contains(&found.metadata.name.as_str());
            existing.iter().filter(ours)
        };
        for found in known() {
            let name = &found.metadata.name;
            ensure!(
                found.is_ours(),
                "the cluster has a namespace {name} that this demo has not made: use another cluster, or remove it",
            );
            ensure!(
                found.metadata.deletion_timestamp.is_none(),
                "the namespace {name} of an earlier demo is being deleted: try again when it is gone",
            );
        }
        let is_missing = |name: &&str| known().all(|found| found.metadata.name != *name);
        ALL.into_iter()
            .filter(is_missing)
            .try_for_each(|name| self.create_namespace(name))
    }

    fn create_namespace(&self, name: &str) -> Result<()> {
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {LABEL.0: LABEL.1}},
        });
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("namespace.json");
        std::fs::write(&file, manifest.to_string())?;
        self.kubectl(&["create", "--filename", &file.to_string_lossy()])?;
        Ok(())
    }

    /// The demo's namespaces that are there.
    pub(super) fn claimed_namespaces(&self) -> Result<Vec<String>> {
        let existing = self.namespaces()?;
        let ours = existing
            .into_iter()
            .filter(|found| found.is_ours() && ALL.contains(&found.metadata.name.as_str()));
        Ok(ours.map(|found| found.metadata.name).collect())
    }

    fn namespaces(&self) -> Result<Vec<Namespace>> {
        let listed = self.kubectl(&["get", "namespaces", "--output=json"])?;
        Ok(serde_json::from_str::<Namespaces>(&listed)?.items)
    }
}

impl Namespace {
    fn is_ours(&self) -> bool {
        self.metadata
            .labels
            .get(LABEL.0)
            .is_some_and(|value| value == LABEL.1)
    }
}

/// On everything that the demo may remove again.
const LABEL: (&str, &str) = ("app.kubernetes.io/part-of", "kube-sts-demo");
/// The outside world's namespace.
pub(super) const OUTSIDE: &str = "kube-sts-demo";
/// The release's, the outside world's, the example's.
const ALL: [&str; 3] = [NAMESPACE, OUTSIDE, "myns"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_namespaces() {
        let listed = json!({"items": [
            {"metadata": {"name": "myns", "labels": {"app.kubernetes.io/part-of": "kube-sts-demo"}}},
            {"metadata": {"name": "kube-sts", "deletionTimestamp": "2026-01-01T00:00:00Z"}},
        ]});
        let Namespaces { items } = serde_json::from_value(listed).unwrap();
        assert!(items[0].is_ours() && items[0].metadata.deletion_timestamp.is_none());
        assert!(!items[1].is_ours() && items[1].metadata.deletion_timestamp.is_some());
    }
}
