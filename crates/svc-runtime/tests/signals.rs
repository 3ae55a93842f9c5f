//! What signals do to a process. Alone in its binary, because a signal reaches every test of one.

use std::convert::Infallible;
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use svc_runtime::{DrainTiming, Readiness, Shutdown, Tasks, TasksError};
use tokio::task::yield_now;
use tokio::time::timeout;

#[tokio::test]
async fn first_signal_withdraws_then_drains_and_the_second_aborts() {
    let (shutdown, readiness) = (Shutdown::new(), Readiness::new());
    readiness.condition("start").met();
    let timing = DrainTiming {
        withdraw: Duration::from_millis(400),
        drain: Duration::from_secs(60),
    };
    let tasks = Tasks::new(shutdown.clone())
        .with_readiness(readiness.clone())
        .with_timing(timing);
    tasks.spawn("stuck", std::future::pending::<Result<(), Infallible>>());

    let operator = async {
        assert!(readiness.is_ready());
        raise(Signal::SIGTERM).unwrap();
        let withdrawn = async {
            while readiness.is_ready() {
                yield_now().await;
            }
        };
        let withdrawn = timeout(Duration::from_secs(10), withdrawn).await;
        withdrawn.expect("endpoints are withdrawn first");
        assert!(
            !shutdown.is_requested(),
            "while connections are still taken"
        );
        shutdown.requested().await;
        raise(Signal::SIGINT).unwrap();
    };
    let (outcome, ()) = tokio::join!(tasks.run(), operator);
    assert!(matches!(outcome, Err(TasksError::Aborted)), "{outcome:?}");
}
