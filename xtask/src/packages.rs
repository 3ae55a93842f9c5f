//! The Debian packages the node and the images are made with.

use std::process::Command;

use anyhow::Result;

use crate::progress::{Stopwatch, output_of, run_logged, say};
use crate::workspace::Workspace;

/// Installs what is missing; costs milliseconds when nothing is.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    if missing().is_empty() {
        return Ok(());
    }
    let _lock = workspace.cache.lock("packages")?;
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let watch = Stopwatch::start();
    say(format!("installing Debian packages: {}", missing.join(" ")));
    let log = workspace.cache.log("apt-update");
    run_logged("apt-get update", apt_get().arg("update"), &log)?;
    let log = workspace.cache.log("apt-install");
    let mut install = apt_get();
    install
        .args(["install", "--yes", "--no-install-recommends"])
        .args(&missing);
    run_logged("apt-get install", &mut install, &log)?;
    say(format!(
        "Debian packages installed in {:.0} s",
        watch.seconds()
    ));
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// What images are made with and from; all they need of Debian.
pub(crate) fn missing_for_images() -> Vec<&'static str> {
    let missing = missing();
    FOR_IMAGES
        .into_iter()
        .filter(|package| missing.contains(package))
        .collect()
}

fn missing() -> Vec<&'static str> {
    // It fails when it does not know one of them, and lists the others all the same.
    let listed = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(PACKAGES)
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    not_installed(&listed)
}

fn not_installed(listed: &str) -> Vec<&'static str> {
    let is_installed = |package: &str| {
        listed
            .lines()
            .any(|line| line == format!("{package} installed"))
    };
    PACKAGES
        .into_iter()
        .filter(|package| !is_installed(package))
        .collect()
}

/// The installed version of a package, for the fingerprint of what is made from it.
pub(crate) fn version(package: &str) -> Result<String> {
    output_of(Command::new("dpkg-query").args(["--show", "--showformat", "${Version}", package]))
}

const PACKAGES: [&str; 19] = [
    "busybox-static",
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "curl",
    "etcd-client",
    "etcd-server",
    "g++",
    "gcc",
    "iproute2",
    "iptables",
    "jq",
    "libc6-dev",
    "nftables",
    "openssl",
    "python3",
    "python3-venv",
    "runc",
];

const FOR_IMAGES: [&str; 5] = [
    "busybox-static",
    "gcc",
    "libc6-dev",
    "python3",
    "python3-venv",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_not_installed() {
        let all: Vec<String> = PACKAGES
            .iter()
            .map(|package| format!("{package} installed"))
            .collect();
        assert!(not_installed(&all.join("\n")).is_empty());
        let removed = all
            .join("\n")
            .replace("runc installed", "runc config-files")
            .replace("curl installed", "");
        assert_eq!(not_installed(&removed), ["curl", "runc"]);
    }
}
