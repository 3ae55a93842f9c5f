//! A directory that stands for a pod's volumes, and the real program in it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::sts::{Sts, mint};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_refresher");

/// The volumes.
pub(crate) struct Pod {
    directory: TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Pod {
    /// One endpoint, `aws`, at that STS.
    pub(crate) fn new(sts: &Sts) -> Self {
        Self::at(&format!("https://{}/aws/token", sts.address), &sts.ca())
    }

    pub(crate) fn at(url: &str, ca: &str) -> Self {
        // In memory where possible: the tests write many files with fsync.
        let shm = Path::new("/dev/shm");
        let directory = if shm.is_dir() {
            TempDir::new_in(shm)
        } else {
            TempDir::new()
        }
        .unwrap();
        let mut pod = Self {
            directory,
            environment: Vec::new(),
        };
        for volume in ["subject", "tokens"] {
            fs::create_dir(pod.path(volume)).unwrap();
        }
        fs::write(pod.path("termination-log"), "").unwrap();
        fs::write(pod.path("container-log"), "").unwrap();
        pod.set("STS_ENDPOINTS", &format!("aws={url}"));
        pod.set("STS_CA_CERTIFICATES", ca);
        for (name, path) in [
            ("STS_SUBJECT_TOKEN_DIR", "subject"),
            ("STS_TOKEN_DIR", "tokens"),
            ("STS_TERMINATION_LOG", "termination-log"),
            ("STS_CONTAINER_LOG", "container-log"),
        ] {
            let path = pod.path(path);
            pod.set(name, path.to_str().unwrap());
        }
        pod.project_subject_token("aws", &mint(3600));
        pod
    }

    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.environment.retain(|(known, _)| *known != name);
        self.environment.push((name, value.to_owned()));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn project_subject_token(&self, endpoint: &str, token: &str) {
        fs::write(self.path("subject").join(endpoint), token).unwrap();
    }

    pub(crate) fn token(&self) -> Option<String> {
        fs::read_to_string(self.path("tokens/aws/token")).ok()
    }

    /// Everything in the endpoint's directory.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path("tokens/aws"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// `program`, which is ours or starts ours, with the sidecar's environment.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Lets the program run to its end.
    pub(crate) fn call(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(PROGRAM, arguments).output().unwrap())
    }

    /// `once` that gives up after the first failure.
    pub(crate) fn once(&self) -> Ended {
        self.call(&["once", "--timeout", "100ms"])
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Running::start(&mut self.command(PROGRAM, arguments))
    }
}

/// A program that has ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        assert!(output.stdout.is_empty(), "stdout is not used");
        Self {
            code: output.status.code(),
            log: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A program that runs. Dropped, it is killed.
pub(crate) struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::<Mutex<String>>::default();
        let writing = Arc::clone(&log);
        thread::spawn(move || {
            for line in stderr.lines() {
                let mut log = writing.lock().unwrap();
                log.push_str(&line.unwrap());
                log.push('\n');
            }
        });
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_for(text, || self.log().contains(text));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until it is so; fails the test if that takes unreasonably long.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Some tests mount file systems in a namespace of their own.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
