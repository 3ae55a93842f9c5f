//! cargo-deny: what our dependencies may be. Advisories where there is a network to fetch them from.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache::Fingerprint;
use crate::progress::{run_logged, say};
use crate::workspace::Workspace;

const VERSION: &str = "0.20.2";

/// The workspaces, each with a `deny.toml` of its own: the relying parties' must not be built like us.
const WORKSPACES: [&str; 2] = [".", "tests/verifiers"];

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let program = ensure(workspace)?;
    for folder in WORKSPACES {
        let check = |lists: &[&str]| {
            let mut command = Command::new(&program);
            command
                .current_dir(workspace.root.join(folder))
                .args(["--log-level", "error", "--locked", "check"])
                .args(lists);
            command
        };
        check_one(folder, check)?;
    }
    Ok(())
}

fn check_one(folder: &str, check: impl Fn(&[&str]) -> Command) -> Result<()> {
    let checked = check(&["--hide-inclusion-graph", "bans", "licenses", "sources"]).status();
    if !checked.context("cargo-deny")?.success() {
        bail!("cargo-deny found something in {folder}");
    }
    let advisories = check(&["advisories"]).output().context("cargo-deny")?;
    let said = String::from_utf8_lossy(&advisories.stderr);
    if advisories.status.success() {
        say(format!(
            "cargo-deny: bans, licences, sources and advisories of {folder} are in order"
        ));
    } else if said.contains("advisory database") {
        say(format!(
            "cargo-deny: bans, licences and sources of {folder} are in order; ADVISORIES WERE NOT CHECKED: the database cannot be fetched"
        ));
    } else {
        bail!("cargo-deny: advisories of {folder}\n{said}");
    }
    Ok(())
}

fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let key = Fingerprint::of_recipe(1).text(VERSION).key();
    let folder = workspace
        .cache
        .entry("tools", "cargo-deny", &key, |folder| {
            say("building cargo-deny: about 2 minutes the first time");
            let mut cargo = Command::new("cargo");
            cargo
                .args([
                    "install",
                    "cargo-deny",
                    "--locked",
                    "--debug",
                    "--version",
                    VERSION,
                    "--root",
                ])
                .arg(folder);
            cargo
                .arg("--target-dir")
                .arg(workspace.cache.root().join("cargo-deny-target"));
            run_logged(
                "cargo install cargo-deny",
                &mut cargo,
                &workspace.cache.log("cargo-deny"),
            )
        })?;
    Ok(folder.join("bin/cargo-deny"))
}
