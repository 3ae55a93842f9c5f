//! `cargo xtask test`: everything that has to hold before a change lands.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;

use crate::cluster::address::{STORE_ADDRESS, STORE_HOST};
use crate::cluster::{Cluster, ClusterName};
use crate::fuzz::{self, FuzzOptions};
use crate::progress::{Stopwatch, say};
use crate::stage::{self, Stage};
use crate::workspace::Workspace;
use crate::{chart, deny, python, tidy, tools};

/// The layers, each needing more of the machine than the one before.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Layer {
    /// Format, lints, dependencies, and tests that need nothing but cargo
    Unit,
    /// Tests against a real kube-apiserver and etcd
    Api,
    /// Tests on the real node
    E2e,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TestOptions {
    /// Run one layer alone
    #[arg(long, value_name = "LAYER")]
    only: Option<Layer>,
    /// Leave the end-to-end tests' cluster up; the next run uses it
    #[arg(long)]
    keep: bool,
    /// How many key rotations the test against the API server makes under load
    #[arg(long, value_name = "N", default_value_t = 8)]
    rotations: u32,
    /// How many mutated tokens are put before both our check and the real API server
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    mutated_tokens: u32,
    /// Run only tests whose name contains this; end-to-end tests that disturb others are found by `alone::…`
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
}

/// Counts over all test programs.
#[derive(Debug, Default)]
struct Counts {
    passed: u32,
    failed: u32,
}

/// Runs the layers, and says how long each took and how many tests ran.
pub(crate) fn run(workspace: &Workspace, options: &TestOptions) -> Result<()> {
    announce(workspace, options.only);
    let mut counts = Counts::default();
    let mut times = Vec::new();
    for layer in [Layer::Unit, Layer::Api, Layer::E2e] {
        if options.only.is_some_and(|only| only != layer) {
            continue;
        }
        let watch = Stopwatch::start();
        let outcome = match layer {
            Layer::Unit => run_unit(workspace, options, &mut counts),
            Layer::Api => run_api(workspace, options, &mut counts),
            Layer::E2e => run_e2e(workspace, options, &mut counts),
        };
        times.push(format!("{layer:?} {:.0} s", watch.seconds()));
        if let Err(error) = outcome {
            println!(
                "tests: {} passed, {} failed",
                counts.passed,
                counts.failed.max(1)
            );
            return Err(error);
        }
    }
    say(times.join(", "));
    println!("tests: {} passed, {} failed", counts.passed, counts.failed);
    ensure!(counts.passed > 0, "no test ran");
    Ok(())
}

/// Says how long a first run takes, before it begins.
fn announce(workspace: &Workspace, only: Option<Layer>) {
    if only != Some(Layer::Unit) {
        stage::announce_first_run(workspace);
    }
    // Cargo's folder, wherever it is, is where this program is.
    let built = std::env::current_exe().is_ok_and(|us| us.with_file_name("sts-server").exists());
    if !built {
        say(
            "this checkout's first run compiles everything: about 8 minutes on two cores, before any test runs",
        );
    }
}

