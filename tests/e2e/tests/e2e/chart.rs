//! The chart with each set of its example values.

use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::release::text;
use crate::stage::{Stage, stage};

/// The rendered objects of each set of example values, with the set's name.
pub(crate) fn rendered() -> &'static [(String, Vec<Value>)] {
    static RENDERED: OnceLock<Vec<(String, Vec<Value>)>> = OnceLock::new();
    RENDERED.get_or_init(|| render(stage()).unwrap())
}

fn render(stage: &Stage) -> Result<Vec<(String, Vec<Value>)>> {
    let mut sets = Vec::new();
    for entry in std::fs::read_dir(stage.chart.join("ci"))? {
        let values = entry?.path();
        let (chart, file) = (text(&stage.chart)?, text(&values)?);
        let yaml = stage.helm(&[
            "template",
            "release",
            chart,
            "--namespace",
            &stage.namespace,
            "--values",
            file,
        ])?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&yaml)?;
        let name = values.file_name().context("a file has a name")?;
        sets.push((name.to_string_lossy().into_owned(), objects));
    }
    sets.sort_by(|one, other| one.0.cmp(&other.0));
    ensure!(!sets.is_empty(), "no example values");
    Ok(sets)
}

#[test]
fn the_api_server_takes_what_each_set_of_example_values_gives() -> Result<()> {
    let stage = stage();
    let mut kinds = Vec::new();
    for (set, objects) in rendered() {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let dry = ["--dry-run=server", "--output=name", "-f", "-"];
        // Some are there already, with the stage's release.
        let apply = ["apply", "--server-side", "--force-conflicts"];
        let names = stage.kubectl_with(&[&apply[..], &dry].concat(), &list);
        let names = names.context(set.as_str())?;
        ensure!(names.lines().count() == objects.len(), "{set}: {names}");
        kinds.extend(objects.iter().map(|object| object["kind"].clone()));
    }
    // Each is in some set only.
    for kind in [
        "NetworkPolicy",
        "PodDisruptionBudget",
        "ValidatingAdmissionPolicy",
    ] {
        ensure!(kinds.contains(&json!(kind)), "no set has a {kind}");
    }
    Ok(())
}
