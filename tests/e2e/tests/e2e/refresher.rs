//! The sidecar on the node: its two gates while the STS is away, and its order beside the application.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::own::{APPLICATION_RESTARTS, Own, SIDECAR_RESTARTS};
use crate::stage::{ALLOWED, Stage, labelled_pod, stage};

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
        stage.field(ALLOWED, name, &path)
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
