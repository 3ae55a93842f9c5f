//! The stage, as its facts file describes it, and the programs that tests drive it with.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Paths and names of the stage.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Stage {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    helm: PathBuf,
    pub(crate) python: PathBuf,
    pub(crate) image_values: PathBuf,
    pub(crate) scratch: PathBuf,
    /// The authority of AWS's stand-in, the CDN and the strict STS.
    pub(crate) ca: PathBuf,
    pub(crate) awscli_image: String,
    pub(crate) release: String,
    /// The release's namespace.
    pub(crate) namespace: String,
    pub(crate) chart: PathBuf,
    /// The folder with etcd and kube-apiserver, for a second cluster.
    pub(crate) control_plane: PathBuf,
    pub(crate) minio: PathBuf,
    /// A program for [`Stage::python`]'s Python.
    pub(crate) administer_minio: PathBuf,
    pub(crate) store: Place,
}

/// A name that leads nowhere yet, and a certificate for it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) address: String,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// The namespace that the rules of the stage's endpoint allow.
pub(crate) const ALLOWED: &str = "myns";
/// The token audience of the stage's endpoint: its address.
pub(crate) const AUDIENCE: &str = "https://kube-sts-server.kube-sts.svc/aws";
/// The stage's issuer.
pub(crate) const ISSUER: &str = "https://d1dexjaad4ian0.cloudfront.net";

/// The stage that `cargo xtask test` has set up.
pub(crate) fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        #[expect(clippy::disallowed_methods, reason = "the only setting of these tests")]
        let path = std::env::var_os("KUBE_STS_STAGE");
        let path = path.expect("these tests need a stage: run `cargo xtask test --only e2e`");
        let stage: Stage = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        prepare(&stage).unwrap();
        stage
    })
}

/// What several tests share: the allowed namespace with its ServiceAccount, and whom to trust in it.
fn prepare(stage: &Stage) -> Result<()> {
    let namespace = stage.kubectl(&[
        "create",
        "namespace",
        ALLOWED,
        "--dry-run=client",
        "-o",
        "yaml",
    ])?;
    stage.apply(&namespace)?;
    let from = format!("--from-file=ca.crt={}", stage.ca.display());
    let dry = ["--dry-run=client", "-o", "yaml", "-n", ALLOWED];
    for create in [
        ["create", "configmap", "aws-ca", &from].as_slice(),
        &["create", "serviceaccount", "aws-test"],
    ] {
        stage.apply(&stage.kubectl(&[create, &dry].concat())?)?;
    }
    Ok(())
}

impl Stage {
    /// Runs kubectl as the cluster's administrator and returns what it writes.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output(self.program(&self.kubectl).args(arguments))
    }

    /// The same programs for another cluster.
    pub(crate) fn at(&self, kubeconfig: PathBuf) -> Self {
        Self {
            kubeconfig,
            ..self.clone()
        }
    }

    /// `kubectl get`, as JSON.
    pub(crate) fn get(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let text = self.kubectl(&[&["get", "-o", "json"], arguments].concat())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// One field of a pod, by its JSONPath.
    pub(crate) fn field(&self, namespace: &str, pod: &str, path: &str) -> Result<String> {
        let path = format!("jsonpath={path}");
        self.kubectl(&["-n", namespace, "get", "pod", pod, "-o", &path])
    }

    /// `kubectl apply` of a manifest.
    pub(crate) fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_with(&["apply", "-f", "-"], manifest)
    }

    /// Runs kubectl with something to read.
    pub(crate) fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut child = self
            .program(&self.kubectl)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("input is piped")?
            .write_all(input.as_bytes())?;
        let ended = child.wait_with_output()?;
        if !ended.status.success() {
            let errors = String::from_utf8_lossy(&ended.stderr);
            bail!("kubectl {}: {errors}", arguments.join(" "));
        }
        Ok(String::from_utf8(ended.stdout)?)
    }

    /// Runs helm.
    pub(crate) fn helm(&self, arguments: &[&str]) -> Result<String> {
        let home = self.scratch.join("helm");
        let mut command = self.program(&self.helm);
        command
            .env("HELM_CACHE_HOME", &home)
            .env("HELM_CONFIG_HOME", &home)
            .env("HELM_DATA_HOME", &home);
        output(command.args(arguments))
    }

    /// Runs a Python program with PyJWT and its friends at hand.
    pub(crate) fn python(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.program(&self.python);
        output(
            command
                .args(["-c", program])
                .args(arguments)
                .env("SSL_CERT_FILE", &self.ca),
        )
    }

    /// Runs a shell line in the first container of a pod or of a Deployment's pod.
    pub(crate) fn exec(&self, namespace: &str, target: &str, line: &str) -> Result<String> {
        self.kubectl(&[
            "-n", namespace, "exec", target, "-c", "app", "--", "sh", "-c", line,
        ])
    }

    /// Deletes pods that a test left, without waiting.
    pub(crate) fn forget(&self, namespace: &str, object: &str) {
        drop(self.kubectl(&[
            "-n",
            namespace,
            "delete",
            object,
            "--wait=false",
            "--ignore-not-found",
            "--grace-period=1",
        ]));
    }

    fn program(&self, path: &PathBuf) -> Command {
        let mut command = Command::new(path);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", self.scratch.join("kubectl"));
        command
    }
}

/// Runs a program to its end; an error shows what it wrote.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let ended = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{command:?}"))?;
    if !ended.status.success() {
        let name = PathBuf::from(command.get_program());
        let name = name
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        bail!(
            "{name}: {} {}",
            String::from_utf8_lossy(&ended.stderr),
            String::from_utf8_lossy(&ended.stdout)
        );
    }
    Ok(String::from_utf8(ended.stdout)?)
}

/// Probes until there is a value, or the limit is over; returns it and how long it took.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<(T, Duration)> {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests measure real programs in real time"
    )]
    let start = Instant::now();
    loop {
        let failure = match probe() {
            Ok(Some(value)) => return Ok((value, start.elapsed())),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if start.elapsed() > limit {
            let failure = failure
                .map(|error| format!(": {error:#}"))
                .unwrap_or_default();
            bail!("gave up waiting for {what} after {limit:?}{failure}");
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// A pod that sleeps, with the label and the annotation of the stage's endpoint.
pub(crate) fn labelled_pod(
    stage: &Stage,
    namespace: &str,
    name: &str,
    service_account: &str,
) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{tremolo.io/aws-role: "true"}}
  annotations: {{tremolo.io/aws-role: "arn:aws:iam::123456789012:role/demo"}}
spec:
  serviceAccountName: {service_account}
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: {image}
    command: [sleep, "100000"]
    env:
    - {{name: AWS_DEFAULT_REGION, value: us-east-1}}
    - {{name: AWS_CA_BUNDLE, value: /etc/aws-ca/ca.crt}}
    volumeMounts: [{{name: aws-ca, mountPath: /etc/aws-ca}}]
  volumes:
  - name: aws-ca
    configMap: {{name: aws-ca, optional: true}}
"#,
        image = stage.awscli_image
    )
}
