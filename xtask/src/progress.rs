//! What the user sees while something takes long: lines on the terminal, details in a log file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Real time since it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "automation measures the real time of real programs"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    pub(crate) fn seconds(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Tells the user one line.
pub(crate) fn say(line: impl AsRef<str>) {
    eprintln!("xtask: {}", line.as_ref());
}

/// Runs `command` with its output in `log`; says so every now and then, and shows the end of the log when it fails.
pub(crate) fn run_logged(what: &str, command: &mut Command, log: &Path) -> Result<()> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("{what}: cannot start {}", command.get_program().display()))?;
    let watch = Stopwatch::start();
    let mut next_line = NEWS_INTERVAL;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if watch.elapsed() >= next_line {
            say(format!(
                "{what}: {} s (log: {})",
                watch.elapsed().as_secs(),
                log.display()
            ));
            next_line += NEWS_INTERVAL;
        }
        std::thread::sleep(POLL_INTERVAL);
    };
    if !status.success() {
        bail!("{what}: {status}\n{}", tail(log));
    }
    Ok(())
}

/// Runs `command` to its end and returns its standard output; an error holds what it wrote to standard error.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {}", output.status, complaint.trim());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} wrote no UTF-8", program.display()))
}

/// The end of a log file, indented, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    let text = read_end(log).unwrap_or_else(|error| format!("(cannot read it: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(TAIL_LINES);
    let end: Vec<String> = lines
        .iter()
        .skip(skipped)
        .map(|line| format!("    {line}"))
        .collect();
    format!("  end of {}:\n{}", log.display(), end.join("\n"))
}

fn read_end(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

const NEWS_INTERVAL: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const TAIL_LINES: usize = 30;
const TAIL_BYTES: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_shows_the_end_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("made/on/demand.log");
        let mut command = Command::new("sh");
        command.args(["-c", "seq 100; echo the reason >&2; exit 3"]);
        let error = run_logged("a try", &mut command, &log)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exit status: 3") && error.contains("the reason"),
            "{error}"
        );
        assert!(!error.contains(" 50\n"), "only the end: {error}");
    }
}
