//! `cargo xtask bench exchange`: what an exchange costs the server, in each mode, against the real API server.
//!
//! The server has core 0 for itself; this process, and with it the API server, has core 1. Clients are a closed loop over HTTPS with
//! connections that stay. Beside each figure stands the ceiling of the same run: the crypto library alone, on one thread. In the end each
//! aim is judged.

mod aims;
mod ceiling;
mod load;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::install::{Install, SECOND_KEY, Variant};
use super::process::Process;
use super::wait::eventually;
use aims::Aims;
use ceiling::Ceiling;
use load::{Load, Loop};

/// How many requests are open at once.
const OPEN: usize = 16;
/// Pods of the small cluster.
const FEW_PODS: usize = 10;
/// The algorithms that tokens are signed with, and their places.
const ALGORITHMS: [&str; 2] = ["RS256", "ES256"];
const RS256: usize = 0;
const ES256: usize = 1;
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

/// What is measured against, and what came of it.
struct Run {
    install: Arc<Install>,
    aims: Aims,
    /// RS256's and ES256's.
    ceilings: [Ceiling; 2],
    /// The server's CPU time for a request that asks for next to nothing, in microseconds.
    https: f64,
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
    let tokens = load::many_tokens(&install, FEW_PODS).await;
    let mut aims = Aims::default();
    let idle = start(&install, "jwks", "ES256", 1).await;
    aims.at_most("memory, idle", idle.resident_mib(), 20.0, "MiB", "");
    let documents = Loop::of_documents(&install, &idle, "/aws/certs").await;
    let https = measure(&documents).await.cpu_micros;
    drop(documents);
    drop(idle);
    let ceilings = ALGORITHMS.map(|algorithm| Ceiling::measure(&tokens[0], algorithm));
    let mut run = Run {
        install,
        aims,
        ceilings,
        https,
    };
    heads();
    for (algorithm, ceiling) in ALGORITHMS.iter().zip(&run.ceilings) {
        say(&format!(
            "| ceiling: verify RS256, sign {algorithm} | {:.0} | 100 % | {:.0} µs | | | |",
            ceiling.per_second(),
            ceiling.micros()
        ));
    }
    let few = run.modes(&tokens).await;
    run.many_endpoints(&tokens, &few.jwks).await;
    let wrong = run.many_pods(pods, &few.watch).await;
    say(&format!("\n{}", run.aims.table()));
    assert_eq!(wrong, 0, "answers that are neither a token nor later");
}

/// What the others are compared with: ES256 with one endpoint and few pods.
struct Few {
    jwks: Load,
    watch: Load,
}

impl Run {
    /// Each mode with each algorithm.
    async fn modes(&mut self, tokens: &[String]) -> Few {
        let jwks = self.mode("jwks", tokens, None).await;
        let watch = self.mode("watch", tokens, Some(&jwks)).await;
        self.mode("tokenReview", tokens, Some(&jwks)).await;
        let ([_, jwks], [_, watch]) = (jwks, watch);
        Few { jwks, watch }
    }

    /// One mode with each algorithm; `offline` is what it costs to ask nobody.
    async fn mode(
        &mut self,
        mode: &str,
        tokens: &[String],
        offline: Option<&[Load; 2]>,
    ) -> [Load; 2] {
        let mut loads = Vec::new();
        for (index, algorithm) in ALGORITHMS.iter().enumerate() {
            let server = start(&self.install, mode, algorithm, 1).await;
            let load = measure(&Loop::new(&self.install, &server, tokens).await).await;
            let name = format!("{mode}, {algorithm}");
            self.row(&name, &load, index);
            let spent = self.spent(&load, index, offline.map(|loads| &loads[index]));
            let ceiling = self.ceilings[index].per_second();
            let aims = &mut self.aims;
            if index == RS256 {
                let part = 100.0 * load.capacity() / ceiling;
                aims.at_least(&format!("{name}: of the ceiling"), part, 70.0, "%", &spent);
            } else {
                let name = format!("{name}: exchanges on one core");
                aims.at_least(&name, load.capacity(), 8000.0, "/s", &spent);
            }
            loads.push(load);
        }
        loads
            .try_into()
            .unwrap_or_else(|_| unreachable!("one for each algorithm"))
    }

