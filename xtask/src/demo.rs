//! `cargo xtask demo`: the main job, told step by step.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::poll;
use crate::progress::Stopwatch;
use crate::stage::{
    APP_SUBJECT, BUCKET, Given, GivenOptions, HELM_ARGUMENTS, NAMESPACE, Place, RELEASE, Stage,
};
use crate::workspace::Workspace;

/// The example, as a user would apply it.
const EXAMPLE: &str = "docs/samples/aws-cli.yaml";
/// The example's names.
const APP_NAMESPACE: &str = "myns";
const APP: &str = "deployment/aws-test";
const CONTAINER: &str = "aws-cli";

/// On the node that we make.
pub(crate) fn run(workspace: &Workspace, cluster: &Cluster<'_>) -> Result<()> {
    let watch = Stopwatch::start();
    tell(&Stage::set_up(workspace, cluster)?, watch)
}

/// In a cluster that somebody has.
pub(crate) fn run_given(workspace: &Workspace, options: &GivenOptions) -> Result<()> {
    let watch = Stopwatch::start();
    tell(&Given::set_up(workspace, options)?, watch)
}

/// Applies the example and shows what happens to it.
fn tell(place: &dyn Place, watch: Stopwatch) -> Result<()> {
    headline(
        "1. The chart is installed, and the issuer's documents are where the issuer's URL leads",
    );
    println!(
        "   helm {} images.json   (the images just built)",
        HELM_ARGUMENTS.join(" ")
    );
    apply_example(place)?;
    show_injection(place)?;
    show_token(place)?;
    show_identity(place)?;
    show_object(place)?;
    headline("Done");
    println!(
        "   It took {:.0} s. The cluster stays up. To look around:\n",
        watch.seconds()
    );
    let kubectl = place.kubectl_by_hand();
    println!("     {kubectl} -n {APP_NAMESPACE} describe pod -l app=aws-test");
    println!("     {kubectl} -n {NAMESPACE} logs deployment/{RELEASE}-server | grep audit");
    println!(
        "     {kubectl} -n {APP_NAMESPACE} exec {APP} -c {CONTAINER} -- aws s3 ls s3://{BUCKET}"
    );
    println!("\n{}", place.farewell());
    Ok(())
}

/// Applies the example, with the image that is here and the authority that the outside world's servers are known by.
fn apply_example(place: &dyn Place) -> Result<()> {
    headline("2. A Deployment with one label and one annotation");
    let example = std::fs::read_to_string(place.workspace().root.join(EXAMPLE))?;
    for line in example.lines().filter(|line| line.contains("tremolo.io/")) {
        println!("   {}", line.trim());
    }
    let adapted = place.adapt(&example)?;
    if adapted != example {
        println!("   (and hostAliases, for this demo alone: AWS's names lead to MinIO)");
    }
    let authority = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "aws-ca", "namespace": APP_NAMESPACE},
        "data": {"ca.crt": std::fs::read_to_string(place.ca())?},
    });
    let adapted = adapted.replace("public.ecr.aws/aws-cli/aws-cli", &place.awscli().reference);
    let applied = place.folder().join("example.yaml");
    std::fs::write(&applied, format!("{authority}\n---\n{adapted}"))?;
    if place.kubectl(&["get", "namespace", APP_NAMESPACE]).is_err() {
        place.kubectl(&["create", "namespace", APP_NAMESPACE])?;
    }
    place.kubectl(&["apply", "-f", &applied.to_string_lossy()])?;
    let watch = Stopwatch::start();
    place.kubectl(&[
        "-n",
        APP_NAMESPACE,
        "rollout",
        "status",
        APP,
        "--timeout=120s",
    ])?;
    println!("   ready after {:.1} s", watch.seconds());
    Ok(())
}

