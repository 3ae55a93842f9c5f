//! The Go programs of the test cluster, built from the modules in `tests/tools`.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache::Fingerprint;
use crate::progress::{Stopwatch, output_of, run_logged, say};
use crate::workspace::Workspace;

/// One Go module of tools. Each has its own: together their dependencies do not resolve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Module {
    Coredns,
    Helm,
    K8s,
    Minio,
}

impl Module {
    /// In the order of use, so that what others wait for comes first.
    pub(crate) const ALL: [Self; 4] = [Self::K8s, Self::Coredns, Self::Helm, Self::Minio];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Coredns => "coredns",
            Self::Helm => "helm",
            Self::K8s => "k8s",
            Self::Minio => "minio",
        }
    }

    /// The module that makes a program.
    pub(crate) fn of_program(program: &str) -> Option<Self> {
        match program {
            "coredns" => Some(Self::Coredns),
            "helm" => Some(Self::Helm),
            "minio" => Some(Self::Minio),
            "kube-apiserver"
            | "kube-controller-manager"
            | "kube-proxy"
            | "kube-scheduler"
            | "kubectl"
            | "kubelet" => Some(Self::K8s),
            _ => None,
        }
    }

    /// The folder of its programs; builds them if need be.
    pub(crate) fn ensure(self, workspace: &Workspace) -> Result<PathBuf> {
        let name = self.name();
        let source = workspace.root.join("tests/tools").join(name);
        let key = Fingerprint::of_recipe(1)
            .file(&source.join("go.mod"))?
            .file(&source.join("go.sum"))?
            .text(&self.linker_flags())
            .text(&go_version()?)
            .key();
        workspace.cache.entry("tools", name, &key, |folder| {
            self.build(workspace, &source, folder)
        })
    }

    fn build(self, workspace: &Workspace, source: &Path, folder: &Path) -> Result<()> {
        let name = self.name();
        say(format!(
            "building {name} from source: {} on two cores; seconds when Go has it cached",
            self.first_build()
        ));
        let watch = Stopwatch::start();
        let mut command = Command::new("go");
        command
            .current_dir(source)
            .env("CGO_ENABLED", "0")
            .args(["build", "-ldflags", &self.linker_flags(), "-o"])
            .arg(folder.join("")) // the slash at its end makes it a folder to `go build`
            .arg("tool");
        run_logged(
            &format!("go build {name}"),
            &mut command,
            &workspace.cache.log(&format!("go-{name}")),
        )?;
        say(format!("{name} built in {:.0} s", watch.seconds()));
        Ok(())
    }

    /// Without them the programs report no proper version, and kubectl and helm refuse that.
    fn linker_flags(self) -> String {
        let (package, variables): (&str, &[(&str, &str)]) = match self {
            Self::Coredns => ("", &[]),
            Self::Helm => (
                "helm.sh/helm/v4/internal/version",
                &[("version", "v4.2.3"), ("gitTreeState", "clean")],
            ),
            Self::K8s => (
                "k8s.io/component-base/version",
                &[
                    ("gitVersion", "v1.36.4"),
                    ("gitMajor", "1"),
                    ("gitMinor", "36"),
                    ("gitTreeState", "clean"),
                ],
            ),
            Self::Minio => (
                "github.com/minio/minio/cmd",
                &[
                    ("Version", "2026-02-12T20:18:48Z"),
                    ("ReleaseTag", "RELEASE.2026-02-12T20-18-48Z"),
                    ("CommitID", "7aac2a2c5b7c"),
                    ("ShortCommitID", "7aac2a2c5b7c"),
                    ("CopyrightYear", "2026"),
                ],
            ),
        };
        let mut flags = vec!["-s -w".to_owned()];
        flags.extend(
            variables
                .iter()
                .map(|(name, value)| format!("-X {package}.{name}={value}")),
        );
        flags.join(" ")
    }

    fn first_build(self) -> &'static str {
        match self {
            Self::Coredns | Self::Minio => "about 3 minutes the first time",
            Self::Helm => "about 1.5 minutes the first time",
            Self::K8s => "about 6 minutes the first time",
        }
    }
}

/// Builds all of them, one after the other: each build keeps all cores busy.
pub(crate) fn ensure_all(workspace: &Workspace) -> Result<()> {
    for module in Module::ALL {
        let folder = module.ensure(workspace)?;
        say(format!("{}: {}", module.name(), folder.display()));
    }
    Ok(())
}

/// A folder with etcd and kube-apiserver: `KUBEBUILDER_ASSETS` if it is set, else one with Debian's etcd and our own build.
pub(crate) fn control_plane_folder(workspace: &Workspace) -> Result<PathBuf> {
    let folder = match &workspace.kubebuilder_assets {
        Some(assets) => assets.clone(),
        None => link_control_plane(workspace)?,
    };
    for program in ["etcd", "kube-apiserver"] {
        let program = folder.join(program);
        ensure!(program.is_file(), "{} does not exist", program.display());
    }
    Ok(folder)
}

fn link_control_plane(workspace: &Workspace) -> Result<PathBuf> {
    let apiserver = Module::K8s.ensure(workspace)?.join("kube-apiserver");
    let key = Fingerprint::of_recipe(1)
        .text(&apiserver.to_string_lossy())
        .key();
    workspace
        .cache
        .entry("tools", "control-plane", &key, |folder| {
            symlink("/usr/bin/etcd", folder.join("etcd"))?;
            symlink(&apiserver, folder.join("kube-apiserver"))?;
            Ok(())
        })
}

fn go_version() -> Result<String> {
    output_of(Command::new("go").args(["env", "GOVERSION"]))
        .context("cannot ask Go for its version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linker_flags_agree_with_the_required_versions() {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools");
        let go_mod = |module: Module| {
            std::fs::read_to_string(tools.join(module.name()).join("go.mod")).unwrap()
        };
        assert!(go_mod(Module::K8s).contains("k8s.io/kubernetes v1.36.4"));
        assert!(
            Module::K8s
                .linker_flags()
                .contains("-X k8s.io/component-base/version.gitVersion=v1.36.4")
        );
        assert!(go_mod(Module::Helm).contains("helm.sh/helm/v4 v4.2.3"));
        assert!(
            Module::Helm
                .linker_flags()
                .contains("version.version=v4.2.3")
        );
        assert!(go_mod(Module::Minio).contains("7aac2a2c5b7c"));
        assert_eq!(Module::Coredns.linker_flags(), "-s -w");
    }
}
