//! Pods of other kinds than a Deployment's.

use anyhow::{Result, ensure};

use crate::stage::{ALLOWED, stage};

#[test]
fn a_job_with_the_sidecar_completes() -> Result<()> {
    let stage = stage();
    let job = format!(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {{name: once, namespace: {ALLOWED}}}
spec:
  backoffLimit: 0
  template:
    metadata:
      labels: {{tremolo.io/aws-role: "true"}}
      annotations: {{tremolo.io/aws-role: "arn:aws:iam::123456789012:role/demo"}}
    spec:
      serviceAccountName: aws-test
      restartPolicy: Never
      containers:
      - name: app
        image: {image}
        command: [sh, -c, 'test -s "$AWS_WEB_IDENTITY_TOKEN_FILE" && test "$AWS_ROLE_ARN" = arn:aws:iam::123456789012:role/demo']
"#,
        image = stage.awscli_image
    );
    stage.apply(&job)?;
    stage.kubectl(&[
        "-n",
        ALLOWED,
        "wait",
        "--for=condition=Complete",
        "job/once",
        "--timeout=60s",
    ])?;
    let pods = stage.get(&["pods", "-n", ALLOWED, "-l", "job-name=once"])?;
    ensure!(pods["items"][0]["status"]["phase"] == "Succeeded", "{pods}");
    stage.forget(ALLOWED, "job/once");
    Ok(())
}

#[test]
fn an_init_container_has_the_token_too() -> Result<()> {
    let stage = stage();
    let pod = format!(
        r#"
apiVersion: v1
kind: Pod
metadata:
  name: with-init
  namespace: {ALLOWED}
  labels: {{tremolo.io/aws-role: "true"}}
  annotations: {{tremolo.io/aws-role: "arn:aws:iam::123456789012:role/demo"}}
spec:
  serviceAccountName: aws-test
  terminationGracePeriodSeconds: 1
  securityContext: {{runAsUser: 12345, runAsGroup: 12345, fsGroup: 777, runAsNonRoot: true}}
  initContainers:
  - name: first
    image: {image}
    command: [sh, -c, 'test -s "$AWS_WEB_IDENTITY_TOKEN_FILE" && head -c 2 "$AWS_WEB_IDENTITY_TOKEN_FILE" | grep -q ey']
  containers:
  - name: app
    image: {image}
    command: [sh, -c, 'test -s "$AWS_WEB_IDENTITY_TOKEN_FILE" && exec sleep 100000']
    securityContext: {{runAsUser: 54321}}
"#,
        image = stage.awscli_image
    );
    stage.apply(&pod)?;
    stage.kubectl(&[
        "-n",
        ALLOWED,
        "wait",
        "--for=condition=Ready",
        "pod/with-init",
        "--timeout=60s",
    ])?;
    stage.forget(ALLOWED, "pod/with-init");
    Ok(())
}

#[test]
fn a_label_without_its_annotation_is_denied_with_a_sentence() -> Result<()> {
    let stage = stage();
    let pod = crate::stage::labelled_pod(stage, ALLOWED, "no-annotation", "aws-test");
    let lines: Vec<&str> = pod
        .lines()
        .filter(|line| !line.contains("annotations:"))
        .collect();
    let pod = lines.join("\n");
    let error = stage
        .apply(&pod)
        .expect_err("the pod was created")
        .to_string();
    ensure!(
        error.contains("tremolo.io/aws-role") && error.contains("myns/no-annotation"),
        "{error}"
    );
    Ok(())
}
