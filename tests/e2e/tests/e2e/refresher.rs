//! The sidecar on the node: its two gates while the STS is away, and its order beside the application.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::release::text;
use crate::stage::{ALLOWED, Stage, labelled_pod, stage, wait_for};

/// A release of its own, whose STS can go away without anybody else noticing. Its pods are in a namespace beside it.
struct Own {
    name: &'static str,
    pods: String,
}

impl Own {
    /// With an endpoint of its own making.
    fn gated(stage: &Stage, name: &'static str, gate: &str) -> Result<Self> {
        let endpoint = format!(
            r#"
  - name: {name}
    path: /{name}
    audience: {name}.example
    issuer: https://{name}.example/issuer
    key: {{secret: {name}-key, algorithm: ES256}}
    rules: [{{filter: "(namespace={name}-pods)"}}]
    injector: {{label: {name}, tokenEnv: TOKEN_FILE, annotationEnv: ROLE}}
"#
        );
        Self::install(stage, name, gate, &endpoint)
    }

    fn install(stage: &Stage, name: &'static str, gate: &str, endpoint: &str) -> Result<Self> {
        let pods = format!("{name}-pods");
        let file = stage.scratch.join(format!("{name}.yaml"));
        let refresher = format!("refresher: {{gate: {gate}, waitTimeout: 5s}}");
        let values = format!(
            "fullnameOverride: {name}\n{refresher}\nserver: {{replicas: 1}}\nsts:\n  endpoints:{endpoint}"
        );
        fs::write(&file, values)?;
        let install = [
            "upgrade",
            "--install",
            name,
            text(&stage.chart)?,
            "-n",
            name,
        ];
        let wait = ["--create-namespace", "--wait", "--timeout", "120s"];
        let values = ["-f", text(&file)?, "-f", text(&stage.image_values)?];
        stage.helm(&[&install[..], &wait, &values].concat())?;
        let create = ["create", "namespace", &pods, "--dry-run=client"];
        let namespace = stage.kubectl(&[&create[..], &["-o", "yaml"]].concat())?;
        stage.apply(&namespace)?;
        Ok(Self { name, pods })
    }

