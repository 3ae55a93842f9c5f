//! What neither the compiler nor clippy sees: the directions of dependencies, the size of files, what must not be in the repository,
//! security tests that are not listed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::catalogue;
use crate::progress::output_of;
use crate::workspace::Workspace;

/// Which of our crates may use which, outside of tests. ARCHITECTURE.md has the same table as a picture.
const EDGES: [(&str, &[&str]); 14] = [
    ("api-tests", &[]),
    ("e2e-tests", &[]),
    (
        "fuzz-targets",
        &[
            "injector",
            "sts-config",
            "sts-core",
            "sts-server",
            "svc-runtime",
            "test-support",
        ],
    ),
    ("injector", &["sts-config", "sts-core", "svc-runtime"]),
    (
        "kubectl-sts",
        &["injector", "sts-config", "sts-core", "sts-publish"],
    ),
    ("refresher", &["sts-api"]),
    ("sts-api", &[]),
    ("sts-config", &["sts-core"]),
    ("sts-core", &[]),
    ("sts-publish", &["sts-config", "sts-core"]),
    (
        "sts-server",
        &[
            "sts-api",
            "sts-config",
            "sts-core",
            "sts-publish",
            "svc-runtime",
        ],
    ),
    ("svc-runtime", &["sts-config"]),
    ("test-support", &[]),
    ("xtask", &[]),
];

/// Crates that do I/O, in crates that must not.
const NO_IO: [&str; 3] = ["sts-api", "sts-config", "sts-core"];
const IO: [&str; 8] = [
    "axum",
    "hyper",
    "hyper-util",
    "kube",
    "reqwest",
    "svc-runtime",
    "tokio",
    "tracing",
];

/// Longest source file.
const MOST_LINES: usize = 500;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: std::path::PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `null` for an ordinary dependency, else `dev` or `build`.
    kind: Option<String>,
}

/// Fails with every finding.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut findings = Vec::new();
    let metadata = output_of(Command::new("cargo").current_dir(&workspace.root).args([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let ours: BTreeSet<&str> = metadata
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    for package in &metadata.packages {
        look_at_package(package, &ours, &mut findings)?;
    }
    let files = list_files(&workspace.root)?;
    catalogue::find(&workspace.root, &files, &mut findings)?;
    for file in files.lines() {
        look_at_file(&workspace.root, file, &mut findings);
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!(
        "{} untidy things:\n  {}",
        findings.len(),
        findings.join("\n  ")
    )
}

/// The repository's files, new ones that are not committed yet included; one a line.
pub(crate) fn list_files(root: &Path) -> Result<String> {
    output_of(Command::new("git").current_dir(root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))
}

fn look_at_package(
    package: &Package,
    ours: &BTreeSet<&str>,
    findings: &mut Vec<String>,
) -> Result<()> {
    let name = package.name.as_str();
    let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
        findings.push(format!(
            "{name}: is not in the table of crates in xtask/src/tidy.rs"
        ));
        return Ok(());
    };
    for dependency in package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.is_none())
    {
        let used = dependency.name.as_str();
        if ours.contains(used) && !allowed.contains(&used) {
            findings.push(format!("{name}: must not depend on {used}"));
        }
        if NO_IO.contains(&name) && IO.contains(&used) {
            findings.push(format!(
                "{name}: does no I/O, so it must not depend on {used}"
            ));
        }
    }
    let manifest = std::fs::read_to_string(&package.manifest_path)?;
    if !manifest.contains("[lints]\nworkspace = true") {
        findings.push(format!(
            "{name}: Cargo.toml lacks `[lints] workspace = true`"
        ));
    }
    Ok(())
}

fn look_at_file(root: &Path, file: &str, findings: &mut Vec<String>) {
    // A file that git still knows but that is gone is no finding; nor is one that is no text.
    let Ok(text) = std::fs::read_to_string(root.join(file)) else {
        return;
    };
    let lines = text.lines().count();
    let is_source = Path::new(file)
        .extension()
        .is_some_and(|extension| extension == "rs");
    if is_source && lines > MOST_LINES {
        findings.push(format!(
            "{file}: has {lines} lines, {MOST_LINES} are enough"
        ));
    }
    let home = std::env::home_dir().unwrap_or_default();
    for place in [root, &home] {
        let place = format!("{}/", place.display());
        if place.len() > 2 && text.contains(&place) {
            findings.push(format!("{file}: names the folder {place} of this machine"));
        }
    }
}
