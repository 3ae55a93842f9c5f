//! The chart before any cluster sees it: helm's own lint, and our programs' opinion of the configuration that it writes.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::progress::{output_of, say};
use crate::stage::CHART;
use crate::tools::Module;
use crate::workspace::Workspace;

/// The programs that read the configuration.
const READERS: [&str; 2] = ["sts-server", "injector"];

/// Lints and renders the chart with each of its example values, and has both programs check the rendered configuration.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    say("chart");
    let helm = Module::Helm.ensure(workspace)?.join("helm");
    let chart = workspace.root.join(CHART);
    let scratch = tempfile::tempdir()?;
    for entry in fs::read_dir(chart.join("ci"))? {
        let values = entry?.path();
        let name = values.display();
        output_of(
            Command::new(&helm)
                .args(["lint", "--strict"])
                .arg(&chart)
                .arg("--values")
                .arg(&values),
        )?;
        let rendered = output_of(
            Command::new(&helm)
                .args(["template", "release"])
                .arg(&chart)
                .arg("--values")
                .arg(&values),
        )?;
        let config = scratch.path().join("config.yaml");
        fs::write(
            &config,
            configuration(&rendered).with_context(|| format!("{name} renders no configuration"))?,
        )?;
        for program in READERS {
            let mut check = Command::new("cargo");
            check.current_dir(&workspace.root).args([
                "run",
                "--quiet",
                "--locked",
                "--package",
                program,
                "--",
            ]);
            check.arg("--check-config").arg("--config").arg(&config);
            output_of(&mut check)
                .with_context(|| format!("{program} refuses what {name} renders"))?;
        }
    }
    check_rolls(&helm, &chart)?;
    // A chart without endpoints must say what to write, and not install something that does nothing.
    let refused = Command::new(&helm)
        .args(["template", "release"])
        .arg(&chart)
        .output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        !refused.status.success() && said.contains("sts.endpoints"),
        "no endpoints: {said}"
    );
    Ok(())
}

/// Values that change the configuration, and whether they roll the pods: only what running programs cannot take over does.
const CHANGES: [(&str, bool); 5] = [
    ("server.rateLimit.perPod=6", false),
    ("refresher.gate=probe", false),
    ("url=https://other.example.com", true),
    (
        "injector.serviceAccounts.settings.annotationPrefix=other.example",
        true,
    ),
    ("restartOnConfigChange=true", true),
];

fn check_rolls(helm: &Path, chart: &Path) -> Result<()> {
    let checksums = |change: &[&str]| -> Result<Vec<String>> {
        let rendered = output_of(
            Command::new(helm)
                .args(["template", "release"])
                .arg(chart)
                .arg("--values")
                .arg(chart.join("ci/own-form.yaml"))
                .args(change),
        )?;
        let lines = rendered.lines();
        let sums = lines.filter(|line| line.trim().starts_with("checksum/config:"));
        Ok(sums.map(str::to_owned).collect())
    };
    let before = checksums(&[])?;
    ensure!(
        before.len() == 2,
        "the pods of both programs have a checksum: {before:?}"
    );
    for (change, rolls) in CHANGES {
        let changed = checksums(&["--set", change])? != before;
        ensure!(changed == rolls, "--set {change}: pods roll: {changed}");
    }
    Ok(())
}

/// The text under the ConfigMap's key `config.yaml`, its indentation taken away.
fn configuration(rendered: &str) -> Option<String> {
    let (_, behind) = rendered.split_once("  config.yaml: |\n")?;
    let lines = behind
        .lines()
        .take_while(|line| line.is_empty() || line.starts_with("    "));
    let lines: Vec<&str> = lines
        .map(|line| line.strip_prefix("    ").unwrap_or_default())
        .collect();
    let text = lines.join("\n") + "\n";
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_ends_where_its_indentation_does() {
        let rendered =
            "data:\n  config.yaml: |\n    url: x\n    a:\n      b: c\n---\nkind: Secret\n";
        assert_eq!(configuration(rendered).unwrap(), "url: x\na:\n  b: c\n");
        assert_eq!(configuration("kind: Secret\n"), None);
    }
}
