//! What this machine lacks, all of it at once, each with its remedy.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::cache::Cache;
use crate::packages;
use crate::progress::output_of;
use crate::workspace::Workspace;

/// Fails with the list of everything that is missing. Everything else in this crate relies on it having passed.
pub(crate) fn examine(workspace: &Workspace) -> Result<()> {
    let checks = [
        platform(),
        cache(&workspace.cache),
        root(),
        dev_null(),
        apt(),
        c_compiler(),
        cargo(),
        component("fmt"),
        component("clippy"),
        go(),
        git(),
    ];
    fail_if_any("this machine cannot run the test cluster yet", checks)
}

/// The same for what only builds: programs and images for a cluster elsewhere. Nothing is installed, so what is missing is said too.
pub(crate) fn examine_builder(workspace: &Workspace) -> Result<()> {
    let missing = packages::missing_for_images();
    let packages = (!missing.is_empty()).then(|| {
        format!(
            "without packages of Debian: apt-get install --no-install-recommends {}",
            missing.join(" ")
        )
    });
    let checks = [
        platform(),
        cache(&workspace.cache),
        packages,
        c_compiler(),
        cargo(),
        go(),
    ];
    fail_if_any("this machine cannot build the images yet", checks)
}

fn fail_if_any<const N: usize>(what: &str, checks: [Option<String>; N]) -> Result<()> {
    let complaints: Vec<String> = checks
        .into_iter()
        .flatten()
        .map(|complaint| format!("  - {complaint}"))
        .collect();
    if complaints.is_empty() {
        return Ok(());
    }
    bail!("{what}:\n{}", complaints.join("\n"))
}

fn platform() -> Option<String> {
    let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    (system != "linux" || processor != "x86_64").then(|| {
        format!(
            "this is {system} {processor}: run it on Linux x86_64, in a virtual machine if need be"
        )
    })
}

/// Tried, not read off the mode: a file system may be read-only, and root is not asked about modes.
fn cache(cache: &Cache) -> Option<String> {
    let tried = cache.lock("doctor").err()?;
    Some(format!(
        "the cache {} cannot be written ({tried:#}): set KUBE_STS_CACHE to a folder that can",
        cache.root().display()
    ))
}

fn root() -> Option<String> {
    (!nix::unistd::geteuid().is_root())
        .then(|| "not root: namespaces, mounts and Debian packages need it; run it as root (in a virtual machine)".into())
}

fn dev_null() -> Option<String> {
    let is_device = Path::new("/dev/null")
        .metadata()
        .is_ok_and(|it| it.file_type().is_char_device());
    (!is_device).then(|| {
        "/dev/null is not a device: rm -f /dev/null && mknod -m 666 /dev/null c 1 3".into()
    })
}

fn apt() -> Option<String> {
    output_of(Command::new("apt-get").arg("--version"))
        .err()
        .map(|_| "no apt-get: run it on Debian 12 or a distribution made from it".into())
}

fn c_compiler() -> Option<String> {
    output_of(Command::new("gcc").arg("--version"))
        .err()
        .map(|_| {
            "no gcc, which the crypto library is built with: apt-get install gcc libc6-dev".into()
        })
}

fn cargo() -> Option<String> {
    output_of(Command::new("cargo").arg("--version"))
        .err()
        .map(|_| "no cargo in PATH: install Rust (https://rustup.rs)".into())
}

/// What a minimal installation of Rust lacks.
fn component(name: &str) -> Option<String> {
    output_of(Command::new("cargo").args([name, "--version"]))
        .err()
        .map(|_| format!("no cargo {name}: rustup component add rustfmt clippy"))
}

fn git() -> Option<String> {
    output_of(Command::new("git").arg("--version"))
        .err()
        .map(|_| "no git, which says what files the checkout has: apt-get install git".into())
}

fn go() -> Option<String> {
    let remedy = format!(
        "install Go {}.{} or newer (https://go.dev/dl)",
        GO_NEEDED.0, GO_NEEDED.1
    );
    match output_of(Command::new("go").args(["env", "GOVERSION"])) {
        Err(_) => Some(format!("no go in PATH: {remedy}")),
        Ok(found) => match parse_go_version(found.trim()) {
            Some(version) if version >= GO_NEEDED => None,
            Some(_) | None => Some(format!("Go is {}: {remedy}", found.trim())),
        },
    }
}

/// `go1.26.8` → (1, 26); `go1.27rc1` too.
fn parse_go_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("go")?.split('.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    Some((numbers.next()??, numbers.next()??))
}

/// Kubernetes 1.36 needs it.
const GO_NEEDED: (u32, u32) = (1, 26);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_versions() {
        assert_eq!(parse_go_version("go1.26.8"), Some((1, 26)));
        assert_eq!(parse_go_version("go1.27rc1"), Some((1, 27)));
        assert_eq!(parse_go_version("devel"), None);
        assert!((1, 9) < GO_NEEDED && (2, 0) > GO_NEEDED);
    }
}
