//! Our chart on the stage, installed by helm.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use super::place::Place;
use crate::progress::{Stopwatch, output_of, say};

/// The release and its namespace.
pub(crate) const RELEASE: &str = "kube-sts";
pub(crate) const NAMESPACE: &str = "kube-sts";
/// The chart, in the repository.
pub(crate) const CHART: &str = "charts/kube-sts";
/// What helm is called with, in the repository's root; the file with the images' names follows.
pub(crate) const HELM_ARGUMENTS: [&str; 12] = [
    "upgrade",
    "--install",
    RELEASE,
    CHART,
    "--namespace",
    NAMESPACE,
    "--create-namespace",
    "--wait",
    "--timeout=120s",
    "--values",
    // OpenUnison's documented values.
    "charts/kube-sts/ci/openunison.yaml",
    "--values",
];

/// Installs or upgrades the release with the images that were just built.
pub(super) fn install(place: &dyn Place) -> Result<()> {
    let watch = Stopwatch::start();
    prepare_namespace(place)?;
    uninstall_half_done(place)?;
    let mut helm = place.client("helm")?;
    helm.current_dir(&place.workspace().root)
        .args(HELM_ARGUMENTS)
        .arg(write_image_values(place)?);
    output_of(&mut helm)?;
    say(format!(
        "helm installed the chart in {:.1} s",
        watch.seconds()
    ));
    Ok(())
}

/// Our own pods have to pass what we promise: Pod Security `restricted` is enforced where they run.
fn prepare_namespace(place: &dyn Place) -> Result<()> {
    if place.kubectl(&["get", "namespace", NAMESPACE]).is_err() {
        place.kubectl(&["create", "namespace", NAMESPACE])?;
    }
    let label = "pod-security.kubernetes.io/enforce=restricted";
    place.kubectl(&["label", "namespace", NAMESPACE, label, "--overwrite"])?;
    Ok(())
}

/// A run that was killed while helm waited leaves a release that helm refuses to upgrade for ever.
fn uninstall_half_done(place: &dyn Place) -> Result<()> {
    let status = [
        "status",
        RELEASE,
        "--namespace",
        NAMESPACE,
        "--output",
        "json",
    ];
    // An error is the ordinary case: there is no release yet.
    let Ok(status) = output_of(place.client("helm")?.args(status)) else {
        return Ok(());
    };
    let status: Value = serde_json::from_str(&status)?;
    let is_pending = |status: &str| status.starts_with("pending");
    if status
        .pointer("/info/status")
        .and_then(Value::as_str)
        .is_some_and(is_pending)
    {
        say("removing a release that an earlier run left half done");
        let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"];
        output_of(place.client("helm")?.args(uninstall))?;
    }
    Ok(())
}

/// The one thing about the place that the example values cannot know: which images there are.
fn write_image_values(place: &dyn Place) -> Result<PathBuf> {
    let image = |name: &str| -> Result<Value> {
        let repository = format!("localhost/kube-sts-{name}");
        Ok(json!({"image": {"repository": repository, "tag": place.tag_of(&repository)?}}))
    };
    let values = json!({
        "server": image("server")?, "injector": image("injector")?, "refresher": image("refresher")?,
    });
    let path = place.folder().join("images.json");
    std::fs::write(&path, values.to_string())?;
    Ok(path)
}
