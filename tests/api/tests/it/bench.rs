//! `cargo xtask bench exchange`: what an exchange costs the server, in each mode, against the real API server.
//!
//! The server has core 0 for itself; this process, and with it the API server, has core 1. Clients are a closed loop over HTTPS with
//! connections that stay. Beside each figure stands the ceiling of the same run: the crypto library alone, on one thread.

mod ceiling;
mod load;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::install::{Install, SECOND_KEY, Variant};
use super::process::Process;
use super::wait::eventually;
use ceiling::Ceiling;
use load::{Load, Loop};

/// How many requests are open at once.
const OPEN: usize = 16;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(4);

/// What the command line says.
struct Options {
    /// Pods of the large cluster, and first exchanges of the herd.
    pods: usize,
}

impl Options {
    #[expect(
        clippy::disallowed_methods,
        reason = "the environment is how `cargo xtask bench exchange` says it"
    )]
    fn read() -> Self {
        let pods = std::env::var("KUBE_STS_BENCH_PODS").ok();
        let pods = pods.and_then(|pods| pods.parse().ok());
        Self {
            pods: pods.unwrap_or(10_000),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo xtask bench exchange"]
async fn exchange() {
    let Options { pods } = Options::read();
    let variant = Variant {
        presence: &["list", "watch"],
        ..Variant::default()
    };
    let install = Arc::new(Install::variant(variant).await);
    let (_, token) = install.good_token().await;
    let idle = start(&install, "jwks", "ES256", 1).await;
    say(&format!("\nidle: {:.1} MiB\n", idle.resident_mib()));
    drop(idle);
    heads();
    let mut ceilings = Vec::new();
    for algorithm in ["RS256", "ES256"] {
        let ceiling = Ceiling::measure(&token, algorithm);
        say(&format!(
            "| ceiling: verify RS256, sign {algorithm} | {:.0} | 100 % | {:.0} µs | | | |",
            ceiling.per_second(),
            ceiling.micros()
        ));
        ceilings.push(ceiling);
    }
    for mode in ["jwks", "watch", "tokenReview"] {
        for (algorithm, ceiling) in ["RS256", "ES256"].iter().zip(&ceilings) {
            let server = start(&install, mode, algorithm, 1).await;
            let load = measure(&install, &server, std::slice::from_ref(&token)).await;
            row(&format!("{mode}, {algorithm}"), &load, ceiling);
        }
    }
    let many = start(&install, "jwks", "ES256", 100).await;
    let load = measure(&install, &many, std::slice::from_ref(&token)).await;
    row("jwks, ES256, 100 endpoints", &load, &ceilings[1]);
    drop(many);
    large(&install, pods, &ceilings[1]).await;
}

/// The same with many pods, and the herd of their first exchanges.
async fn large(install: &Arc<Install>, pods: usize, ceiling: &Ceiling) {
    let begin = Instant::now();
    let tokens = load::many_tokens(install, pods).await;
    say(&format!(
        "\n{pods} pods and tokens were made in {:.0} s.\n",
        begin.elapsed().as_secs_f64()
    ));
    let server = start(install, "watch", "ES256", 1).await;
    let listed = eventually("all pods listed", async || {
        let metrics = server.metrics().await;
        let line = metrics.lines().find(|line| {
            line.starts_with("sts_watched_objects") && line.contains("kind=\"pods\"")
        })?;
        let count: usize = line.rsplit(' ').next()?.parse().ok()?;
        (count > pods).then_some(())
    });
    listed.await;
    heads();
    let load = measure(install, &server, &tokens).await;
    row(&format!("watch, ES256, {pods} pods"), &load, ceiling);
    drop(server);
    let server = start(install, "tokenReview", "RS256", 1).await;
    let herd = load::herd(install, &server, tokens).await;
    say(&format!(
        "\nherd: {} first exchanges in tokenReview mode in {:.1} s, {} of them after {} answers of 429 or 503; other answers: {}",
        herd.served,
        herd.took.as_secs_f64(),
        herd.retried,
        herd.later,
        herd.wrong
    ));
    assert_eq!(herd.wrong, 0, "answers that are neither a token nor later");
}

/// A server with that many endpoints, of which the first is used.
async fn start(install: &Install, mode: &str, algorithm: &str, endpoints: usize) -> Process {
    let mut server = Process::server_with(install, |config| {
        let first = &mut config["endpoints"][0];
        first["verification"] = json!(mode);
        first["key"]["algorithm"] = json!(algorithm);
        // The Secret holds an RSA key from the first start on.
        if algorithm == "ES256" {
            first["key"]["secret"] = json!(SECOND_KEY);
        }
        let template = first.clone();
        let all = config["endpoints"].as_array_mut().unwrap();
        all.extend((1..endpoints).map(|index| another(&template, index, install)));
    });
    server.becomes_ready().await;
    server
}

fn another(template: &Value, index: usize, install: &Install) -> Value {
    let mut endpoint = template.clone();
    endpoint["name"] = json!(format!("e{index}"));
    endpoint["path"] = json!(format!("/e{index}"));
    endpoint["issuer"] = json!(format!("https://issuer.example.com/{index}"));
    let key = install
        .kubeconfig("server")
        .with_file_name(format!("key-{index}.pem"));
    endpoint["key"] = json!({"file": key, "algorithm": "ES256", "create": true});
    endpoint.as_object_mut().unwrap().remove("injector");
    endpoint
}

async fn measure(install: &Install, server: &Process, tokens: &[String]) -> Load {
    let of = Loop::new(install, server, tokens).await;
    of.run(OPEN, WARM_UP).await;
    of.run(OPEN, MEASURED).await
}

fn heads() {
    say("| measurement | exchanges/s | CPU for one core | server CPU | p50 | p99 | RSS |");
    say("|---|---|---|---|---|---|---|");
}

fn row(name: &str, load: &Load, ceiling: &Ceiling) {
    let capacity = 1e6 / load.cpu_micros;
    say(&format!(
        "| {name} | {:.0} | {:.0}/s, {:.0} % of the ceiling | {:.0} µs | {:.2} ms | {:.2} ms | {:.1} MiB |",
        load.per_second,
        capacity,
        100.0 * capacity / ceiling.per_second(),
        load.cpu_micros,
        load.p50.as_secs_f64() * 1e3,
        load.p99.as_secs_f64() * 1e3,
        load.resident_mib
    ));
}

#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn say(line: &str) {
    println!("{line}");
}
