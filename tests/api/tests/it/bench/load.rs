//! Clients in a closed loop, and the herd.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use reqwest::{Client, RequestBuilder};
use tokio::time::{Instant, sleep};

use super::super::install::Install;
use super::super::process::Process;

/// What was measured.
pub(super) struct Load {
    pub(super) per_second: f64,
    /// The server's CPU time for one exchange.
    pub(super) cpu_micros: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) resident_mib: f64,
}

impl Load {
    /// How many a second the CPU time of one core is enough for.
    pub(super) fn capacity(&self) -> f64 {
        1e6 / self.cpu_micros
    }
}

/// Clients that ask one server again and again.
pub(super) struct Loop<'a> {
    client: Client,
    url: String,
    /// None: what is asked for is the document at `url`.
    tokens: &'a [String],
    server: &'a Process,
}

impl<'a> Loop<'a> {
    pub(super) async fn new(install: &Install, server: &'a Process, tokens: &'a [String]) -> Self {
        Self {
            tokens,
            ..Self::of_documents(install, server, "/aws/token").await
        }
    }

    /// That ask for a document which costs nothing to make: what is left is HTTPS.
    pub(super) async fn of_documents(install: &Install, server: &'a Process, path: &str) -> Self {
        Self {
            client: server.client(install).await,
            url: server.url(install, path),
            tokens: &[],
            server,
        }
    }

    fn request(&self, number: usize) -> RequestBuilder {
        match number.checked_rem(self.tokens.len()) {
            Some(index) => self.client.post(&self.url).bearer_auth(&self.tokens[index]),
            None => self.client.get(&self.url),
        }
    }

    /// Keeps `open` requests open for a time. Every answer must be a token, or the document.
    pub(super) async fn run(&self, open: usize, time: Duration) -> Load {
        let next = AtomicUsize::new(0);
        let (begin, cpu) = (Instant::now(), self.server.cpu());
        let one = async |_: usize| {
            let mut waits = Vec::new();
            while begin.elapsed() < time {
                let request = self.request(next.fetch_add(1, Ordering::Relaxed));
                let asked = Instant::now();
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), 200);
                drop(answer.bytes().await.unwrap());
                waits.push(asked.elapsed());
            }
            waits
        };
        let waits = futures_util::future::join_all((0..open).map(one)).await;
        let (took, cpu) = (begin.elapsed(), self.server.cpu().saturating_sub(cpu));
        let mut waits = waits.concat();
        waits.sort_unstable();
        let count = u32::try_from(waits.len()).unwrap();
        Load {
            per_second: f64::from(count) / took.as_secs_f64(),
            cpu_micros: cpu.as_secs_f64() * 1e6 / f64::from(count),
            p50: waits[waits.len() / 2],
            p99: waits[waits.len() * 99 / 100],
            resident_mib: self.server.resident_mib(),
        }
    }
}

/// Pods, each with a token of its own.
pub(super) async fn many_tokens(install: &Arc<Install>, count: usize) -> Vec<String> {
    let made = stream::iter(0..count).map(|_| async { install.good_token().await.1 });
    made.buffer_unordered(32).collect().await
}

/// How a herd fared.
pub(super) struct Herd {
    pub(super) served: usize,
    pub(super) retried: usize,
    pub(super) later: usize,
    pub(super) wrong: usize,
    pub(super) took: Duration,
}

/// Every token once, as many at once as there are connections in a node's patience; 429 and 503 are tried again.
pub(super) async fn herd(install: &Install, server: &Process, tokens: Vec<String>) -> Herd {
    const AT_ONCE: usize = 256;
    let client = server.client(install).await;
    let url = server.url(install, "/aws/token");
    let (later, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let begin = Instant::now();
    let one = async |token: String| {
        for attempt in 0_usize.. {
            let request = client.post(&url).bearer_auth(&token);
            match request.send().await.map(|answer| answer.status().as_u16()) {
                Ok(200) => return Some(attempt),
                Ok(429 | 503) => later.fetch_add(1, Ordering::Relaxed),
                Ok(_) | Err(_) => {
                    wrong.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
            };
            sleep(Duration::from_millis(500)).await;
        }
        None
    };
    let outcomes = stream::iter(tokens).map(one).buffer_unordered(AT_ONCE);
    let outcomes: Vec<Option<usize>> = outcomes.collect().await;
    let served = outcomes.iter().flatten();
    Herd {
        served: served.clone().count(),
        retried: served.filter(|attempt| **attempt > 0).count(),
        later: later.into_inner(),
        wrong: wrong.into_inner(),
        took: begin.elapsed(),
    }
}
