//! `cargo xtask bench admission`: what a review costs, over HTTPS and kept connections, the webhook on one core and the client on the other.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::exchange::measurement;
use crate::bench::table::Table;
use crate::image::{self, Profile};
use crate::progress::{output_of, say};
use crate::workspace::Workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How it is compiled
    #[arg(long, default_value_t = Profile::Dist)]
    profile: Profile,
    /// How long each load lasts
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    seconds: u64,
    /// How many connections ask at once; an API server has a few
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// How many pods of each kind are created through the real API server; 0 leaves that part out
    #[arg(long, default_value_t = 500)]
    pods: usize,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    say("building (a minute or two at first)");
    // Both sides are in an example of the injector's crate, since they need its library.
    let program = image::example(workspace, options.profile, "injector", "admission")?;
    let mut table = Table::new("admission");
    let mut server = Server::start(workspace, &program)?;
    let resting = server.resident()?;
    let mut costs = Vec::new();
    for (name, path, body, aim) in loads() {
        let bytes = body.to_string().len();
        say(format!("{name}: {bytes} bytes"));
        let full = server.load(&program, options, path, &body, at_most(options.connections))?;
        table.row(&format!("{name}, CPU per review"), full.cpu, "µs", aim);
        costs.push(full.cpu / f64::from(u32::try_from(bytes)?));
        table.row("  reviews at full load", full.rate, "/s", None);
        table.row("  p50 at full load", full.p50, "ms", None);
        table.row("  p99 at full load", full.p99, "ms", None);
        if aim.is_some() {
            let steady = Demand {
                rate: 500,
                ..at_most(options.connections)
            };
            let steady = server.load(&program, options, path, &body, steady)?;
            table.row("  p50 at 500/s", steady.p50, "ms", None);
            table.row("  p99 at 500/s", steady.p99, "ms", Some(2.0));
        }
        table.note(format!("{name}: {bytes} bytes"));
    }
    linear(&mut table, &costs);
    table.row("resident memory, resting", resting, "MiB", None);
    table.row(
        "resident memory, after all loads",
        server.resident()?,
        "MiB",
        Some(16.0),
    );
    let [(_, path, body, _), ..] = loads();
    let crowd = server.load(&program, options, path, &body, at_most(CROWD))?;
    table.row("a thousand at once, p50", crowd.p50, "ms", None);
    table.row("a thousand at once, p99", crowd.p99, "ms", Some(20.0));
    let resident = server.resident()?;
    table.row("resident memory, after that", resident, "MiB", None);
    table.note(
        "the webhook's router, TLS listener and settings, without its watches of the cluster"
            .to_owned(),
    );
    if options.pods > 0 {
        through_the_api_server(workspace, options, &mut table)?;
    }
    table.print();
    Ok(())
}

/// What a byte costs of larger pods against smaller ones: no more, or cost grows faster than pods do. The last loads are of 2, 20, 100 and 200
/// containers.
fn linear(table: &mut Table, costs: &[f64]) {
    if let [.., two, _, hundred, whole] = costs {
        let name = "200 containers against 2, per byte";
        table.row(name, whole / two, "", Some(1.0));
        let name = "200 containers against 100, per byte";
        table.row(name, whole / hundred, "", Some(1.1));
    }
}

/// What the webhook adds to the creation of a pod: the API server's call and its waiting, and what it makes of the patch.
fn through_the_api_server(
    workspace: &Workspace,
    options: &Options,
    table: &mut Table,
) -> Result<()> {
    let program = image::program(workspace, options.profile, "injector")?;
    let mut test = measurement(workspace, "bench_admission::apply", &program)?;
    let output = output_of(test.env("KUBE_STS_BENCH_PODS", options.pods.to_string()))?;
    let mut lines = output.lines();
    let figures = lines.find_map(|line| line.strip_prefix("figures: "));
    let figures: Value = serde_json::from_str(figures.context("no figures")?)?;
    let figure = |place: &str| {
        let figure = figures.pointer(place).and_then(Value::as_f64);
        figure.with_context(|| format!("no figure {place}"))
    };
    let (plain, labelled) = (figure("/plain/median")?, figure("/labelled/median")?);
    table.row("apply to created, unlabelled, median", plain, "ms", None);
    table.row("apply to created, labelled, median", labelled, "ms", None);
    table.row("  added, median", labelled - plain, "ms", Some(3.0));
    table.row(
        "resident memory, the whole injector with 1,000 accounts",
        figure("/resident")?,
        "MiB",
        Some(16.0),
    );
    let (plain, labelled) = (figure("/plain/p99")?, figure("/labelled/p99")?);
    table.row("apply to created, unlabelled, p99", plain, "ms", None);
    table.row("apply to created, labelled, p99", labelled, "ms", None);
    table.note(format!(
        "{} pods of each kind in turn, API server and client on one core, the injector on the other",
        options.pods
    ));
    Ok(())
}

/// How much is asked for.
#[derive(Debug, Clone, Copy)]
struct Demand {
    connections: usize,
    /// Reviews a second of all connections together; 0 is as many as can be.
    rate: u32,
}

fn at_most(connections: usize) -> Demand {
    Demand {
        connections,
        rate: 0,
    }
}

/// Of ADM-029.
const CROWD: usize = 1000;

