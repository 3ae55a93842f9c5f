//! A release of one test's own.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::release::{endpoint_for, install_with};
use crate::stage::{Stage, labelled_pod, wait_for};

/// A release of its own, in a namespace of its name, whose STS can go away without anybody else noticing.
pub(crate) struct Own {
    name: &'static str,
    pods: String,
}

impl Own {
    /// With an endpoint of its own making, for pods of a namespace beside it.
    pub(crate) fn gated(stage: &Stage, name: &'static str, gate: &str) -> Result<Self> {
        let endpoint = endpoint_for(name, &format!("(namespace={name}-pods)")).replace(
            "tokenEnv: TOKEN_FILE",
            &format!("tokenEnv: TOKEN_FILE, {GCP}"),
        );
        let settings =
            format!("refresher: {{gate: {gate}, waitTimeout: 5s}}\nserver: {{replicas: 1}}");
        let own = Self::install(stage, name, &settings, &endpoint)?;
        let create = ["create", "namespace", &own.pods, "--dry-run=client"];
        let namespace = stage.kubectl(&[&create[..], &["-o", "yaml"]].concat())?;
        stage.apply(&namespace)?;
        Ok(own)
    }

    /// `settings` are values of the chart beside its endpoint.
    pub(crate) fn install(
        stage: &Stage,
        name: &'static str,
        settings: &str,
        endpoint: &str,
    ) -> Result<Self> {
        let pods = format!("{name}-pods");
        let values = format!("fullnameOverride: {name}\n{settings}\nsts:\n  endpoints:{endpoint}");
        install_with(stage, name, &values)?;
        Ok(Self { name, pods })
    }

    pub(crate) fn scale_server(&self, stage: &Stage, replicas: u32) -> Result<()> {
        let (namespace, count) = (self.name, format!("--replicas={replicas}"));
        let deployment = format!("deployment/{namespace}-server");
        stage.kubectl(&["-n", namespace, "scale", &deployment, &count])?;
        let selector = "app.kubernetes.io/component=server";
        let names = ["-n", namespace, "get", "pods", "-l", selector, "-o", "name"];
        let running = || {
            let pods = stage.kubectl(&names)?.lines().count();
            Ok((pods == usize::try_from(replicas)?).then_some(()))
        };
        wait_for("the server's pods", Duration::from_secs(60), running)?;
        let status = ["rollout", "status", &deployment, "--timeout=60s"];
        let status = [&["-n", namespace][..], &status].concat();
        stage.kubectl(&status).map(drop)
    }

    /// A pod's name that no other test's pod on the node has: [`process_in`] does not see namespaces.
    pub(crate) fn pod(&self, pod: &str) -> String {
        format!("{}-{pod}", self.name)
    }

    pub(crate) fn field(&self, stage: &Stage, pod: &str, path: &str) -> Result<String> {
        stage.field(&self.pods, pod, path)
    }

    /// A pod whose application ends at once if it finds no token.
    pub(crate) fn create_pod(&self, stage: &Stage, pod: &str) -> Result<()> {
        let manifest = labelled_pod(stage, &self.pods, pod, "default")
            .replace("tremolo.io/aws-role", &format!("tremolo.io/{}", self.name))
            .replace(
                r#"[sleep, "100000"]"#,
                r#"[sh, -c, 'test -s "$TOKEN_FILE" || exit 1; exec sleep 100000']"#,
            );
        stage.apply(&manifest).map(drop)
    }

    /// A line of shell in the application.
    pub(crate) fn exec(&self, stage: &Stage, pod: &str, line: &str) -> Result<String> {
        stage.exec(&self.pods, pod, line)
    }

    pub(crate) fn describe(&self, stage: &Stage, pod: &str) -> Result<String> {
        stage.kubectl(&["-n", &self.pods, "describe", "pod", pod])
    }

    /// Waits until `kubectl describe` says it.
    pub(crate) fn says(&self, stage: &Stage, pod: &str, words: &str) -> Result<()> {
        let ask = || {
            let description = self.describe(stage, pod)?;
            ensure!(description.contains(words), "{description}");
            Ok(Some(()))
        };
        wait_for(words, Duration::from_secs(60), ask).map(drop)
    }

    pub(crate) fn becomes_ready(&self, stage: &Stage, pod: &str) -> Result<()> {
        let (pod, ready) = (format!("pod/{pod}"), "--for=condition=Ready");
        stage
            .kubectl(&["-n", &self.pods, "wait", ready, &pod, "--timeout=90s"])
            .map(drop)
    }

    /// What a container of the sidecar that has ended left in its log.
    pub(crate) fn previous_log(&self, stage: &Stage, pod: &str) -> Result<String> {
        let container = ["-c", "kube-sts-refresher", "--previous"];
        stage.kubectl(&[&["-n", &self.pods, "logs", pod], &container[..]].concat())
    }

    /// How long a deletion takes.
    pub(crate) fn deletion(&self, stage: &Stage, pod: &str) -> Result<Duration> {
        let start = now();
        stage.kubectl(&["-n", &self.pods, "delete", "pod", pod, "--timeout=60s"])?;
        Ok(start.elapsed())
    }

    pub(crate) fn uninstall(self, stage: &Stage) -> Result<()> {
        let Self { name, pods } = self;
        stage.helm(&["uninstall", name, "-n", name, "--wait", "--timeout", "60s"])?;
        stage.forget("default", &format!("namespace/{name}"));
        stage.forget("default", &format!("namespace/{pods}"));
        Ok(())
    }
}

/// The process with that command line in the pod of that name. The tests see the node's processes.
pub(crate) fn process_in(pod: &str, line: &[&str]) -> Result<Option<PathBuf>> {
    let (host, line) = (format!("HOSTNAME={pod}"), format!("{}\0", line.join("\0")));
    let is_it = |folder: &PathBuf| {
        let read = |file: &str| fs::read(folder.join(file)).unwrap_or_default();
        let environment = read("environ");
        let mut entries = environment.split(|byte| *byte == 0);
        read("cmdline") == line.as_bytes() && entries.any(|entry| entry == host.as_bytes())
    };
    let mut processes = fs::read_dir("/proc")?.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(processes.find(is_it))
}

/// The pool is nobody's.
const GCP: &str =
    "gcp: {provider: projects/123/locations/global/workloadIdentityPools/pool/providers/kube-sts}";
pub(crate) const SIDECAR_RESTARTS: &str = "{.status.initContainerStatuses[0].restartCount}";
pub(crate) const APPLICATION_RESTARTS: &str = "{.status.containerStatuses[0].restartCount}";

#[expect(
    clippy::disallowed_methods,
    reason = "tests measure real programs in real time"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
