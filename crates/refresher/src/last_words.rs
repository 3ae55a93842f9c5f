//! The container's termination message, which `kubectl describe pod` shows when the container has ended.
//!
//! `wait` writes there why it gave up. `run` does where it cannot leave its reason in the volume, because that is full or read-only: else nobody
//! would learn of it. That Kubernetes falls back on the end of the log does not help: it does so for a container that ends with
//! another status than 0, and a sidecar whose hook has failed is told to stop, which it does with 0.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::clock::WallTime;
use crate::token_text::render_foreign_text;

/// The file of it.
#[derive(Clone, Debug)]
pub struct LastWords(PathBuf);

impl LastWords {
    /// The file at `path`. It exists in every container, and nowhere else.
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Replaces what is there. Best effort: outside a container there is no file.
    pub fn say(&self, line: &str) {
        drop(write_line(
            OpenOptions::new().write(true).truncate(true),
            &self.0,
            line,
        ));
    }

    /// Takes back what is there, when it is not so any more.
    pub fn take_back(&self) {
        if self.read().is_some() {
            drop(OpenOptions::new().write(true).truncate(true).open(&self.0));
        }
    }

    /// What is there, fit for a log.
    pub fn read(&self) -> Option<String> {
        let mut text = String::new();
        let file = File::open(&self.0).ok()?;
        file.take(MAX_WORDS).read_to_string(&mut text).ok()?;
        let text = text.trim_end();
        (!text.is_empty()).then(|| render_foreign_text(text))
    }

    /// When `run` said that it had failed, if those are the last words: `wait` speaks here too, and is no sign of life of `run`.
    pub fn failure_time(&self) -> Option<WallTime> {
        self.read().filter(|words| words.starts_with(FAILURE))?;
        let modified = self.0.metadata().ok()?.modified().ok()?;
        Some(WallTime::of(modified))
    }
}

/// What `run` says of a failure, here or in the volume.
pub(crate) fn render_failure(detail: &str, code: &str) -> String {
    format!("{FAILURE}: {detail} ({code})")
}

/// The file is not created: a path that is wrong must not fill a volume.
pub(crate) fn write_line(options: &OpenOptions, path: &Path, line: &str) -> io::Result<()> {
    options
        .open(path)?
        .write_all(format!("{line}\n").as_bytes())
}

/// How `run` begins, and nobody else.
const FAILURE: &str = "the last exchange failed";

/// Kubernetes takes no more of it.
const MAX_WORDS: u64 = 4096;
