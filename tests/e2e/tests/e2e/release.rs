//! The release: replicas, upgrade, test, uninstall.

use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::stage::{Stage, output, stage, wait_for};
use crate::tokens::sts_curl;

/// Held shared by tests that need the server's pods to stay, alone by the one that replaces them.
static PODS: RwLock<()> = RwLock::new(());

/// The server's pods stay while this is held.
pub(crate) fn unchanged() -> RwLockReadGuard<'static, ()> {
    PODS.read()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The server's pods may be replaced while this is held.
fn changing() -> RwLockWriteGuard<'static, ()> {
    PODS.write()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The JWK Set of each server pod, asked one by one.
fn key_sets(stage: &Stage) -> Result<Vec<String>> {
    let selector = "app.kubernetes.io/component=server";
    let addresses =
        "jsonpath={range .items[?(@.status.phase=='Running')]}{.status.podIP}{'\\n'}{end}";
    let addresses = stage.kubectl(&[
        "-n",
        &stage.namespace,
        "get",
        "pods",
        "-l",
        selector,
        "-o",
        addresses,
    ])?;
    let ask = |address: &str| {
        let mut curl = sts_curl(stage, address, 8443)?;
        output(curl.args(["--fail", "https://kube-sts-server.kube-sts.svc/aws/certs"]))
    };
    addresses.lines().map(ask).collect()
}

#[test]
fn two_replicas_serve_one_key() -> Result<()> {
    let _unchanged = unchanged();
    let sets = key_sets(stage())?;
    ensure!(sets.len() == 2, "{} replicas answer", sets.len());
    ensure!(sets.first() == sets.last(), "{sets:?}");
    Ok(())
}

#[test]
fn helm_upgrade_keeps_the_key() -> Result<()> {
    let stage = stage();
    let _changing = changing();
    let before = key_sets(stage)?;
    let uid = || {
        stage.kubectl(&[
            "-n",
            &stage.namespace,
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/component=server",
            "-o",
            "name",
        ])
    };
    let pods = uid()?;
    upgrade(stage, "podAnnotations.upgraded=yes")?;
    ensure!(pods != uid()?, "the upgrade replaced no pod");
    let (after, _) = wait_for("two replicas again", Duration::from_secs(60), || {
        let sets = key_sets(stage)?;
        Ok((sets.len() == 2).then_some(sets))
    })?;
    ensure!(
        after.iter().all(|set| Some(set) == before.first()),
        "{before:?} became {after:?}"
    );
    Ok(())
}

/// Upgrades the stage's release to its own values and these.
fn upgrade(stage: &Stage, values: &str) -> Result<()> {
    let own = stage.chart.join("ci/openunison.yaml");
    let mut arguments = vec!["upgrade", &stage.release, text(&stage.chart)?];
    arguments.extend(["-n", &stage.namespace, "--wait", "--timeout", "120s"]);
    arguments.extend(["-f", text(&own)?, "-f", text(&stage.image_values)?]);
    if !values.is_empty() {
        arguments.extend(["--set-string", values]);
    }
    stage.helm(&arguments)?;
    Ok(())
}

#[test]
fn helm_test_passes() -> Result<()> {
    let stage = stage();
    let _unchanged = unchanged();
    stage.helm(&[
        "test",
        &stage.release,
        "-n",
        &stage.namespace,
        "--timeout",
        "60s",
    ])?;
    Ok(())
}

#[test]
fn helm_upgrade_removes_an_endpoint() -> Result<()> {
    let stage = stage();
    let name = "shrinking";
    let one = endpoint("first");
    install_own(stage, name, &format!("{one}{}", endpoint("last")))?;
    let entries = || {
        stage.kubectl(&[
            "get",
            "mutatingwebhookconfiguration",
            name,
            "-o",
            "jsonpath={.webhooks[*].name}",
        ])
    };
    ensure!(entries()?.split(' ').count() == 2, "{}", entries()?);
    install_own(stage, name, &one)?;
    ensure!(
        entries()? == "first.injector.kube-sts.tremolo.io",
        "{}",
        entries()?
    );
    stage.helm(&["uninstall", name, "-n", name, "--wait", "--timeout", "60s"])?;
    stage.forget("default", "namespace/shrinking");
    Ok(())
}

#[test]
fn helm_uninstall_leaves_nothing_behind() -> Result<()> {
    let stage = stage();
    let name = "second";
    install_own(stage, name, &endpoint(name))?;
    let key = stage.kubectl(&[
        "-n",
        name,
        "get",
        "secret",
        "second-key",
        "-o",
        "jsonpath={.data}",
    ])?;
    ensure!(key.contains(".pem"), "the key was not made");
    stage.helm(&["uninstall", name, "-n", name, "--wait", "--timeout", "60s"])?;
    wait_for(
        "the namespace to be as empty as a new one",
        Duration::from_secs(60),
        || {
            let left = left_in(stage, name)?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(Some(()))
        },
    )?;
    let all = stage.kubectl(&["get", CLUSTER_WIDE, "-o", "name"])?;
    ensure!(all.contains("kube-sts") && !all.contains(name), "{all}");
    stage.forget("default", "namespace/second");
    Ok(())
}

/// Installs or upgrades a release of its own, in a namespace of the same name.
pub(crate) fn install_own(stage: &Stage, name: &str, endpoints: &str) -> Result<()> {
    let values = format!("fullnameOverride: {name}\nsts:\n  endpoints:\n{endpoints}");
    install_with(stage, name, &values)
}

/// The same with values of any kind.
pub(crate) fn install_with(stage: &Stage, name: &str, text_of_values: &str) -> Result<()> {
    let values = stage.scratch.join(format!("{name}.yaml"));
    std::fs::write(&values, text_of_values)?;
    stage.helm(&[
        "upgrade",
        "--install",
        name,
        text(&stage.chart)?,
        "-n",
        name,
        "--create-namespace",
        "--wait",
        "--timeout",
        "120s",
        "-f",
        text(&values)?,
        "-f",
        text(&stage.image_values)?,
    ])?;
    Ok(())
}

/// An endpoint in our own form, with a label of its own.
fn endpoint(name: &str) -> String {
    endpoint_for(name, &format!("(&(namespace={name})(saname=default))"))
}

/// The same, for whom `filter` matches.
pub(crate) fn endpoint_for(name: &str, filter: &str) -> String {
    format!(
        r#"
  - name: {name}
    path: /{name}
    audience: {name}.example
    issuer: https://{name}.example/issuer
    key: {{secret: {name}-key, algorithm: ES256}}
    rules:
    - filter: "{filter}"
    injector: {{label: {name}, tokenEnv: TOKEN_FILE, annotationEnv: ROLE}}
"#
    )
}

/// What is in a namespace that a new one has not.
fn left_in(stage: &Stage, namespace: &str) -> Result<Vec<String>> {
    let kinds =
        "all,secrets,configmaps,serviceaccounts,roles,rolebindings,poddisruptionbudgets,leases";
    let names = stage.kubectl(&["-n", namespace, "get", kinds, "-o", "name"])?;
    let left = names
        .lines()
        .filter(|name| !BORN_WITH_A_NAMESPACE.contains(name));
    Ok(left.map(str::to_owned).collect())
}

const CLUSTER_WIDE: &str = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings,customresourcedefinitions";
const BORN_WITH_A_NAMESPACE: [&str; 2] = ["configmap/kube-root-ca.crt", "serviceaccount/default"];

pub(crate) fn text(path: &std::path::Path) -> Result<&str> {
    path.to_str().context("the path is text")
}
