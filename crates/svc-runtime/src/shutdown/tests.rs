use std::convert::Infallible;

use super::*;

const QUICK: DrainTiming = DrainTiming {
    withdraw: Duration::from_millis(50),
    drain: Duration::from_millis(200),
};

/// A task that ends as it should: when shutdown is requested.
async fn obedient(shutdown: Shutdown) -> Result<(), Infallible> {
    shutdown.requested().await;
    Ok(())
}

fn tasks() -> (Shutdown, Tasks) {
    let shutdown = Shutdown::new();
    (shutdown.clone(), Tasks::new(shutdown).with_timing(QUICK))
}

#[tokio::test]
async fn failing_task_ends_the_others_and_is_named() {
    let (shutdown, tasks) = tasks();
    tasks.spawn("obedient", obedient(shutdown.clone()));
    tasks.spawn("broken", async { Err(io::Error::other("disk")) });
    let error = tasks.run().await.unwrap_err();
    assert_eq!(error.to_string(), "task broken failed");
    assert!(shutdown.is_requested());
}

#[tokio::test]
async fn panicking_task_ends_the_process() {
    let (shutdown, tasks) = tasks();
    tasks.spawn("obedient", obedient(shutdown));
    tasks.spawn("broken", async {
        if true {
            panic!("bug")
        } else {
            Ok::<(), Infallible>(())
        }
    });
    assert!(matches!(
        tasks.run().await,
        Err(TasksError::Panicked { name: "broken" })
    ));
}

#[tokio::test]
async fn task_that_is_simply_done_ends_nothing() {
    let (shutdown, tasks) = tasks();
    tasks.spawn("once", async { Ok::<(), Infallible>(()) });
    tasks.spawn("obedient", obedient(shutdown.clone()));
    let asked = async {
        sleep(Duration::from_millis(20)).await;
        assert!(!shutdown.is_requested());
        shutdown.request();
    };
    let (outcome, ()) = tokio::join!(tasks.run(), asked);
    outcome.unwrap();
}

#[tokio::test]
async fn task_that_does_not_end_is_named() {
    let (shutdown, tasks) = tasks();
    tasks.spawn("stuck", std::future::pending::<Result<(), Infallible>>());
    shutdown.request();
    match tasks.run().await {
        Err(TasksError::Unfinished { names }) => assert_eq!(names, ["stuck"]),
        other => panic!("{other:?}"),
    }
}
