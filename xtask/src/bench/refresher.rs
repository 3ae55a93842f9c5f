//! `cargo xtask bench refresher`: what a sidecar costs, with the published build against the real server on loopback, and on the real node.

mod pod_start;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bench::process::{self, Child, Usage};
use crate::bench::standalone::{self, Standalone};
use crate::bench::table::{Table, median};
use crate::image::{self, Profile};
use crate::progress::{Stopwatch, say};
use crate::workspace::Workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How the refresher is compiled
    #[arg(long, default_value_t = Profile::Dist)]
    profile: Profile,
    /// A refresher to measure instead of one compiled now
    #[arg(long, value_name = "FILE")]
    program: Option<std::path::PathBuf>,
    /// How many starts are timed
    #[arg(long, default_value_t = 30)]
    starts: usize,
    /// How many sidecars are watched for a minute
    #[arg(long, default_value_t = 8)]
    sidecars: usize,
    /// How many pods of each kind are started on the real node; 0 leaves the node out
    #[arg(long, default_value_t = 20)]
    pods: usize,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => image::program(workspace, options.profile, "refresher")?,
    };
    let mut table = Table::new("refresher");
    let bytes = fs::metadata(&program)?.len();
    table.row("program, and so image", mebibytes(bytes), "MiB", Some(4.0));
    let sts = Standalone::start(workspace)?;
    measure_starts(&mut table, &sts, &program, options.starts)?;
    measure_parts(&mut table, &sts, &program)?;
    measure_steady(&mut table, &sts, &program, options.sidecars)?;
    drop(sts);
    if options.pods > 0 {
        pod_start::measure(&mut table, workspace, options.pods)?;
    }
    table.print();
    Ok(())
}

/// `once` from start to end: the exchange, the file, and nothing else.
fn measure_starts(
    table: &mut Table,
    sts: &Standalone,
    program: &Path,
    starts: usize,
) -> Result<()> {
    ensure!(starts > 0, "--starts: at least one");
    say(format!("{starts} starts"));
    let mut spans = Vec::new();
    let before = process::cpu_of_children()?;
    for _ in 0..starts {
        let pod = sts.pod()?;
        let mut command = pod.command(program, "once");
        let watch = Stopwatch::start();
        let status = command.status()?;
        spans.push(watch.seconds() * 1e3);
        ensure!(status.success(), "once: {status}");
    }
    let cpu = process::cpu_of_children()?.saturating_sub(before);
    table.row(
        "start to first token, median",
        median(&spans),
        "ms",
        Some(50.0),
    );
    let each = cpu.as_secs_f64() * 1e3 / f64::from(u32::try_from(starts)?);
    table.row("  of it CPU, mean", each, "ms", None);
    Ok(())
}

/// What is resident before there is a TLS client: of a program that only looks at files, and of one that would exchange if it had
/// something to exchange. What the steady state has more is TLS, HTTP and the exchange.
fn measure_parts(table: &mut Table, sts: &Standalone, program: &Path) -> Result<()> {
    say("parts");
    for (title, subcommand) in [
        ("resident memory of `wait`", "wait"),
        ("resident memory of a `run` at its start", "run"),
    ] {
        let pod = sts.pod()?;
        let mut command = pod.command(program, subcommand);
        command.env("STS_SUBJECT_TOKEN_DIR", "/nonexistent");
        let mut child = Child::spawn(&mut command, &pod.log())?;
        thread::sleep(Duration::from_secs(1));
        ensure!(child.is_running()?, "{subcommand} ended");
        let usage = child.usage()?;
        table.row(title, mebibytes(usage.resident), "MiB", None);
        let anonymous = mebibytes(usage.anonymous);
        table.row("  of it anonymous", anonymous, "MiB", None);
    }
    Ok(())
}

/// Sidecars over a few refreshes, when each has its session: the exchanges that build what is kept are not counted.
fn measure_steady(
    table: &mut Table,
    sts: &Standalone,
    program: &Path,
    sidecars: usize,
) -> Result<()> {
    ensure!(sidecars > 0, "--sidecars: at least one");
    let seconds = OBSERVATION.as_secs();
    say(format!("{sidecars} sidecars, tokens of a minute"));
    let mut running = (0..sidecars)
        .map(|_| {
            let pod = sts.pod()?;
            let child = Child::spawn(&mut pod.command(program, "run"), &pod.log())?;
            Ok((pod, child))
        })
        .collect::<Result<Vec<_>>>()?;
    for (pod, child) in &mut running {
        pod.wait_for_tokens(2, child)?;
    }
    let before = usages(&running)?;
    thread::sleep(OBSERVATION);
    let after = usages(&running)?;
    let refreshes = difference(&before, &after, |(tokens, _)| f64::from(*tokens));
    ensure!(refreshes > 0.0, "no refresh in {seconds} s");
    let cpu = difference(&before, &after, |(_, usage)| usage.cpu.as_secs_f64() * 1e3);
    let wakes = difference(&before, &after, |(_, usage)| f64::from(usage.wakes));
    let of = |value: fn(&Usage) -> f64| {
        let values: Vec<_> = after.iter().map(|(_, usage)| value(usage)).collect();
        median(&values)
    };
    let (all, anonymous) = (
        of(|usage| mebibytes(usage.resident)),
        of(|usage| mebibytes(usage.anonymous)),
    );
    table.row("resident memory, median", all, "MiB", Some(3.5));
    table.row("  of it anonymous", anonymous, "MiB", Some(0.6));
    let threads = of(|usage| f64::from(usage.threads));
    table.row("threads", threads, "", Some(1.0));
    table.row("CPU per refresh, mean", cpu / refreshes, "ms", Some(1.0));
    table.row("wake-ups per refresh, mean", wakes / refreshes, "", None);
    let resting = wakes_at_rest(&running)?;
    table.row("wake-ups in a rest", resting, "", Some(0.0));
    table.note(format!(
        "{refreshes} refreshes of {sidecars} sidecars in {seconds} s"
    ));
    Ok(())
}

type Sample = (u32, Usage);

/// What all sidecars together have more of afterwards.
fn difference(before: &[Sample], after: &[Sample], value: fn(&Sample) -> f64) -> f64 {
    let sum = |samples: &[Sample]| samples.iter().map(value).sum::<f64>();
    sum(after) - sum(before)
}

fn usages(running: &[(standalone::Pod, Child)]) -> Result<Vec<Sample>> {
    running
        .iter()
        .map(|(pod, child)| Ok((pod.tokens()?, child.usage()?)))
        .collect()
}

/// Of a sidecar that did not refresh in these seconds; the median, as one of them may be just about to.
fn wakes_at_rest(running: &[(standalone::Pod, Child)]) -> Result<f64> {
    let before = usages(running)?;
    thread::sleep(Duration::from_secs(5));
    let after = usages(running)?;
    let pairs = before.iter().zip(&after);
    let resting = pairs.filter(|(before, after)| before.0 == after.0);
    let wakes: Vec<_> = resting
        .map(|(before, after)| f64::from(after.1.wakes - before.1.wakes))
        .collect();
    ensure!(!wakes.is_empty(), "each sidecar refreshed in these seconds");
    Ok(median(&wakes))
}

fn mebibytes(bytes: u64) -> f64 {
    // To the KiB: exact enough, and fits.
    f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0
}

const OBSERVATION: Duration = Duration::from_secs(60);