fn show_injection(place: &dyn Place) -> Result<()> {
    headline("3. What the webhook added to its pod");
    let pods = place.kubectl(&[
        "-n",
        APP_NAMESPACE,
        "get",
        "pods",
        "-l",
        "app=aws-test",
        "-o",
        "json",
    ])?;
    let pods: Value = serde_json::from_str(&pods)?;
    let pod = pods
        .pointer("/items/0")
        .context("the Deployment has a pod")?;
    let sidecar = pod
        .pointer("/spec/initContainers/0")
        .context("the pod has a sidecar")?;
    println!(
        "   + initContainers[0]  {} (image {}, restartPolicy {})",
        text(sidecar, "/name"),
        text(sidecar, "/image"),
        text(sidecar, "/restartPolicy")
    );
    for volume in pod
        .pointer("/spec/volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if text(volume, "/name").starts_with("sts-") {
            let audience = volume
                .pointer("/projected/sources/0/serviceAccountToken/audience")
                .and_then(Value::as_str);
            let what = audience.map_or_else(
                || "in memory, shared".to_owned(),
                |audience| format!("the pod's token for {audience}, in the sidecar alone"),
            );
            println!("   + volume             {}: {what}", text(volume, "/name"));
        }
    }
    for variable in pod
        .pointer("/spec/containers/0/env")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if matches!(
            text(variable, "/name"),
            "AWS_ROLE_ARN" | "AWS_WEB_IDENTITY_TOKEN_FILE"
        ) {
            println!(
                "   + env                {}={}",
                text(variable, "/name"),
                text(variable, "/value")
            );
        }
    }
    Ok(())
}

fn show_token(place: &dyn Place) -> Result<()> {
    headline("4. The token that the sidecar got for it (claims, decoded)");
    let token = in_pod(place, "cat $AWS_WEB_IDENTITY_TOKEN_FILE")?;
    let payload = token.split('.').nth(1).context("a JWT has three parts")?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
    for line in serde_json::to_string_pretty(&claims)?.lines() {
        println!("   {line}");
    }
    Ok(())
}

fn show_identity(place: &dyn Place) -> Result<()> {
    headline(
        "5. Whom AWS's stand-in takes us for: `aws sts assume-role-with-web-identity` in the pod",
    );
    let command = "aws sts assume-role-with-web-identity --role-arn $AWS_ROLE_ARN --role-session-name demo \
                   --web-identity-token file://$AWS_WEB_IDENTITY_TOKEN_FILE \
                   --query '[SubjectFromWebIdentityToken,Credentials.Expiration]' --output text";
    // MinIO may have begun to look at the issuer only now.
    let answer = poll::until("the credentials", Duration::from_secs(30), || {
        Ok(in_pod(place, command).ok())
    })
    .or_else(|_| in_pod(place, command))?;
    let (subject, expires) = answer.trim().split_once('\t').context("two values")?;
    anyhow::ensure!(
        subject == APP_SUBJECT,
        "the verifier took us for {subject}, not for {APP_SUBJECT}"
    );
    println!("   SubjectFromWebIdentityToken: {subject}\n   credentials until: {expires}");
    Ok(())
}

fn show_object(place: &dyn Place) -> Result<()> {
    headline("6. An S3 object, written and read with those credentials by the AWS CLI in the pod");
    let script = format!(
        "aws s3 ls s3://{BUCKET} >/dev/null 2>&1 || aws s3 mb s3://{BUCKET}; \
         echo \"written by $(cat /etc/hostname)\" | aws s3 cp - s3://{BUCKET}/hello && aws s3 cp s3://{BUCKET}/hello -"
    );
    for line in in_pod(place, &script)?.lines() {
        println!("   {line}");
    }
    Ok(())
}

/// Runs a shell line in the application's container.
fn in_pod(place: &dyn Place, line: &str) -> Result<String> {
    place.kubectl(&[
        "-n",
        APP_NAMESPACE,
        "exec",
        APP,
        "-c",
        CONTAINER,
        "--",
        "sh",
        "-c",
        line,
    ])
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn headline(line: &str) {
    println!("\n{line}");
}
