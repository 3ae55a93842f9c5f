//! A Python environment with the AWS CLI and the libraries of the relying party's side.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cache::Fingerprint;
use crate::packages;
use crate::progress::{Stopwatch, run_logged, say};
use crate::workspace::Workspace;

/// The folder of `python`, `aws` and the rest, made from `tests/tools/python`.
pub(crate) fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let (awscli, verifier) = (awscli(workspace), verifier(workspace));
    let key = Fingerprint::of_recipe(2)
        .file(&awscli)?
        .file(&verifier)?
        .text(&packages::version("python3")?)
        .key();
    let venv = workspace.cache.entry("python", "venv", &key, |folder| {
        let watch = Stopwatch::start();
        say("making the Python environment: about 15 s");
        let mut create = Command::new(SYSTEM_PYTHON);
        create.args(["-m", "venv"]).arg(folder);
        run_logged(
            "python -m venv",
            &mut create,
            &workspace.cache.log("python-venv"),
        )?;
        let mut install = Command::new(folder.join("bin/pip"));
        install
            .args(PIP_INSTALL)
            .arg("--requirement")
            .arg(&awscli)
            .arg("--requirement")
            .arg(&verifier);
        run_logged("pip install", &mut install, &workspace.cache.log("pip"))?;
        say(format!(
            "Python environment made in {:.0} s",
            watch.seconds()
        ));
        Ok(())
    })?;
    Ok(venv.join("bin"))
}

/// The AWS CLI and what it needs: each version with its hashes, so that pip has nothing to resolve and takes nothing else.
pub(crate) fn awscli(workspace: &Workspace) -> PathBuf {
    workspace.root.join("tests/tools/python/awscli.txt")
}

/// PyJWT, Google's own library, and what they need beside the above.
fn verifier(workspace: &Workspace) -> PathBuf {
    workspace.root.join("tests/tools/python/verifier.txt")
}

/// How requirements are installed.
pub(crate) const PIP_INSTALL: [&str; 4] =
    ["install", "--no-cache-dir", "--no-deps", "--require-hashes"];

/// Debian's own, whatever else is first in PATH: the images take it too.
pub(crate) const SYSTEM_PYTHON: &str = "/usr/bin/python3";
