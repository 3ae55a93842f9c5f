//! The AWS CLI with Debian's Python, and curl, for pods that use the token as an AWS customer would.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};

use super::layer::Layer;
use super::libraries::{add_shared_objects, shared_objects};
use super::oci::Settings;
use super::recipes::{BUSYBOX_PROGRAM, add_busybox};
use super::{Image, make};
use crate::cache::Fingerprint;
use crate::packages;
use crate::progress::{run_logged, say};
use crate::python::{self, PIP_INSTALL, SYSTEM_PYTHON};
use crate::workspace::Workspace;

/// The image; its `aws` is the CLI of the Python requirements, cut down to S3 and STS.
pub(crate) fn awscli(workspace: &Workspace) -> Result<Image> {
    let python = fs::canonicalize(SYSTEM_PYTHON).context("no Debian Python")?;
    let key = Fingerprint::of_recipe(4)
        .file(&python::awscli(workspace))?
        .text(&packages::version("python3")?)
        .file(&python)?
        .file(Path::new(BUSYBOX_PROGRAM))?
        .file(Path::new(CURL))?
        .key();
    make(workspace, AWSCLI, &key, |scratch| {
        say("making the AWS CLI's image: about 15 s");
        let cli = scratch.join("cli");
        install_cli(workspace, &cli)?;
        let library = copy_library(workspace, &python, scratch)?;
        for tree in [&cli, &library] {
            compile(workspace, tree)?;
        }
        let layer = compose(&python, &library, &cli)?;
        let environment = vec!["PYTHONPATH=/opt/aws".to_owned(), "HOME=/tmp".to_owned()];
        Ok((
            layer,
            Settings {
                environment,
                ..Settings::default()
            },
        ))
    })
}

fn install_cli(workspace: &Workspace, cli: &Path) -> Result<()> {
    let pip = python::ensure(workspace)?.join("pip");
    let mut install = Command::new(pip);
    install
        .args(PIP_INSTALL)
        .args(["--no-compile", "--target"])
        .arg(cli)
        .arg("--requirement")
        .arg(python::awscli(workspace));
    run_logged(
        "pip install awscli",
        &mut install,
        &workspace.cache.log("pip-awscli"),
    )?;
    for unneeded in ["awscli/examples", "bin"] {
        remove(&cli.join(unneeded))?;
    }
    trim_models(&cli.join("awscli/botocore/data"))
}

/// A service must not vanish (the CLI's own hooks name many), but its model may be empty.
fn trim_models(data: &Path) -> Result<()> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(b"{}")?;
    let empty_model = gzip.finish()?;
    for service in fs::read_dir(data).context("the AWS CLI has no models where they used to be")? {
        let service = service?;
        let is_kept = SERVICES.iter().any(|kept| service.file_name() == *kept);
        if service.file_type()?.is_dir() && !is_kept {
            trim_service(&service.path(), &empty_model)?;
        }
    }
    Ok(())
}

fn trim_service(folder: &Path, empty_model: &[u8]) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            trim_service(&path, empty_model)?;
        } else if name == "service-2.json.gz" {
            fs::write(path, empty_model)?;
        } else if name == "service-2.json" {
            fs::write(path, "{}")?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Debian's standard library without what no program of ours imports.
fn copy_library(workspace: &Workspace, python: &Path, scratch: &Path) -> Result<PathBuf> {
    let version = python.file_name().context("Python has no name")?;
    let copy = scratch.join("library");
    let mut command = Command::new("cp");
    command
        .args(["--archive", "--no-target-directory"])
        .arg(Path::new("/usr/lib").join(version))
        .arg(&copy);
    run_logged(
        "cp of Python's library",
        &mut command,
        &workspace.cache.log("python-library"),
    )?;
    for entry in fs::read_dir(&copy)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_dangling = !entry.path().exists();
        if is_dangling || UNNEEDED.contains(&name.as_str()) || name.starts_with("config-") {
            remove(&entry.path())?;
        }
    }
    Ok(copy)
}

/// By content, not by time: the image's files have no times.
fn compile(workspace: &Workspace, tree: &Path) -> Result<()> {
    remove_compiled(tree)?;
    let mut command = Command::new(SYSTEM_PYTHON);
    command.args([
        "-m",
        "compileall",
        "-q",
        "-j",
        "0",
        "--invalidation-mode",
        "unchecked-hash",
    ]);
    command.arg("-s").arg(tree).arg(tree);
    run_logged(
        "compileall",
        &mut command,
        &workspace.cache.log("compileall"),
    )
}

fn remove_compiled(tree: &Path) -> Result<()> {
    for entry in fs::read_dir(tree)? {
        let entry = entry?;
        if entry.file_name() == "__pycache__" {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_type()?.is_dir() {
            remove_compiled(&entry.path())?;
        }
    }
    Ok(())
}

fn compose(python: &Path, library: &Path, cli: &Path) -> Result<Layer> {
    let mut layer = Layer::new();
    add_busybox(&mut layer)?;
    layer.file("usr/bin/python3", python)?;
    layer.file("usr/bin/curl", Path::new(CURL))?;
    // As everywhere: some look for the ServiceAccount's token under the one name, some under the other.
    layer.link("var/run", "/run");
    let mut programs = vec![python.to_owned(), PathBuf::from(CURL)];
    for module in fs::read_dir(library.join("lib-dynload"))? {
        programs.push(module?.path());
    }
    add_shared_objects(&mut layer, &shared_objects(&programs)?)?;
    let version = python
        .file_name()
        .context("Python has no name")?
        .to_string_lossy();
    layer.folder(&format!("usr/lib/{version}"), library)?;
    layer.folder("opt/aws", cli)?;
    layer.script("bin/aws", AWS_SCRIPT);
    Ok(layer)
}

fn remove(path: &Path) -> Result<()> {
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path)?;
    } else if path.is_symlink() || path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}

const CURL: &str = "/usr/bin/curl";
const AWSCLI: &str = "localhost/awscli:1.46.3";
const SERVICES: [&str; 3] = ["s3", "s3control", "sts"];
const UNNEEDED: [&str; 9] = [
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "sitecustomize.py",
    "test",
    "tkinter",
    "turtledemo",
    "_pyrepl",
];
const AWS_SCRIPT: &str =
    "#!/usr/bin/python3\nimport sys\nfrom awscli.clidriver import main\nsys.exit(main())\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_is_the_required_version() {
        let requirements = include_str!("../../../tests/tools/python/awscli.txt");
        let version = AWSCLI.rsplit(':').next().unwrap();
        assert!(
            requirements
                .lines()
                .any(|line| line == format!("awscli=={version} \\"))
        );
    }

    #[test]
    fn trims_models_but_keeps_every_service() {
        let data = tempfile::tempdir().unwrap();
        for service in ["s3", "sdb"] {
            let version = data.path().join(service).join("2006-03-01");
            fs::create_dir_all(&version).unwrap();
            fs::write(version.join("service-2.json.gz"), "model").unwrap();
            fs::write(version.join("paginators-1.json"), "{}").unwrap();
        }
        trim_models(data.path()).unwrap();
        assert_eq!(
            fs::read(data.path().join("s3/2006-03-01/service-2.json.gz")).unwrap(),
            b"model"
        );
        assert_ne!(
            fs::read(data.path().join("sdb/2006-03-01/service-2.json.gz")).unwrap(),
            b"model"
        );
        assert!(
            !data
                .path()
                .join("sdb/2006-03-01/paginators-1.json")
                .exists()
        );
    }
}