fn run_unit(workspace: &Workspace, options: &TestOptions, counts: &mut Counts) -> Result<()> {
    const WORKSPACE: [&str; 1] = ["--workspace"];
    if options.filter.is_none() {
        tidy::run(workspace)?;
        cargo(workspace, "format", &["fmt", "--all", "--check"])?;
        let clippy = [
            "clippy",
            "--locked",
            WORKSPACE[0],
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        cargo(workspace, "lints", &clippy)?;
        lint_verifiers(workspace)?;
        deny::run(workspace)?;
        document(workspace)?;
        fuzz::run(workspace, &FuzzOptions::smoke())?;
    }
    let mut command = Command::new("cargo");
    command
        .current_dir(&workspace.root)
        .args(["test", "--locked", WORKSPACE[0], "--no-fail-fast"]);
    command.args(["--exclude", "api-tests", "--exclude", "e2e-tests"]);
    command.args(&options.filter);
    run_tests("unit tests", &mut command, counts)
}

/// `tests/verifiers` is a workspace of its own, so that its dependencies are not mixed with ours.
fn lint_verifiers(workspace: &Workspace) -> Result<()> {
    let target = workspace.cache.root().join("verifiers-target");
    let target = target.to_string_lossy();
    let manifest = ["--manifest-path", "tests/verifiers/Cargo.toml"];
    cargo(
        workspace,
        "format of tests/verifiers",
        &[&["fmt"], &manifest[..], &["--check"]].concat(),
    )?;
    let lints = [
        &["clippy", "--locked", "--target-dir", &*target],
        &manifest[..],
        &["--", "-D", "warnings"],
    ];
    cargo(workspace, "lints of tests/verifiers", &lints.concat())
}

fn document(workspace: &Workspace) -> Result<()> {
    say("documentation");
    let status = Command::new("cargo")
        .current_dir(&workspace.root)
        .env("RUSTDOCFLAGS", "-D warnings")
        .args(["doc", "--locked", "--workspace", "--no-deps"])
        .status()?;
    ensure!(status.success(), "documentation: {status}");
    Ok(())
}

fn run_api(workspace: &Workspace, options: &TestOptions, counts: &mut Counts) -> Result<()> {
    // What the chart's check and the tests run, and build without a word.
    cargo(workspace, "programs", &["programs"])?;
    if options.filter.is_none() {
        chart::check(workspace)?;
    }
    let mut command = Command::new("cargo");
    command
        .current_dir(&workspace.root)
        .args(["test", "--locked", "--package", "api-tests"])
        .args(&options.filter)
        // More than there are cores: most of these tests wait for an API server, a life to end or a watch to be old.
        .args(["--", "--test-threads=8"])
        .env("KUBE_STS_ROTATIONS", options.rotations.to_string())
        .env(
            "KUBE_STS_MUTATED_TOKENS",
            options.mutated_tokens.to_string(),
        )
        .env(
            "KUBEBUILDER_ASSETS",
            tools::control_plane_folder(workspace)?,
        )
        .env(
            "KUBE_STS_HELM",
            tools::Module::Helm.ensure(workspace)?.join("helm"),
        )
        .env(
            "KUBE_STS_MINIO",
            tools::Module::Minio.ensure(workspace)?.join("minio"),
        )
        // Of the tests' own MinIO, with nothing of value.
        .env("AWS_ACCESS_KEY_ID", "administrator")
        .env("AWS_SECRET_ACCESS_KEY", "of-the-tests-alone")
        .env_remove("AWS_SESSION_TOKEN");
    run_tests("tests against a real API server", &mut command, counts)
}

fn run_e2e(workspace: &Workspace, options: &TestOptions, counts: &mut Counts) -> Result<()> {
    // Two runs on this machine, of two checkouts perhaps, would take each other's cluster down.
    let _alone = workspace.cache.lock("e2e-tests")?;
    // Apart from the demo's cluster, which may be up and must not be disturbed.
    let mut cluster = Cluster::open(workspace, "e2e".parse::<ClusterName>()?);
    if !options.keep {
        cluster = cluster.ending_with_us();
        // What an interrupted run left may be in any state.
        cluster.down(None)?;
    }
    let outcome = play(workspace, &cluster, options, counts);
    if options.keep {
        say("the cluster stays up: cargo xtask cluster --name e2e status");
        return outcome;
    }
    let logs = workspace.cache.root().join("log/e2e-cluster");
    let ended = cluster.down(Some(&logs));
    outcome
        .with_context(|| format!("the cluster's logs are in {}", logs.display()))
        .and(ended)
}

fn play(
    workspace: &Workspace,
    cluster: &Cluster<'_>,
    options: &TestOptions,
    counts: &mut Counts,
) -> Result<()> {
    let programs = compile_e2e(workspace)?;
    let stage = Stage::set_up(workspace, cluster)?;
    let facts = write_facts(&stage)?;
    for program in programs {
        // Compiled outside, run on the node: there is no network to fetch anything with.
        let run = |what: &str, arguments: &[&str], counts: &mut Counts| {
            let mut command = cluster.command_in_node(&program.to_string_lossy())?;
            command.args(arguments).env("KUBE_STS_STAGE", &facts);
            run_tests(what, &mut command, counts)
        };
        let filter = options.filter.as_deref();
        let mut beside_each_other = vec!["--test-threads=4", "--skip", ALONE];
        beside_each_other.extend(filter);
        run("end-to-end tests", &beside_each_other, counts)?;
        if filter.is_none_or(|filter| filter.starts_with(ALONE)) {
            let alone = ["--test-threads=1", filter.unwrap_or(ALONE)];
            run("end-to-end tests that disturb others", &alone, counts)?;
        }
    }
    Ok(())
}

/// The module of the end-to-end tests that disturb all others, and run after them.
const ALONE: &str = "alone::";

#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
}

