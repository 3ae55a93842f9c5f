//! The sidecar on the node: its two gates while the STS is away, and its order beside the application.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::own::{APPLICATION_RESTARTS, Own, SIDECAR_RESTARTS, process_in};
use crate::release::text;
use crate::stage::{ALLOWED, Stage, labelled_pod, stage, wait_for};

/// Both gates: the application waits without a restart of its own, `kubectl describe` tells why, a pod that waits can be deleted, and
/// comes up by itself when the STS is back. The one that is deleted is held back at that moment by that command of the sidecar's.
fn check_gate(
    stage: &Stage,
    own: &Own,
    (reason, command): (&str, &str),
    longest_deletion: Duration,
) -> Result<()> {
    let (deleted, patient) = (&own.pod("deleted"), &own.pod("patient"));
    own.scale_server(stage, 0)?;
    own.create_pod(stage, deleted)?;
    own.create_pod(stage, patient)?;
    own.says(stage, deleted, reason)?;
    // Between two containers nothing holds it back, and anybody could delete it.
    wait_for("the pod to be held back", Duration::from_secs(60), || {
        process_in(deleted, &["/refresher", command]).map(|found| found.map(drop))
    })?;
    let deletion = own.deletion(stage, deleted)?;
    ensure!(deletion <= longest_deletion, "deletion took {deletion:?}");
    own.says(stage, patient, "no token for endpoint")?;
    own.says(stage, patient, "cannot reach the STS")?;
    own.scale_server(stage, 1)?;
    own.becomes_ready(stage, patient)?;
    let restarts = own.field(stage, patient, APPLICATION_RESTARTS)?;
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
    let patient = &own.pod("patient");
    // The kubelet ends no pod whose hook runs: the bound of 5 s, the grace period, and what the kubelet takes.
    let longest = Duration::from_secs(15);
    check_gate(stage, &own, ("FailedPostStartHook", "wait"), longest)?;
    let log = own.previous_log(stage, patient)?;
    ensure!(
        log.contains("no token for endpoint hooked: ") && log.contains("(waited 5.0s)"),
        "the container's log does not say why its hook failed: {log}"
    );
    check_google_reads(stage, &own, patient)?;
    own.uninstall(stage)
}

/// Google's library takes the files for what it needs, as it finds them in the application's container.
fn check_google_reads(stage: &Stage, own: &Own, pod: &str) -> Result<()> {
    let application = process_in(pod, &["sleep", "100000"])?.context("no application")?;
    let root = application.join("root");
    let file = own.exec(stage, pod, "echo $GOOGLE_APPLICATION_CREDENTIALS")?;
    let read = stage.python(GOOGLE, &[text(&root)?, file.trim()])?;
    let token = own.exec(stage, pod, "cat $TOKEN_FILE")?;
    ensure!(
        read == format!("google.auth.identity_pool {token}\n"),
        "Google's library does not read the token"
    );
    Ok(())
}

/// What is loaded only when it is needed has to be loaded before the container is entered, which has no Python.
const GOOGLE: &str = "
import os, sys
import google.auth
from google.auth import aws, identity_pool, pluggable
from google.oauth2 import credentials
root, file = sys.argv[1:]
os.chroot(root)
found, _ = google.auth.load_credentials_from_file(file, request=lambda *_, **__: None)
print(type(found).__module__, found.retrieve_subject_token(None))
";

#[test]
fn ref_005_a_probe_tells_why_a_pod_waits_and_lets_it_go_at_once() -> Result<()> {
    let stage = stage();
    let own = Own::gated(stage, "probed", "probe")?;
    let patient = &own.pod("patient");
    let longest = Duration::from_secs(6);
    check_gate(stage, &own, ("Startup probe failed", "run"), longest)?;
    let restarts = own.field(stage, patient, SIDECAR_RESTARTS)?;
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
    check_order(stage, name)?;
    stage.forget(ALLOWED, "pod/in-order");
    Ok(())
}

/// An application that takes its time to end finds its token to the last. A finalizer keeps the pod's state to be read.
#[test]
fn ref_014_the_sidecar_of_a_deleted_pod_stops_after_an_application_that_takes_its_time()
-> Result<()> {
    let stage = stage();
    let name = "unhurried";
    let script = "trap 'sleep 3; head -c 3 $AWS_WEB_IDENTITY_TOKEN_FILE >/dev/termination-log; exit 0' TERM; sleep 100000 & wait";
    let manifest = labelled_pod(stage, ALLOWED, name, "aws-test")
        .replace(r#"[sleep, "100000"]"#, &format!(r#"[sh, -c, "{script}"]"#))
        .replace("GracePeriodSeconds: 1\n", "GracePeriodSeconds: 20\n")
        .replace(
            "  labels:",
            "  finalizers: [test.tremolo.io/kept]\n  labels:",
        );
    stage.apply(&manifest)?;
    let (pod, ready) = (format!("pod/{name}"), "--for=condition=Ready");
    stage.kubectl(&["-n", ALLOWED, "wait", ready, &pod, "--timeout=60s"])?;
    stage.kubectl(&["-n", ALLOWED, "delete", &pod, "--wait=false"])?;
    let ended = "{.status.initContainerStatuses[0].state.terminated.finishedAt}";
    let minute = Duration::from_secs(60);
    wait_for("the sidecar's end", minute, || {
        let ended = stage.field(ALLOWED, name, ended)?;
        Ok((!ended.is_empty()).then_some(()))
    })?;
    let checked = check_order(stage, name);
    let message = "{.status.containerStatuses[0].state.terminated.message}";
    let message = stage.field(ALLOWED, name, message);
    // Whatever was found: a pod with a finalizer stays for ever.
    let free = ["-p", r#"{"metadata":{"finalizers":null}}"#];
    stage.kubectl(&[&["-n", ALLOWED, "patch", &pod, "--type=merge"], &free[..]].concat())?;
    checked?;
    let message = message?;
    ensure!(message == "eyJ", "the application read {message:?}");
    Ok(())
}

/// The sidecar started before the application and ended after it, with status 0.
fn check_order(stage: &Stage, name: &str) -> Result<()> {
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
    Ok(())
}