    async fn many_endpoints(&mut self, tokens: &[String], one: &Load) {
        let server = start(&self.install, "jwks", "ES256", 100).await;
        let load = measure(&Loop::new(&self.install, &server, tokens).await).await;
        self.row("jwks, ES256, 100 endpoints", &load, ES256);
        let ratio = load.cpu_micros / one.cpu_micros;
        let what = "100 endpoints: CPU against 1";
        self.aims.at_most(what, ratio, 1.1, "times", "");
    }

    /// The same with many pods, and the herd of their first exchanges; how many of these got a wrong answer.
    async fn many_pods(&mut self, pods: usize, few: &Load) -> usize {
        let begin = Instant::now();
        let install = Arc::clone(&self.install);
        let tokens = load::many_tokens(&install, pods).await;
        say(&format!(
            "\n{pods} pods and tokens were made in {:.0} s.\n",
            begin.elapsed().as_secs_f64()
        ));
        let server = start(&install, "watch", "ES256", 1).await;
        are_listed(&server, pods).await;
        heads();
        let load = measure(&Loop::new(&install, &server, &tokens).await).await;
        self.row(&format!("watch, ES256, {pods} pods"), &load, ES256);
        drop(server);
        let ratio = load.cpu_micros / few.cpu_micros;
        let what = format!("{pods} pods: CPU against {FEW_PODS}");
        self.aims.at_most(&what, ratio, 1.1, "times", "");
        let what = format!("memory, watching {pods} pods");
        self.aims.at_most(&what, load.resident_mib, 64.0, "MiB", "");
        let server = start(&install, "tokenReview", "RS256", 1).await;
        let herd = load::herd(&install, &server, tokens).await;
        let took = herd.took.as_secs_f64();
        say(&format!(
            "\nherd: {} first exchanges in tokenReview mode in {took:.1} s, {} of them after {} answers of 429 or 503; other answers: {}",
            herd.served, herd.retried, herd.later, herd.wrong
        ));
        let what = format!("{} first exchanges in tokenReview mode", herd.served);
        self.aims.at_most(&what, took, 30.0, "s", "");
        herd.wrong
    }

    fn row(&self, name: &str, load: &Load, ceiling: usize) {
        say(&format!(
            "| {name} | {:.0} | {:.0}/s, {:.0} % of the ceiling | {:.0} µs | {:.2} ms | {:.2} ms | {:.1} MiB |",
            load.per_second,
            load.capacity(),
            100.0 * load.capacity() / self.ceilings[ceiling].per_second(),
            load.cpu_micros,
            load.p50.as_secs_f64() * 1e3,
            load.p99.as_secs_f64() * 1e3,
            load.resident_mib
        ));
    }

    /// What the CPU time of one exchange goes to. What asking costs is the difference to a mode that asks nobody.
    fn spent(&self, load: &Load, ceiling: usize, offline: Option<&Load>) -> String {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let Ceiling { verify, sign } = &self.ceilings[ceiling];
        let (verify, sign) = (micros(*verify), micros(*sign));
        let asking = offline.map_or(0.0, |offline| load.cpu_micros - offline.cpu_micros);
        let rest = load.cpu_micros - verify - sign - self.https - asking;
        format!(
            "of {:.0} µs: verify {verify:.0}, sign {sign:.0}, HTTPS {:.0}, liveness {asking:.0}, claims, audit line and the rest {rest:.0}",
            load.cpu_micros, self.https
        )
    }
}

/// Waits until the watch has all pods.
async fn are_listed(server: &Process, pods: usize) {
    eventually("all pods listed", async || {
        let metrics = server.metrics().await;
        let line = metrics.lines().find(|line| {
            line.starts_with("sts_watched_objects") && line.contains("kind=\"pods\"")
        })?;
        let count: usize = line.rsplit(' ').next()?.parse().ok()?;
        (count >= pods).then_some(())
    })
    .await;
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

async fn measure(of: &Loop<'_>) -> Load {
    of.run(OPEN, WARM_UP).await;
    of.run(OPEN, MEASURED).await
}

fn heads() {
    say("| measurement | exchanges/s | CPU for one core | server CPU | p50 | p99 | RSS |");
    say("|---|---|---|---|---|---|---|");
}

#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn say(line: &str) {
    println!("{line}");
}