/// The test programs of `tests/e2e`.
fn compile_e2e(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let built = Command::new("cargo")
        .current_dir(&workspace.root)
        .args([
            "test",
            "--locked",
            "--package",
            "e2e-tests",
            "--no-run",
            "--message-format",
            "json",
        ])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(built.status.success(), "tests/e2e does not compile");
    let lines = String::from_utf8(built.stdout)?;
    let artifacts = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    let programs: Vec<PathBuf> = artifacts
        .filter_map(|artifact| artifact.executable)
        .collect();
    ensure!(!programs.is_empty(), "tests/e2e has no test program");
    Ok(programs)
}

/// What the end-to-end tests know about the stage: paths and names, in one JSON file.
fn write_facts(stage: &Stage<'_, '_>) -> Result<PathBuf> {
    let workspace = stage.workspace;
    let python = python::ensure(workspace)?;
    let store = stage
        .cluster
        .issue_leaf("store", &[STORE_HOST], &[STORE_ADDRESS.into()])?;
    let facts = json!({
        "kubeconfig": stage.cluster.kubeconfig(),
        "kubectl": tools::Module::K8s.ensure(workspace)?.join("kubectl"),
        "helm": tools::Module::Helm.ensure(workspace)?.join("helm"),
        "python": python.join("python"),
        "image_values": stage.cluster.root().join("images.json"),
        "scratch": stage.cluster.root().join("e2e"),
        "ca": stage.ca(),
        "awscli_image": stage.awscli.reference,
        "release": stage::RELEASE,
        "namespace": stage::NAMESPACE,
        "chart": workspace.root.join(stage::CHART),
        "control_plane": tools::control_plane_folder(workspace)?,
        "minio": tools::Module::Minio.ensure(workspace)?.join("minio"),
        "administer_minio": workspace.root.join(stage::ADMINISTER_SCRIPT),
        "store": {
            "host": STORE_HOST,
            "address": STORE_ADDRESS,
            "certificate": store.certificate,
            "key": store.key,
        },
    });
    std::fs::create_dir_all(stage.cluster.root().join("e2e"))?;
    let path = stage.cluster.root().join("stage.json");
    std::fs::write(&path, facts.to_string())?;
    Ok(path)
}

fn cargo(workspace: &Workspace, what: &str, arguments: &[&str]) -> Result<()> {
    say(what);
    let status = Command::new("cargo")
        .current_dir(&workspace.root)
        .args(arguments)
        .status()?;
    ensure!(status.success(), "{what}: {status}");
    Ok(())
}

/// Runs test programs with their output shown, and adds up what their closing lines say.
fn run_tests(what: &str, command: &mut Command, counts: &mut Counts) -> Result<()> {
    say(what);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {what}"))?;
    let output = child.stdout.take().context("output is piped")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if let Some(result) = line.strip_prefix("test result: ") {
            counts.passed += number_before(result, " passed");
            counts.failed += number_before(result, " failed");
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{what}: {status}");
    }
    Ok(())
}

fn number_before(text: &str, word: &str) -> u32 {
    let before = text.split(word).next().unwrap_or_default();
    before
        .rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted() {
        let line =
            "ok. 41 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.77s";
        assert_eq!(number_before(line, " passed"), 41);
        assert_eq!(number_before(line, " failed"), 2);
        assert_eq!(number_before("nothing", " passed"), 0);
    }
}
