//! What the injector makes of pods, where the kubelet runs them: forms that the other tests' release does not have.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::release::install_with;
use crate::stage::{Stage, stage, wait_for};
use crate::tokens::claims;

/// The release, and the namespace that its webhooks look at.
const RELEASE: &str = "injecting";
const APPS: &str = "injecting-apps";

/// Two endpoints of the sidecar's, in classic form; one of the kubelet's; and annotated ServiceAccounts.
const VALUES: &str = r#"
fullnameOverride: injecting
server: {replicas: 1}
refresher: {form: classic}
injector:
  replicas: 1
  namespaceSelector: {matchLabels: {injecting: "true"}}
  finalStatePolicy: {enabled: true}
  serviceAccounts:
    enabled: true
    namespaceSelector: {matchLabels: {injecting: "true"}}
    settings: {region: eu-central-1, sessionName: pod}
sts:
  endpoints:
  - name: one
    path: /one
    audience: one.example
    issuer: https://one.example/injecting
    key: {secret: injecting-one, algorithm: ES256}
    rules: [{filter: "(namespace=injecting-apps)"}]
    injector: {label: injecting-one, tokenEnv: ONE_FILE, annotationEnv: ONE_ROLE}
  - name: two
    path: /two
    audience: two.example
    issuer: https://two.example/injecting
    key: {secret: injecting-two, algorithm: ES256}
    rules: [{filter: "(namespace=injecting-apps)"}]
    injector: {label: injecting-two, tokenEnv: TWO_FILE, annotationEnv: TWO_ROLE}
  - name: projected
    path: /projected
    audience: projected.example
    issuer: https://projected.example/injecting
    key: {secret: injecting-projected, algorithm: ES256}
    rules: [{filter: "(namespace=injecting-apps)"}]
    injector: {label: injecting-projected, mode: projected, tokenEnv: PROJECTED_FILE, annotationEnv: PROJECTED_ROLE}
"#;

/// The stage with the release on it, which is installed once. It ends with the stage.
fn injecting() -> &'static Stage {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    let stage = stage();
    INSTALLED.get_or_init(|| {
        let namespace = format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {APPS}, labels: {{injecting: 'true'}}}}}}"
        );
        stage.apply(&namespace).unwrap();
        install_with(stage, RELEASE, VALUES).unwrap();
    });
    stage
}

/// A pod whose one container runs a line, and sleeps if that succeeds.
fn pod(stage: &Stage, name: &str, metadata: &str, account: &str, line: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {APPS}, {metadata}}}
spec:
  serviceAccountName: {account}
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: {image}
    command: [sh, -c, '{line} && exec sleep 100000']
",
        image = stage.awscli_image
    )
}

fn becomes_ready(stage: &Stage, pod: &str) -> Result<()> {
    let pod = format!("pod/{pod}");
    stage.kubectl(&[
        "-n",
        APPS,
        "wait",
        "--for=condition=Ready",
        &pod,
        "--timeout=90s",
    ])?;
    Ok(())
}

#[test]
fn adm_021_two_endpoints_in_one_pod_with_a_classic_sidecar() -> Result<()> {
    let stage = injecting();
    let metadata = "labels: {tremolo.io/injecting-one: 'true', tremolo.io/injecting-two: 'true'}, \
                    annotations: {tremolo.io/injecting-one: a, tremolo.io/injecting-two: b, tremolo.io/user: '1234'}";
    let line = r#"test -s "$ONE_FILE" && test -s "$TWO_FILE" && test "$ONE_ROLE$TWO_ROLE" = ab"#;
    stage.apply(&pod(stage, "both", metadata, "default", line))?;
    becomes_ready(stage, "both")?;
    for (file, audience) in [("$ONE_FILE", "one.example"), ("$TWO_FILE", "two.example")] {
        let token = stage.exec(APPS, "both", &format!("cat {file}"))?;
        ensure!(claims(&token)?["aud"] == audience, "{audience}");
    }
    let pod = stage.get(&["pod", "both", "-n", APPS])?;
    let first = &pod["status"]["initContainerStatuses"][0];
    ensure!(first["name"] == "kube-sts-first-token", "{first}");
    ensure!(first["state"]["terminated"]["exitCode"] == 0, "{first}");
    let sidecar = &pod["spec"]["containers"][1];
    ensure!(sidecar["securityContext"]["runAsUser"] == 1234, "{sidecar}");
    stage.forget(APPS, "pod/both");
    Ok(())
}

#[test]
fn a_projected_endpoints_token_is_the_kubelets() -> Result<()> {
    let stage = injecting();
    let metadata = "labels: {tremolo.io/injecting-projected: 'true'}, annotations: {tremolo.io/injecting-projected: r}";
    let line = r#"test -s "$PROJECTED_FILE""#;
    stage.apply(&pod(stage, "projected", metadata, "default", line))?;
    becomes_ready(stage, "projected")?;
    let token = stage.exec(APPS, "projected", "cat $PROJECTED_FILE")?;
    let claims = claims(&token)?;
    ensure!(claims["aud"][0] == "projected.example", "{claims}");
    ensure!(
        claims["sub"] == "system:serviceaccount:injecting-apps:default",
        "{claims}"
    );
    let pod = stage.get(&["pod", "projected", "-n", APPS])?;
    ensure!(pod["spec"]["initContainers"].is_null(), "{pod}");
    stage.forget(APPS, "pod/projected");
    Ok(())
}

/// In one manifest, as users write it.
#[test]
fn a_pod_applied_with_its_annotated_service_account_has_its_role() -> Result<()> {
    let stage = injecting();
    let role = "arn:aws:iam::123456789012:role/demo";
    let account = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: irsa, namespace: {APPS}, annotations: {{eks.amazonaws.com/role-arn: '{role}'}}}}\n"
    );
    let line = format!(
        r#"test -s "$AWS_WEB_IDENTITY_TOKEN_FILE" && test "$AWS_ROLE_ARN" = {role} && test "$AWS_ROLE_SESSION_NAME" = irsa && test "$AWS_REGION" = eu-central-1"#
    );
    stage.apply(&format!(
        "{account}---{}",
        pod(stage, "irsa", "labels: {app: x}", "irsa", &line)
    ))?;
    becomes_ready(stage, "irsa")?;
    let token = stage.exec(APPS, "irsa", "cat $AWS_WEB_IDENTITY_TOKEN_FILE")?;
    ensure!(
        claims(&token)?["aud"][0] == "sts.amazonaws.com",
        "another audience"
    );
    stage.forget(APPS, "pod/irsa");
    Ok(())
}

#[test]
fn a_stateful_sets_pods_have_their_token() -> Result<()> {
    let stage = injecting();
    let set = format!(
        "
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: set, namespace: {APPS}}}
spec:
  serviceName: set
  replicas: 2
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: set}}}}
  template:
    metadata:
      labels: {{app: set, tremolo.io/injecting-one: 'true'}}
      annotations: {{tremolo.io/injecting-one: a}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: {image}
        command: [sh, -c, 'test -s \"$ONE_FILE\" && exec sleep 100000']
",
        image = stage.awscli_image
    );
    stage.apply(&set)?;
    let ready = || {
        let set = stage.get(&["statefulset", "set", "-n", APPS])?;
        Ok((set["status"]["readyReplicas"] == 2).then_some(()))
    };
    wait_for("two ready pods", Duration::from_secs(90), ready)?;
    stage.forget(APPS, "statefulset/set");
    Ok(())
}
