//! Our chart on the stage, installed by helm.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use super::Stage;
use crate::progress::{Stopwatch, output_of, say};

/// The release and its namespace.
pub(crate) const RELEASE: &str = "kube-sts";
pub(crate) const NAMESPACE: &str = "kube-sts";
/// The chart, in the repository.
pub(crate) const CHART: &str = "charts/kube-sts";
/// OpenUnison's documented values.
const VALUES: &str = "charts/kube-sts/ci/openunison.yaml";

/// Installs or upgrades the release with the images that were just built.
pub(super) fn install(stage: &Stage<'_, '_>) -> Result<()> {
    let watch = Stopwatch::start();
    let mut helm = stage.cluster.command_in_netns("helm")?;
    helm.args(["upgrade", "--install", RELEASE])
        .arg(stage.workspace.root.join(CHART))
        .args([
            "--namespace",
            NAMESPACE,
            "--create-namespace",
            "--wait",
            "--timeout",
            "120s",
            "--values",
        ])
        .arg(stage.workspace.root.join(VALUES))
        .arg("--values")
        .arg(write_image_values(stage)?);
    output_of(&mut helm)?;
    say(format!(
        "helm installed the chart in {:.1} s",
        watch.seconds()
    ));
    Ok(())
}

/// The one thing about the stage that the example values cannot know: which images there are.
fn write_image_values(stage: &Stage<'_, '_>) -> Result<PathBuf> {
    let image = |name: &str| -> Result<Value> {
        let repository = format!("localhost/kube-sts-{name}");
        Ok(json!({"image": {"repository": repository, "tag": stage.tag_of(&repository)?}}))
    };
    let values = json!({
        "server": image("server")?, "injector": image("injector")?, "refresher": image("refresher")?,
    });
    let path = stage.cluster.root().join("images.json");
    std::fs::write(&path, values.to_string())?;
    Ok(path)
}
