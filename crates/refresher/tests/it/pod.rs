//! A directory that stands for a pod's volumes, and the real program in it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::sts::{Sts, mint};
use crate::watched::{PATIENCE, Watched};

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

    /// A shell script in a mount namespace of its own, which takes its mounts with it. Who is not root makes it in a user
    /// namespace.
    pub(crate) fn unshare(&self, script: &str) -> Command {
        let mut arguments = vec!["--mount", "sh", "-c", script];
        if !is_root() {
            arguments.splice(0..0, ["--user", "--map-root-user"]);
        }
        self.command("unshare", &arguments)
    }

    /// Has the program call these functions, in C, in place of the system's.
    pub(crate) fn preload(&mut self, functions: &str) {
        let (source, library) = (self.path("shim.c"), self.path("shim.so"));
        fs::write(&source, functions).unwrap();
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-o"]);
        assert!(
            compile
                .args([&library, &source])
                .status()
                .unwrap()
                .success(),
            "these tests need a C compiler, as the build does"
        );
        self.set("LD_PRELOAD", library.to_str().unwrap());
    }

    /// Lets the program run to its end.
    pub(crate) fn call(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(PROGRAM, arguments).output().unwrap())
    }

    /// `once` that must work.
    #[track_caller]
    pub(crate) fn get_token(&self) -> String {
        let Ended { code, log } = self.call(&["once"]);
        assert_eq!(code, Some(0), "{log}");
        self.token().unwrap()
    }

    /// What `run` says of its first try. Its time is not bounded, as that of `once` is: a loaded machine has it too.
    #[track_caller]
    pub(crate) fn first_try(&self, arguments: &[&str]) -> String {
        let running = self.start(&[&["run"], arguments].concat());
        running.wait_for_log("next_try");
        running.log().lines().next().unwrap().to_owned()
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
    log: Arc<Watched<String>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::<Watched<String>>::default();
        let writing = Arc::clone(&log);
        thread::spawn(move || {
            for line in stderr.lines() {
                let line = line.unwrap();
                writing.change(|log| log.extend([line.as_str(), "\n"]));
            }
        });
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        self.log.read(Clone::clone)
    }

    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) {
        self.wait_for_log_times(text, 1);
    }

    /// Waits until the text has been logged so many times.
    #[track_caller]
    pub(crate) fn wait_for_log_times(&self, text: &str, times: usize) {
        self.log
            .wait_until(text, |log| log.matches(text).count() >= times);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Waits until the program waits too, with the one thread that it needs for that.
    #[track_caller]
    pub(crate) fn wait_for_rest(&self) {
        let begin = Instant::now();
        while !self.status("State").starts_with('S') || self.status("Threads") != "1" {
            assert!(begin.elapsed() < PATIENCE, "{}", self.log());
            thread::yield_now();
        }
    }

    /// A path as the program sees it, which may have a file system there that we have not.
    pub(crate) fn path_inside(&self, path: &Path) -> PathBuf {
        let root = format!("/proc/{}/root", self.child.id());
        Path::new(&root).join(path.strip_prefix("/").unwrap())
    }

    /// A line of `/proc/<pid>/status`.
    pub(crate) fn status(&self, key: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Some tests mount file systems in a namespace of their own.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
