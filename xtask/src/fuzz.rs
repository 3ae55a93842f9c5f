//! `cargo xtask fuzz`: libFuzzer on the targets of `tests/fuzz-targets`.
//!
//! It works on stable Rust: coverage is LLVM's own pass, and only sanitizers, which safe Rust has little need of, would want a nightly
//! compiler. What a run finds new goes to the cache; the corpus in the repository is what every run begins with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::progress::{Stopwatch, output_of, run_logged, say};
use crate::workspace::Workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct FuzzOptions {
    /// Fuzz one target alone [default: all, two at the same time]
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    /// For how long each target is fuzzed
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
}

impl FuzzOptions {
    /// What `cargo xtask test` does: enough to see that each target runs and that nothing obvious breaks it.
    pub(crate) fn smoke() -> Self {
        Self {
            target: None,
            seconds: 3,
        }
    }
}

/// Builds the targets and fuzzes them; fails with the input that broke one.
pub(crate) fn run(workspace: &Workspace, options: &FuzzOptions) -> Result<()> {
    let targets = targets(workspace)?;
    let targets: Vec<&str> = match &options.target {
        None => targets.iter().map(String::as_str).collect(),
        Some(wanted) => {
            let known = targets.iter().find(|target| *target == wanted);
            let known = known
                .with_context(|| format!("no target {wanted}: there are {}", targets.join(", ")))?;
            vec![known]
        }
    };
    let programs = build(workspace)?;
    let mut executions = BTreeMap::new();
    for pair in targets.chunks(AT_ONCE) {
        let running = pair
            .iter()
            .map(|target| start(workspace, &programs, target, options.seconds))
            .collect::<Result<Vec<_>>>()?;
        for (target, child) in pair.iter().zip(running) {
            let output = child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() {
                let end: Vec<&str> = said.lines().rev().take(40).collect();
                let end: Vec<&str> = end.into_iter().rev().collect();
                bail!("fuzz target {target} broke:\n{}", end.join("\n"));
            }
            let count = count(&said).with_context(|| format!("{target} tells no count"))?;
            executions.insert(*target, count);
        }
    }
    let sum: u64 = executions.values().sum();
    let each: Vec<String> = executions
        .iter()
        .map(|(target, count)| format!("{target} {count}"))
        .collect();
    say(format!("fuzzing: {sum} executions: {}", each.join(", ")));
    Ok(())
}

/// The targets: one for each program in `fuzz/fuzz_targets`.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(workspace.root.join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        targets.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    targets.sort();
    ensure!(!targets.is_empty(), "there is no target");
    Ok(targets)
}

/// The folder of the programs.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let host = host()?;
    let folder = workspace.cache.root().join("fuzz-target");
    let programs = folder.join(&host).join("release");
    if !programs.exists() {
        say("building the fuzz targets: about 4 minutes the first time");
    }
    // The products' versions; Cargo adds what is libFuzzer's.
    let [ours, theirs] = ["Cargo.lock", "fuzz/Cargo.lock"].map(|file| workspace.root.join(file));
    fs::copy(ours, theirs)?;
    let watch = Stopwatch::start();
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(&workspace.root)
        .args(["build", "--release", "--bins"])
        .args(["--manifest-path", "fuzz/Cargo.toml", "--target", &host])
        .arg("--target-dir")
        .arg(&folder)
        // With a target named, these are not for build scripts and macros.
        .env("RUSTFLAGS", FLAGS.join(" "));
    run_logged(
        "build of the fuzz targets",
        &mut cargo,
        &workspace.cache.log("fuzz"),
    )?;
    say(format!("fuzz targets built in {:.0} s", watch.seconds()));
    Ok(programs)
}

fn host() -> Result<String> {
    let version = output_of(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc tells no host")?.to_owned())
}

fn start(
    workspace: &Workspace,
    programs: &Path,
    target: &str,
    seconds: u32,
) -> Result<std::process::Child> {
    let folder = |kind: &str| -> Result<PathBuf> {
        let folder = workspace.cache.root().join("fuzz").join(kind).join(target);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    let mut command = Command::new(programs.join(target));
    command
        .arg(format!("-max_total_time={seconds}"))
        .args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=2048"])
        .arg(format!("-artifact_prefix={}/", folder("broken")?.display()))
        // New inputs go to the first folder.
        .arg(folder("corpus")?)
        .arg(workspace.root.join("fuzz/corpus").join(target))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
        .spawn()
        .with_context(|| format!("cannot start fuzz target {target}"))
}

/// How many inputs were tried, from libFuzzer's closing lines.
fn count(said: &str) -> Option<u64> {
    let (_, count) = said.lines().find_map(|line| {
        line.starts_with("stat::number_of_executed_units")
            .then(|| line.split_once(':'))
            .flatten()
            .and_then(|(_, rest)| rest.rsplit_once(' '))
    })?;
    count.parse().ok()
}

const AT_ONCE: usize = 2;

/// What cargo-fuzz passes without a sanitizer: counters at each branch, a table to tell them by, and what is compared with what.
const FLAGS: [&str; 7] = [
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cforce-frame-pointers=yes",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_the_closing_lines() {
        let said = "Done 7 runs in 2 second(s)\nstat::number_of_executed_units: 7\nstat::average_exec_per_sec:     3\n";
        assert_eq!(count(said), Some(7));
        assert_eq!(count("INFO: seed corpus"), None);
    }

    #[test]
    fn each_target_has_a_corpus_and_a_program() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let names = |folder: &str| {
            let entries = fs::read_dir(fuzz.join(folder)).unwrap();
            let names = entries.map(|entry| {
                let path = entry.unwrap().path();
                path.file_stem().unwrap().to_owned()
            });
            names.collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(names("corpus"), names("fuzz_targets"));
    }
}
