//! `run` and `once`: a keeper (`keeper.rs`) for each endpoint.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::select;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::{OnceSettings, RunSettings};
use crate::keeper::{Keeper, Outcome};
use crate::metrics::Metrics;

/// Keeps every endpoint's token fresh. Ends only if there is a fault in this program.
pub async fn run(settings: RunSettings) -> ExitCode {
    let RunSettings {
        exchange,
        metrics_listen,
    } = settings;
    let log = exchange.tokens.log;
    let metrics = Arc::new(Metrics::new(&exchange.tokens.endpoints));
    let mut endpoints = JoinSet::new();
    for keeper in Keeper::for_each_endpoint(exchange, &metrics) {
        keeper.tidy_up();
        endpoints.spawn(keeper.keep_fresh());
    }
    let serve = async {
        if let Some(address) = metrics_listen {
            match TcpListener::bind(address).await {
                Ok(listener) => metrics.serve(&listener).await,
                // The port may be the application's; its token matters more.
                Err(error) => drop(log.fatal(&format!("no metrics on {address}"), &error)),
            }
        }
        std::future::pending::<()>().await;
    };
    let ended = select! {
        ended = endpoints.join_next() => ended,
        () = serve => None,
    };
    match ended {
        Some(Err(error)) => log.fatal("an endpoint's task has ended", &error),
        Some(Ok(())) | None => ExitCode::FAILURE,
    }
}

/// Gets every endpoint's token once, within the time.
pub async fn once(settings: OnceSettings) -> ExitCode {
    let OnceSettings { exchange, timeout } = settings;
    let log = exchange.tokens.log;
    let end = Instant::now() + timeout;
    let metrics = Arc::new(Metrics::new(&exchange.tokens.endpoints));
    let mut endpoints = JoinSet::new();
    for keeper in Keeper::for_each_endpoint(exchange, &metrics) {
        endpoints.spawn(keeper.get_once(end));
    }
    let mut status = ExitCode::SUCCESS;
    while let Some(ended) = endpoints.join_next().await {
        match ended {
            Ok(Outcome::Written) => {}
            Ok(Outcome::GaveUp) => status = ExitCode::FAILURE,
            Err(error) => status = log.fatal("an endpoint's task has ended", &error),
        }
    }
    status
}
