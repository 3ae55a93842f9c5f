//! A Python environment with the AWS CLI and the libraries of the relying party's side.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cache::Fingerprint;
use crate::packages;
use crate::progress::{Stopwatch, run_logged, say};
use crate::workspace::Workspace;

/// The folder of `python`, `aws` and the rest, made from `tests/tools/python/requirements.txt`.
pub(crate) fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let requirements = requirements(workspace);
    let key = Fingerprint::of_recipe(1)
        .file(&requirements)?
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
            .args(["install", "--no-cache-dir", "--no-deps", "--requirement"])
            .arg(&requirements);
        run_logged("pip install", &mut install, &workspace.cache.log("pip"))?;
        say(format!(
            "Python environment made in {:.0} s",
            watch.seconds()
        ));
        Ok(())
    })?;
    Ok(venv.join("bin"))
}

/// Every version, of the dependencies too: so pip has nothing to resolve.
pub(crate) fn requirements(workspace: &Workspace) -> PathBuf {
    workspace.root.join("tests/tools/python/requirements.txt")
}

/// Debian's own, whatever else is first in PATH: the images take it too.
pub(crate) const SYSTEM_PYTHON: &str = "/usr/bin/python3";
