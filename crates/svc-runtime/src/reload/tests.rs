use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::text::encode;
use tempfile::TempDir;
use tokio::time::sleep;

use super::*;

/// Takes over what begins with `good`; waits for ever with what begins with `slow`.
#[derive(Clone, Default)]
struct Program(Arc<Mutex<Vec<String>>>);

impl Reload for Program {
    async fn reload(&mut self, text: &str) -> Result<(), Refusal> {
        self.0.lock().unwrap().push(text.to_owned());
        if text.starts_with("slow") {
            pending::<()>().await;
        }
        match text {
            "not whole" => Err(refusal(Cause::NotWhole, "key is missing")),
            _ if text.starts_with("good") => Ok(()),
            _ => Err(refusal(Cause::Invalid, "line 1 is wrong")),
        }
    }
}

struct Setup {
    program: Program,
    registry: Registry,
    path: PathBuf,
    shutdown: Shutdown,
    _folder: TempDir,
}

impl Setup {
    fn new() -> (Self, impl Future<Output = Result<(), Infallible>>) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, "good").unwrap();
        let mut registry = Registry::default();
        let metrics = ReloadMetrics::register(&mut registry, "test", "good");
        let (program, shutdown) = (Program::default(), Shutdown::new());
        let look = Duration::from_millis(5);
        let following = follow_configuration(
            FileChanges::after(&path, look, b"good".to_vec()),
            program.clone(),
            Report::new(metrics, None),
            shutdown.clone(),
        );
        let setup = Self {
            program,
            registry,
            path,
            shutdown,
            _folder: folder,
        };
        (setup, following)
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
    }

    async fn shows(&self, line: &str) {
        for _ in 0..2000 {
            let mut text = String::new();
            encode(&mut text, &self.registry).unwrap();
            if text.lines().any(|shown| shown.starts_with(line)) {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("metrics never show {line}");
    }
}

#[tokio::test]
async fn each_change_is_tried_once_and_counted() {
    let (setup, following) = Setup::new();
    let changes = async {
        setup.shows("test_config_last_reload_successful 1").await;
        setup.write("bad");
        setup
            .shows("test_config_reloads_total{outcome=\"invalid\"} 1")
            .await;
        setup.shows("test_config_last_reload_successful 0").await;
        // It is what was in use all the time: now the file says so again.
        setup.write("good");
        setup
            .shows("test_config_reloads_total{outcome=\"reloaded\"} 1")
            .await;
        setup.shows("test_config_last_reload_successful 1").await;
        std::fs::remove_file(&setup.path).unwrap();
        setup
            .shows("test_config_reloads_total{outcome=\"unreadable\"} 1")
            .await;
        setup.shutdown.request();
    };
    let (ended, ()) = tokio::join!(following, changes);
    ended.unwrap();
    assert_eq!(*setup.program.0.lock().unwrap(), ["bad", "good"]);
}

#[tokio::test]
async fn a_change_ends_the_attempt_at_the_one_before() {
    let (setup, following) = Setup::new();
    let changes = async {
        setup.write("slow");
        while setup.program.0.lock().unwrap().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        setup.write("good again");
        setup
            .shows("test_config_reloads_total{outcome=\"reloaded\"} 1")
            .await;
        setup.shutdown.request();
    };
    let (ended, ()) = tokio::join!(following, changes);
    ended.unwrap();
    assert_eq!(*setup.program.0.lock().unwrap(), ["slow", "good again"]);
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again() {
    let (setup, following) = Setup::new();
    let changes = async {
        setup.write("not whole");
        setup
            .shows("test_config_reloads_total{outcome=\"not_whole\"} 1")
            .await;
        sleep(RETRY * 2).await;
        setup.shutdown.request();
    };
    let (ended, ()) = tokio::join!(following, changes);
    ended.unwrap();
    assert!(setup.program.0.lock().unwrap().len() >= 2);
}
