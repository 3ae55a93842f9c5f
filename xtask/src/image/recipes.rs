//! What is in each image. Each recipe's number is raised when its way of building changes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::layer::Layer;
use super::libraries::{add_shared_objects, shared_objects};
use super::oci::Settings;
use super::{Image, make};
use crate::cache::Fingerprint;
use crate::progress::{output_of, run_logged};
use crate::tools::Module;
use crate::workspace::Workspace;

/// How our programs are compiled: quickly, or as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Profile {
    Dist,
    #[default]
    Release,
}

impl Profile {
    /// Cargo's profile: the sidecar's own is smaller.
    fn of(self, program: &str) -> &'static str {
        match (self, program) {
            (Self::Dist, "refresher") => SIDECAR,
            (Self::Dist, _) => "dist",
            (Self::Release, _) => "release",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Dist => "dist",
            Self::Release => "release",
        })
    }
}

/// The container that holds each pod's namespaces.
pub(crate) fn pause(workspace: &Workspace) -> Result<Image> {
    let source = workspace.root.join("tests/images/pause.c");
    let key = Fingerprint::of_recipe(1).file(&source)?.key();
    make(workspace, PAUSE, &key, |scratch| {
        let program = scratch.join("pause");
        let mut compile = Command::new("gcc");
        compile
            .args(["-static", "-Os", "-s", "-o"])
            .arg(&program)
            .arg(&source);
        run_logged("gcc pause.c", &mut compile, &workspace.cache.log("pause"))?;
        Ok((
            program_alone("pause", &program)?,
            settings_of("/pause", None),
        ))
    })
}

/// A shell and its small programs, for test pods.
pub(crate) fn busybox(workspace: &Workspace) -> Result<Image> {
    let key = Fingerprint::of_recipe(1)
        .file(Path::new(BUSYBOX_PROGRAM))?
        .key();
    make(workspace, BUSYBOX, &key, |_| {
        let mut layer = Layer::new();
        add_busybox(&mut layer)?;
        Ok((layer, Settings::default()))
    })
}

/// The cluster's name server.
pub(crate) fn coredns(workspace: &Workspace) -> Result<Image> {
    let folder = Module::Coredns.ensure(workspace)?;
    let key = Fingerprint::of_recipe(1)
        .text(&folder.to_string_lossy())
        .key();
    make(workspace, COREDNS, &key, |_| {
        Ok((
            program_alone("coredns", &folder.join("coredns"))?,
            settings_of("/coredns", Some(NOBODY)),
        ))
    })
}

/// Our programs, each alone in an image without a shell.
pub(crate) fn ours(workspace: &Workspace, profile: Profile) -> Result<Vec<Image>> {
    let binaries = compile_all(workspace, profile)?;
    let images = OURS.iter().zip(&binaries).map(|((name, program), binary)| {
        let key = Fingerprint::of_recipe(2).file(binary)?.key();
        make(
            workspace,
            // A tag of its own for each content, so that a new build is a new image to the kubelet.
            &format!("localhost/kube-sts-{name}:{key}"),
            &key,
            |_| {
                Ok((
                    program_alone(program, binary)?,
                    settings_of(&format!("/{program}"), Some(NOBODY)),
                ))
            },
        )
    });
    images.collect()
}

/// A program of the outside world, for a cluster with no node of ours to run it on. The program's path has its fingerprint in it.
pub(crate) fn relying_party(workspace: &Workspace, name: &str, program: &Path) -> Result<Image> {
    // ldd fails for what is linked statically.
    let libraries = shared_objects(&[program.to_owned()]).unwrap_or_default();
    let key = libraries
        .iter()
        .try_fold(
            Fingerprint::of_recipe(1).text(&program.to_string_lossy()),
            |key, library| key.file(library),
        )?
        .key();
    make(
        workspace,
        &format!("localhost/kube-sts-demo-{name}:{key}"),
        &key,
        |_| {
            let mut layer = program_alone(name, program)?;
            if !libraries.is_empty() {
                add_shared_objects(&mut layer, &libraries)?;
            }
            Ok((layer, settings_of(&format!("/{name}"), Some(NOBODY))))
        },
    )
}

/// One of our programs alone, as its image has it.
pub(crate) fn program(workspace: &Workspace, profile: Profile, name: &str) -> Result<PathBuf> {
    compile(workspace, profile, name)?;
    locate(workspace, profile, name)
}

/// An example of one of our crates, compiled as its program is, and where it is.
pub(crate) fn example(
    workspace: &Workspace,
    profile: Profile,
    package: &str,
    name: &str,
) -> Result<PathBuf> {
    let what = ["--package", package, "--example", name];
    compile_together(workspace, profile.of(package), &what)?;
    let folder = folder(workspace, profile.of(package))?;
    Ok(folder.join("examples").join(name))
}