    fn scale_server(&self, stage: &Stage, replicas: u32) -> Result<()> {
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

    fn field(&self, stage: &Stage, pod: &str, path: &str) -> Result<String> {
        field(stage, &self.pods, pod, path)
    }

    fn create_pod(&self, stage: &Stage, pod: &str) -> Result<()> {
        let manifest = labelled_pod(stage, &self.pods, pod, "default")
            .replace("tremolo.io/aws-role", &format!("tremolo.io/{}", self.name))
            .replace(
                r#"[sleep, "100000"]"#,
                r#"[sh, -c, 'test -s "$TOKEN_FILE" || exit 1; exec sleep 100000']"#,
            );
        stage.apply(&manifest).map(drop)
    }

    fn describe(&self, stage: &Stage, pod: &str) -> Result<String> {
        stage.kubectl(&["-n", &self.pods, "describe", "pod", pod])
    }

    /// Waits until `kubectl describe` says it.
    fn says(&self, stage: &Stage, pod: &str, words: &str) -> Result<()> {
        let ask = || {
            let description = self.describe(stage, pod)?;
            ensure!(description.contains(words), "{description}");
            Ok(Some(()))
        };
        wait_for(words, Duration::from_secs(60), ask).map(drop)
    }

    fn becomes_ready(&self, stage: &Stage, pod: &str) -> Result<()> {
        let (pod, ready) = (format!("pod/{pod}"), "--for=condition=Ready");
        stage
            .kubectl(&["-n", &self.pods, "wait", ready, &pod, "--timeout=90s"])
            .map(drop)
    }

    /// How long a deletion takes.
    fn deletion(&self, stage: &Stage, pod: &str) -> Result<Duration> {
        let start = now();
        stage.kubectl(&["-n", &self.pods, "delete", "pod", pod, "--timeout=60s"])?;
        Ok(start.elapsed())
    }

    fn uninstall(self, stage: &Stage) -> Result<()> {
        let Self { name, pods } = self;
        stage.helm(&["uninstall", name, "-n", name, "--wait", "--timeout", "60s"])?;
        stage.forget("default", &format!("namespace/{name}"));
        stage.forget("default", &format!("namespace/{pods}"));
        Ok(())
    }
}

/// Both gates: the application waits without a restart of its own, `kubectl describe` tells why, a pod that waits can be deleted, and
/// comes up by itself when the STS is back.
fn check_gate(stage: &Stage, own: &Own, reason: &str, longest_deletion: Duration) -> Result<()> {
    own.scale_server(stage, 0)?;
    own.create_pod(stage, "deleted")?;
    own.create_pod(stage, "patient")?;
    own.says(stage, "deleted", reason)?;
    own.says(stage, "patient", "no token for endpoint")?;
    own.says(stage, "patient", "cannot reach the STS")?;
    let deletion = own.deletion(stage, "deleted")?;
    ensure!(deletion <= longest_deletion, "deletion took {deletion:?}");
    own.scale_server(stage, 1)?;
    own.becomes_ready(stage, "patient")?;
    let restarts = own.field(stage, "patient", APPLICATION_RESTARTS)?;
    ensure!(
        restarts == "0",
        "the application restarted {restarts} times"
    );
    Ok(())
}

#[test]
fn ref_005_a_hook_tells_why_a_pod_waits_and_lets_it_go_within_its_bound() -> Result<()> {
    let stage = stage();
    let own = Own::gated(stage, "hooked", "hook")?;
    // The kubelet ends no pod whose hook runs: the bound of 5 s, the grace period, and what the kubelet takes.
    let longest = Duration::from_secs(15);
    check_gate(stage, &own, "FailedPostStartHook", longest)?;
    own.uninstall(stage)
}

#[test]
fn ref_005_a_probe_tells_why_a_pod_waits_and_lets_it_go_at_once() -> Result<()> {
    let stage = stage();
    let own = Own::gated(stage, "probed", "probe")?;
    let longest = Duration::from_secs(6);
    check_gate(stage, &own, "Startup probe failed", longest)?;
    let restarts = own.field(stage, "patient", SIDECAR_RESTARTS)?;
    ensure!(restarts == "0", "the sidecar restarted {restarts} times");
    own.uninstall(stage)
}

#[test]
fn ref_014_the_sidecar_starts_first_stops_last_and_ends_with_0() -> Result<()> {
    let stage = stage();
    let name = "in-order";
    let manifest = labelled_pod(stage, ALLOWED, name, "aws-test")
        .replace(r#"[sleep, "100000"]"#, r#"[sleep, "2"]"#)
        .replace("spec:\n", "spec:\n  restartPolicy: Never\n");
    stage.apply(&manifest)?;
    let phase = "--for=jsonpath={.status.phase}=Succeeded";
    stage.kubectl(&[
        "-n",
        ALLOWED,
        "wait",
        phase,
        "pod/in-order",
        "--timeout=60s",
    ])?;
    let of = |container: &str, key: &str| {
        let path = format!("{{.status.{container}[0].state.terminated.{key}}}");
        field(stage, ALLOWED, name, &path)
    };
    let (sidecar, application) = ("initContainerStatuses", "containerStatuses");
    let code = of(sidecar, "exitCode")?;
    ensure!(code == "0", "the sidecar ended with {code}");
    // RFC 3339 in UTC: in order as texts.
    let starts = [of(sidecar, "startedAt")?, of(application, "startedAt")?];
    let ends = [of(application, "finishedAt")?, of(sidecar, "finishedAt")?];
    ensure!(
        starts.is_sorted() && ends.is_sorted(),
        "{starts:?} {ends:?}"
    );
    stage.forget(ALLOWED, "pod/in-order");
    Ok(())
}

fn field(stage: &Stage, namespace: &str, pod: &str, path: &str) -> Result<String> {
    let path = format!("jsonpath={path}");
    stage.kubectl(&["-n", namespace, "get", "pod", pod, "-o", &path])
}

const SIDECAR_RESTARTS: &str = "{.status.initContainerStatuses[0].restartCount}";
const APPLICATION_RESTARTS: &str = "{.status.containerStatuses[0].restartCount}";

#[expect(
    clippy::disallowed_methods,
    reason = "tests measure real programs in real time"
)]
fn now() -> Instant {
    Instant::now()
}
