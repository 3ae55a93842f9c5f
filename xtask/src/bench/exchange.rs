//! `cargo xtask bench exchange`: what an exchange costs the server, against the real kube-apiserver.
//!
//! The measurement itself is a test that is left out otherwise, `tests/api/tests/it/bench.rs`: it needs all that those tests set up.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::image::{self, Profile};
use crate::progress::say;
use crate::tools;
use crate::workspace::Workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How the server is compiled
    #[arg(long, default_value_t = Profile::Dist)]
    profile: Profile,
    /// A server to measure instead of one compiled now
    #[arg(long, value_name = "FILE")]
    program: Option<std::path::PathBuf>,
    /// How many pods the large cluster has, and how many come at once in the end
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let server = match &options.program {
        Some(program) => program.canonicalize()?,
        None => image::program(workspace, options.profile, "sts-server")?,
    };
    let mut test = measurement(workspace, "bench::exchange", &server)?;
    test.env("KUBE_STS_BENCH_PODS", options.pods.to_string());
    let status = test.status()?;
    ensure!(status.success(), "the measurement failed: {status}");
    Ok(())
}

/// The command of a measurement of that program against the real API server.
pub(crate) fn measurement(workspace: &Workspace, test: &str, program: &Path) -> Result<Command> {
    say("building the clients");
    let mut command = Command::new("cargo");
    // Core 1 for clients and API server; `tests/api` gives core 0 to the program.
    command
        .current_dir(&workspace.root)
        .args(["test", "--locked", "--release", "--package", "api-tests"])
        .args(["--test", "it", "--quiet", "--"])
        .args(["--ignored", "--exact", "--nocapture", test])
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", CLIENTS_CORE)
        .env(
            "KUBEBUILDER_ASSETS",
            tools::control_plane_folder(workspace)?,
        )
        .env("KUBE_STS_BENCH_PROGRAM", program);
    Ok(command)
}

const CLIENTS_CORE: &str = "taskset -c 1";
