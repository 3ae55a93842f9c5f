use std::path::Path;

use sts_core::ident::EndpointName;
use svc_runtime::{Readiness, Shutdown, Tasks};
use tempfile::TempDir;
use test_support::{TestKey, TokenBuilder};

use super::*;
use crate::capacity::{Capacity, CommonPlaces};
use crate::gauges::Gauges;
use crate::key_source::KeySetBoard;
use crate::limit::RateLimits;
use crate::metrics::Metrics;
use crate::serving::Shared;

/// How many reloads must leave nothing behind. An endpoint and a cluster come and go, and an endpoint's terms change each time.
const RELOADS: u32 = 1000;

pub(crate) fn text(directory: &Path, number: u32) -> String {
    let directory = directory.display();
    let (cluster, endpoint) = if number.is_multiple_of(2) {
        ("", "")
    } else {
        (
            "- {name: second, issuer: 'https://second.test', jwks: {file: DIR/jwks.json}}",
            "- {name: second, path: /second, audience: x, issuer: 'https://b.test', verification: jwks, clusters: [second], \
               allowAll: true, key: {file: DIR/second.pem, algorithm: ES256, create: true}}",
        )
    };
    format!(
        "
url: https://sts.test
clusters:
- {{name: first, issuer: '{issuer}', jwks: {{file: DIR/jwks.json}}}}
{cluster}
endpoints:
- {{name: first, path: /first, audience: x, issuer: 'https://a.test', verification: jwks, clusters: [first], allowAll: true,
    lifetime: {lifetime}s, key: {{file: DIR/first.pem, algorithm: ES256, create: true}}}}
{endpoint}
",
        issuer = TokenBuilder::ISSUER,
        lifetime = 900 + number % 7,
    )
    .replace("DIR", &directory.to_string())
}

/// A server that serves nothing yet.
pub(crate) fn server(tasks: &Tasks, config: Config) -> Reloading {
    let metrics = Metrics::default();
    let readiness = Readiness::new();
    let board = KeySetBoard::new(metrics.clone(), readiness.condition("key set"));
    let start = Start {
        namespace: "kube-sts".to_owned(),
        clients: None,
        readiness: None,
        shutdown: tasks.shutdown(),
        tasks: tasks.spawner(),
        metrics: metrics.clone(),
        gauges: Gauges::default(),
        ledger: None,
        board: Arc::new(board),
        places: CommonPlaces::new(),
        watched: Arc::default(),
    };
    let shared = Shared {
        capacity: Capacity::new(),
        limits: RateLimits::new(rates(&config)),
        metrics,
        gauges: start.gauges.clone(),
    };
    let running = prepare(&start, &Running::default(), &config)
        .unwrap()
        .commit();
    let serving = Serving::first(&config, &running, shared);
    Reloading {
        start,
        config,
        running,
        serving: Arc::new(ArcSwap::from_pointee(serving)),
    }
}

pub(crate) fn directory() -> TempDir {
    svc_runtime::install_crypto_provider();
    let directory = TempDir::new().unwrap();
    let jwks = TestKey::jwks(&[TestKey::rsa()]);
    std::fs::write(directory.path().join("jwks.json"), jwks).unwrap();
    directory
}

pub(crate) async fn count_settles(server: &Reloading, wanted: usize) {
    for _ in 0..1000 {
        if server.start.tasks.count() == wanted {
            return;
        }
        sleep(LOOK).await;
    }
    panic!("{} tasks, not {wanted}", server.start.tasks.count());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_reloads_leave_no_task_behind() {
    let directory = directory();
    let tasks = Tasks::new(Shutdown::new());
    let config = Config::parse(&text(directory.path(), 0)).unwrap();
    let mut server = server(&tasks, config);
    // The first key is loaded, and its cluster's key set is read again and again.
    count_settles(&server, 1).await;
    for number in 1..=RELOADS {
        server
            .reload(&text(directory.path(), number))
            .await
            .unwrap();
    }
    count_settles(&server, 1).await;
    let name = EndpointName::parse("first").unwrap();
    assert_eq!(server.running.rings.len(), 1);
    assert_eq!(*server.running.rings[0].handle.endpoint(), name);
}

#[tokio::test(start_paused = true)]
async fn what_was_set_up_for_a_refused_configuration_ends() {
    let directory = directory();
    let tasks = Tasks::new(Shutdown::new());
    let config = Config::parse(&text(directory.path(), 0)).unwrap();
    let mut server = server(&tasks, config);
    count_settles(&server, 1).await;
    let before = server.serving.load_full();
    let missing = text(directory.path(), 1).replace(
        "'https://second.test', jwks: {file: ",
        "'https://second.test', jwks: {file: /missing",
    );
    for _ in 0..3 {
        let refusal = server.reload(&missing).await.unwrap_err();
        assert_eq!(refusal.cause, Cause::NotWhole);
        assert!(
            refusal.problems.contains("key set of cluster second"),
            "{}",
            refusal.problems
        );
    }
    count_settles(&server, 1).await;
    assert!(Arc::ptr_eq(&before, &server.serving.load_full()));
}
