//! What a sidecar adds to the start of a pod, on the real node.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::bench::table::{Table, median};
use crate::cluster::{Cluster, ClusterName};
use crate::image::{BUSYBOX, PAUSE};
use crate::progress::{Stopwatch, say};
use crate::stage::Stage;
use crate::workspace::Workspace;

/// The kinds of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A native sidecar that does nothing.
    IdleSidecar,
    /// The label, and so our sidecar with its hook.
    Labelled,
    /// One container.
    Plain,
}

/// From `kubectl apply` to the pod's readiness, one kind after the other, so that what changes on the machine changes all.
pub(super) fn measure(table: &mut Table, workspace: &Workspace, pods: usize) -> Result<()> {
    let cluster = Cluster::open(workspace, "bench".parse::<ClusterName>()?).ending_with_us();
    cluster.down(None)?;
    let outcome = on_stage(table, workspace, &cluster, pods);
    let ended = cluster.down(None);
    outcome.and(ended)
}

fn on_stage(
    table: &mut Table,
    workspace: &Workspace,
    cluster: &Cluster<'_>,
    pods: usize,
) -> Result<()> {
    let _stage = Stage::set_up(workspace, cluster)?;
    cluster.kubectl(&["create", "namespace", NAMESPACE])?;
    say(format!("{pods} pods of each of {} kinds", KINDS.len()));
    let mut spans = KINDS.map(|kind| (kind, Vec::new()));
    // One of each for the warmth.
    for round in 0..=pods {
        for (kind, spans) in &mut spans {
            let span = start_pod(cluster, *kind)?;
            if round > 0 {
                spans.push(span);
            }
        }
    }
    let [plain, idle, labelled] = spans.map(|(_, spans)| median(&spans) * 1e3);
    table.row("pod start, plain pod, median", plain, "ms", None);
    table.row("pod start, labelled pod, median", labelled, "ms", None);
    table.row("  added", labelled - plain, "ms", Some(300.0));
    table.row(
        "    by a sidecar that does nothing",
        idle - plain,
        "ms",
        None,
    );
    table.row(
        "    by webhook, token and hook",
        labelled - idle,
        "ms",
        None,
    );
    table.note(format!(
        "pod start: apply to Ready, {pods} pods of each kind in turn"
    ));
    Ok(())
}

fn start_pod(cluster: &Cluster<'_>, kind: Kind) -> Result<f64> {
    let mut command = cluster.command_in_netns("kubectl")?;
    let mut apply = command
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut input = apply.stdin.take().context("input is piped")?;
    let watch = Stopwatch::start();
    input.write_all(manifest(kind).as_bytes())?;
    drop(input);
    let status = apply.wait()?;
    ensure!(status.success(), "kubectl apply: {status}");
    let ready = "--for=condition=Ready";
    let wait = ["-n", NAMESPACE, "wait", ready, POD, "--timeout=60s"];
    cluster.kubectl(&wait)?;
    let span = watch.seconds();
    cluster.kubectl(&["-n", NAMESPACE, "delete", POD, "--now"])?;
    Ok(span)
}

fn manifest(kind: Kind) -> String {
    let (label, init) = match kind {
        Kind::IdleSidecar => (
            "false",
            format!("  initContainers: [{{name: idle, image: {PAUSE}, restartPolicy: Always}}]\n"),
        ),
        Kind::Labelled => ("true", String::new()),
        Kind::Plain => ("false", String::new()),
    };
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata:
  name: measured
  namespace: {NAMESPACE}
  labels: {{tremolo.io/aws-role: "{label}"}}
  annotations: {{tremolo.io/aws-role: "arn:aws:iam::123456789012:role/demo"}}
spec:
  terminationGracePeriodSeconds: 1
{init}  containers:
  - name: app
    image: {BUSYBOX}
    command: [sleep, "100000"]
"#
    )
}

const KINDS: [Kind; 3] = [Kind::Plain, Kind::IdleSidecar, Kind::Labelled];
/// The one that the stage's rules allow.
const NAMESPACE: &str = "myns";
const POD: &str = "pod/measured";