/// What is asked: name, path, review, and the aim for its CPU time.
fn loads() -> [(&'static str, &'static str, Value, Option<f64>); 6] {
    let label = json!({"tremolo.io/aws-role": "true"});
    [
        (
            "label, 6.5 KB",
            "/mutate/aws",
            review(2, &label),
            Some(70.0),
        ),
        (
            "ServiceAccount, 6.5 KB",
            "/mutate",
            review(2, &json!({})),
            Some(70.0),
        ),
        ("2 containers", "/mutate/aws", review(2, &label), None),
        ("20 containers", "/mutate/aws", review(20, &label), None),
        ("100 containers", "/mutate/aws", review(100, &label), None),
        ("200 containers", "/mutate/aws", review(200, &label), None),
    ]
}

/// The webhook's process.
struct Server {
    child: Child,
    address: String,
    folder: TempDir,
}

#[derive(Debug)]
struct Outcome {
    cpu: f64,
    rate: f64,
    p50: f64,
    p99: f64,
}

impl Server {
    fn start(workspace: &Workspace, program: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let sample = workspace.root.join("docs/samples/in-cluster.yaml");
        let sample = fs::read_to_string(sample)?;
        let config = folder.path().join("config.yaml");
        fs::write(
            &config,
            format!("{sample}\n  serviceAccounts: {{region: eu-central-1}}\n"),
        )?;
        let mut child = Command::new("taskset")
            .args(["--cpu-list", "0"])
            .arg(program)
            .arg("serve")
            .args([&config, &folder.path().join("ca.crt")])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start taskset")?;
        let mut address = String::new();
        let output = child.stdout.take().context("output is piped")?;
        BufReader::new(output).read_line(&mut address)?;
        ensure!(!address.is_empty(), "the webhook did not start");
        Ok(Self {
            child,
            address: address.trim_end().to_owned(),
            folder,
        })
    }

    fn load(
        &self,
        program: &Path,
        options: &Options,
        path: &str,
        body: &Value,
        demand: Demand,
    ) -> Result<Outcome> {
        let file = self.folder.path().join("review.json");
        fs::write(&file, body.to_string())?;
        let before = self.cpu()?;
        let mut client = Command::new("taskset");
        client
            .args(["--cpu-list", "1"])
            .arg(program)
            .args(["load", &self.address]);
        client
            .arg(self.folder.path().join("ca.crt"))
            .arg(path)
            .arg(&file);
        let numbers = [
            options.seconds.to_string(),
            demand.connections.to_string(),
            demand.rate.to_string(),
        ];
        let answer: Value = serde_json::from_str(&output_of(client.args(numbers))?)?;
        let cpu = self.cpu()?.saturating_sub(before);
        let number = |key: &str| {
            answer
                .get(key)
                .and_then(Value::as_f64)
                .with_context(|| format!("no {key}"))
        };
        let requests = number("requests")?;
        Ok(Outcome {
            cpu: cpu.as_secs_f64() * 1e6 / requests,
            rate: requests / number("seconds")?,
            p50: number("p50")? * 1e3,
            p99: number("p99")? * 1e3,
        })
    }

    /// Of all threads.
    fn cpu(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let schedule = fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += schedule
                .split(' ')
                .next()
                .unwrap_or_default()
                .parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    fn resident(&mut self) -> Result<f64> {
        ensure!(self.child.try_wait()?.is_none(), "the webhook ended");
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next());
        let kibibytes: f64 = kibibytes.context("no VmRSS")?.parse()?;
        Ok(kibibytes / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// As an API server sends it: with probes, and with `managedFields`, which is most of it.
fn review(containers: usize, labels: &Value) -> Value {
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "initialDelaySeconds": 5,
        "periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3});
    let container = |name: String| {
        json!({
            "name": name, "image": "registry.example/team/application@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "args": ["--listen=:8080", "--log=info"], "env": [{"name": "LOG_LEVEL", "value": "info"},
                {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}], "livenessProbe": probe, "readinessProbe": probe,
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent",
        })
    };
    let fields: serde_json::Map<String, Value> = (0..40)
        .map(|number| {
            (
                format!("f:field-{number}"),
                json!({"f:name": {}, "f:value": {}}),
            )
        })
        .collect();
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "app-5d4f8c7b9-", "namespace": "apps", "labels": labels,
            "annotations": {"tremolo.io/aws-role": "arn:aws:iam::123456789012:role/app"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "app-5d4f8c7b9",
                "uid": "0b0c0d0e-1111-2222-3333-444455556666", "controller": true, "blockOwnerDeletion": true}],
            "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields}],
        },
        "spec": {
            "volumes": [{"name": "data", "emptyDir": {}}],
            "initContainers": [container("migrate".to_owned())],
            "containers": (0..containers).map(|number| container(format!("app-{number}"))).collect::<Vec<_>>(),
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "app", "serviceAccount": "app", "securityContext": {"runAsUser": 1000, "fsGroup": 2000},
            "schedulerName": "default-scheduler", "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {},
    });
    let pods = json!({"group": "", "version": "v1", "resource": "pods"});
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "9f3c2a10-aaaa-bbbb-cccc-ddddeeeeffff", "kind": kind, "resource": pods, "requestKind": kind, "requestResource": pods,
            "namespace": "apps", "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "uid": "1", "groups": ["system:authenticated"]},
            "object": object, "oldObject": null, "dryRun": false, "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}
