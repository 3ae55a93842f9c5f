//! `cargo xtask mutants`: changes the core in every way that cargo-mutants knows, one at a time, and sees whether a test notices.
//!
//! It takes long, each change being compiled and tested, so it is no part of `cargo xtask test`. What survives is explained in
//! `docs/mutants.md`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache::Fingerprint;
use crate::progress::{run_logged, say};
use crate::workspace::Workspace;

const VERSION: &str = "27.1.0";

/// Verifier, rules and claims.
const FILES: [&str; 14] = [
    "authorize.rs",
    "claims.rs",
    "claims/**",
    "exchange.rs",
    "keys.rs",
    "keys/**",
    "liveness.rs",
    "policy.rs",
    "policy/**",
    "strict_json.rs",
    "template.rs",
    "token.rs",
    "token/**",
    "verify.rs",
];

#[derive(Debug, clap::Args)]
pub(crate) struct MutantsOptions {
    /// Mutate these files alone, a glob under crates/sts-core/src [default: verifier, rules and claims]
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    /// A part of the mutants, to share the work: `0/8` is the first of eight
    #[arg(long, value_name = "PART/PARTS")]
    shard: Option<String>,
}

/// Runs cargo-mutants, and prints the score.
pub(crate) fn run(workspace: &Workspace, options: &MutantsOptions) -> Result<()> {
    let program = ensure_program(workspace)?;
    let output = workspace.cache.root().join("mutants");
    fs::create_dir_all(&output)?;
    let mut command = Command::new(program);
    command
        .current_dir(&workspace.root)
        .args(["mutants", "--package", "sts-core", "--no-shuffle"])
        .args(["--minimum-test-timeout", "60", "--output"])
        .arg(&output)
        // Dependencies are compiled once, not for each run.
        .env(
            "CARGO_TARGET_DIR",
            workspace.cache.root().join("mutants-target"),
        );
    let all = FILES.map(str::to_owned);
    let files = if options.files.is_empty() {
        &all[..]
    } else {
        &options.files
    };
    for file in files {
        command
            .arg("--file")
            .arg(format!("crates/sts-core/src/{file}"));
    }
    if let Some(shard) = &options.shard {
        command.args(["--shard", shard]);
    }
    command.args(["--", "--lib", "--tests"]);
    // It fails when a mutant survives; the count says more.
    let status = command.status().context("cargo-mutants")?;
    let count = |name: &str| -> Result<usize> {
        let list = output.join("mutants.out").join(format!("{name}.txt"));
        Ok(fs::read_to_string(list)?.lines().count())
    };
    let [caught, missed, timeout] = [count("caught")?, count("missed")?, count("timeout")?];
    ensure!(caught > 0, "cargo-mutants: {status}: nothing was tested");
    let [noticed, all] = [caught + timeout, caught + timeout + missed];
    say(format!(
        "{noticed} of {all} mutants were noticed; the others are in {}",
        output.display()
    ));
    Ok(())
}

fn ensure_program(workspace: &Workspace) -> Result<PathBuf> {
    let key = Fingerprint::of_recipe(1).text(VERSION).key();
    let build = |folder: &std::path::Path| {
        say("building cargo-mutants: about 3 minutes the first time");
        let mut cargo = Command::new("cargo");
        cargo
            .args(["install", "cargo-mutants", "--locked", "--debug"])
            .args(["--version", VERSION, "--root"])
            .arg(folder)
            .arg("--target-dir")
            .arg(workspace.cache.root().join("cargo-mutants-target"));
        let log = workspace.cache.log("cargo-mutants");
        run_logged("cargo install cargo-mutants", &mut cargo, &log)
    };
    let folder = workspace
        .cache
        .entry("tools", "cargo-mutants", &key, build)?;
    Ok(folder.join("bin/cargo-mutants"))
}