/// Compiles our programs, and says where they are.
///
/// What is published is compiled program by program: compiled together, each would have the features of all in it.
fn compile_all(workspace: &Workspace, profile: Profile) -> Result<Vec<PathBuf>> {
    let programs = OURS.map(|(_, program)| program);
    match profile {
        Profile::Dist => programs
            .into_iter()
            .try_for_each(|program| compile(workspace, profile, program))?,
        Profile::Release => {
            let packages = programs.iter().flat_map(|program| ["--package", program]);
            compile_together(workspace, profile.of(""), &packages.collect::<Vec<_>>())?;
        }
    }
    let places = programs
        .into_iter()
        .map(|program| locate(workspace, profile, program));
    places.collect()
}

fn compile(workspace: &Workspace, profile: Profile, program: &str) -> Result<()> {
    compile_together(workspace, profile.of(program), &["--package", program])
}

fn locate(workspace: &Workspace, profile: Profile, program: &str) -> Result<PathBuf> {
    Ok(folder(workspace, profile.of(program))?.join(program))
}

/// Where cargo puts what it compiles.
fn folder(workspace: &Workspace, profile: &str) -> Result<PathBuf> {
    let metadata = output_of(Command::new("cargo").current_dir(&workspace.root).args([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    Ok(metadata.target_directory.join(TARGET).join(profile))
}

/// Statically linked against glibc: the musl target is not everywhere to be had, and needs a second C library. The Dockerfile does the same.
fn compile_together(workspace: &Workspace, profile: &str, what: &[&str]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(&workspace.root)
        .envs(BUILD_ENVIRONMENT)
        .args(["build", "--profile", profile, "--target", TARGET])
        .args([
            "--config",
            &format!("target.{TARGET}.rustflags={:?}", compiler_flags(profile)),
        ]);
    cargo.args(what);
    run_logged(
        &format!("cargo build --profile {profile}"),
        &mut cargo,
        &workspace.cache.log("cargo-build"),
    )
}

/// The sidecar does not unwind, so it needs no tables for that; and its relocations are packed, which takes 0.2 MiB off it. The
/// Dockerfile says the same.
fn compiler_flags(profile: &str) -> Vec<&'static str> {
    let mut flags = vec!["-Ctarget-feature=+crt-static"];
    if profile == SIDECAR {
        flags.push("-Cforce-unwind-tables=no");
        flags.push("-Clink-arg=-Wl,-z,pack-relative-relocs");
    }
    flags
}

/// What we read of `cargo metadata`.
#[derive(serde::Deserialize)]
struct Metadata {
    target_directory: PathBuf,
}

/// Busybox with every name it answers to.
pub(super) fn add_busybox(layer: &mut Layer) -> Result<()> {
    layer.file("bin/busybox", Path::new(BUSYBOX_PROGRAM))?;
    let applets = output_of(Command::new(BUSYBOX_PROGRAM).arg("--list"))?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        layer.link(&format!("bin/{applet}"), "busybox");
    }
    Ok(())
}

fn program_alone(name: &str, program: &Path) -> Result<Layer> {
    let mut layer = Layer::new();
    layer.file(name, program)?;
    Ok(layer)
}

fn settings_of(entrypoint: &str, user: Option<&str>) -> Settings {
    Settings {
        entrypoint: vec![entrypoint.to_owned()],
        user: user.map(str::to_owned),
        ..Settings::default()
    }
}

pub(crate) const PAUSE: &str = "localhost/pause:3.9";
pub(crate) const BUSYBOX: &str = "localhost/busybox:1.35";
pub(crate) const COREDNS: &str = "localhost/coredns:1.15.0";
pub(super) const BUSYBOX_PROGRAM: &str = "/bin/busybox";
const NOBODY: &str = "65532";
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The sidecar's own profile.
const SIDECAR: &str = "sidecar";
/// docs/decisions/0008-random-numbers-from-the-kernel.md; the Dockerfile says the same.
const BUILD_ENVIRONMENT: [(&str, &str); 1] = [("AWS_LC_SYS_NO_JITTER_ENTROPY", "1")];
/// The image's name and the package, whose binary has the same name.
const OURS: [(&str, &str); 3] = [
    ("server", "sts-server"),
    ("injector", "injector"),
    ("refresher", "refresher"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dockerfile_compiles_what_is_published_as_it_is_measured() {
        let dockerfile = include_str!("../../../Dockerfile");
        for (_, program) in OURS {
            let profile = Profile::Dist.of(program);
            let build = format!("--profile {profile} -p {program}");
            assert!(dockerfile.contains(&build), "{build}");
            for flag in compiler_flags(profile) {
                assert!(dockerfile.contains(flag), "{flag}");
            }
        }
        for (name, value) in BUILD_ENVIRONMENT {
            assert!(dockerfile.contains(&format!("ENV {name}={value}")));
        }
        let (_, system) = TARGET.split_once('-').unwrap();
        assert!(dockerfile.contains(&format!("target=\"$(uname -m)-{system}\"")));
    }
}
