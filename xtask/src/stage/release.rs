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
/// OpenUnison's documented values.
const VALUES: &str = "charts/kube-sts/ci/openunison.yaml";

/// Installs or upgrades the release with the images that were just built.
pub(super) fn install(place: &dyn Place) -> Result<()> {
    let watch = Stopwatch::start();
    let mut helm = place.client("helm")?;
    helm.args(["upgrade", "--install", RELEASE])
        .arg(place.workspace().root.join(CHART))
        .args([
            "--namespace",
            NAMESPACE,
            "--create-namespace",
            "--wait",
            "--timeout",
            "120s",
            "--values",
        ])
        .arg(place.workspace().root.join(VALUES))
        .arg("--values")
        .arg(write_image_values(place)?);
    output_of(&mut helm)?;
    say(format!(
        "helm installed the chart in {:.1} s",
        watch.seconds()
    ));
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
