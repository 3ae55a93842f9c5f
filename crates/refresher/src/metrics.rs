//! Prometheus metrics on a port of their own, for those who turn it on. Off, they cost a few counters.
//!
//! One connection after the other, each with little time: a scraper needs no more, and nobody can make us hold memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::clock::{self, WallTime};
use crate::config::{Endpoint, EndpointName};

/// What there is to count and to show. No value of a token is in it.
#[derive(Debug)]
pub struct Metrics(Mutex<BTreeMap<String, Series>>);

#[derive(Debug, Default)]
struct Series {
    /// By the code of the failure, or [`WRITTEN`].
    tries: BTreeMap<&'static str, u64>,
    expires: Option<WallTime>,
    next_try: Option<WallTime>,
}

impl Metrics {
    /// Metrics that know these endpoints, so that each is shown from the start.
    pub fn new(endpoints: &[Endpoint]) -> Self {
        let series = |endpoint: &Endpoint| {
            let mut series = Series::default();
            series.tries.insert(WRITTEN, 0);
            (endpoint.name.to_string(), series)
        };
        Self(Mutex::new(endpoints.iter().map(series).collect()))
    }

    /// A token was in the file at the start, or none.
    pub fn record_found(&self, name: &EndpointName, expires: Option<WallTime>) {
        self.change(name, |series| series.expires = expires);
    }

    /// A new token is in the file.
    pub fn record_success(
        &self,
        name: &EndpointName,
        expires: Option<WallTime>,
        rest: Option<Duration>,
    ) {
        self.change(name, |series| {
            *series.tries.entry(WRITTEN).or_default() += 1;
            series.expires = expires;
            series.next_try = rest.map(|rest| clock::now().plus(rest));
        });
    }

    /// There is no new token.
    pub fn record_failure(&self, name: &EndpointName, code: &'static str, delay: Option<Duration>) {
        self.change(name, |series| {
            *series.tries.entry(code).or_default() += 1;
            series.next_try = delay.map(|delay| clock::now().plus(delay));
        });
    }

    /// As Prometheus reads it.
    ///
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
    pub fn render(&self) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        begin(
            &mut text,
            "sts_refresher_tries_total",
            "counter",
            "Tries to get a token: written, or the code of the failure.",
        );
        for (endpoint, series) in &*all {
            for (result, count) in &series.tries {
                let labels = format!("endpoint=\"{endpoint}\",result=\"{result}\"");
                line(&mut text, "sts_refresher_tries_total", &labels, *count);
            }
        }
        for (name, help, value) in GAUGES {
            begin(&mut text, name, "gauge", help);
            for (endpoint, series) in &*all {
                if let Some(instant) = value(series) {
                    let labels = format!("endpoint=\"{endpoint}\"");
                    line(&mut text, name, &labels, instant.unix_seconds());
                }
            }
        }
        text
    }

    /// Answers `GET /metrics`, for ever.
    pub(crate) async fn serve(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                // Who goes away or is too slow has itself to blame.
                Ok((stream, _)) => drop(timeout(PATIENCE, self.answer(stream)).await),
                // Out of file descriptors, say: not to be met by spinning.
                Err(_) => sleep(PATIENCE).await,
            }
        }
    }

    async fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let request = read_head(&mut stream).await?;
        let (status, body) = if request.starts_with(b"GET /metrics HTTP/1.")
            || request.starts_with(b"GET /metrics?")
        {
            ("200 OK", self.render())
        } else {
            ("404 Not Found", "GET /metrics\n".to_owned())
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.shutdown().await
    }

    fn change(&self, name: &EndpointName, change: impl FnOnce(&mut Series)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = all.get_mut(name.as_str()) {
            change(series);
        }
    }
}

/// The request line and the headers; what is longer than a scraper's is not read further.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = [0; 512];
    while head.len() < MAX_HEAD && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend(buffer.iter().take(count));
    }
    Ok(head)
}

fn begin(text: &mut String, name: &str, kind: &str, help: &str) {
    text.extend(["# HELP ", name, " ", help, "\n"]);
    text.extend(["# TYPE ", name, " ", kind, "\n"]);
}

fn line(text: &mut String, name: &str, labels: &str, value: u64) {
    text.extend([name, "{", labels, "} ", &value.to_string(), "\n"]);
}

type Gauge = (&'static str, &'static str, fn(&Series) -> Option<WallTime>);

const GAUGES: [Gauge; 2] = [
    (
        "sts_refresher_token_expiry_timestamp_seconds",
        "When the token in the file ends; absent while there is none.",
        |series| series.expires,
    ),
    (
        "sts_refresher_next_try_timestamp_seconds",
        "When the next exchange is due.",
        |series| series.next_try,
    ),
];

const WRITTEN: &str = "written";

/// For a whole request, and after a failure to accept one.
const PATIENCE: Duration = Duration::from_secs(2);

const MAX_HEAD: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_every_endpoint_and_every_result() {
        let endpoints = [
            "aws=https://sts/".parse().unwrap(),
            "gcp=https://sts/".parse().unwrap(),
        ];
        let metrics = Metrics::new(&endpoints);
        let name = "aws".parse().unwrap();
        let expires = WallTime::from_unix_seconds(1900);
        metrics.record_success(&name, Some(expires), None);
        metrics.record_failure(&name, "refused", None);
        metrics.record_failure(&name, "refused", None);
        assert_eq!(
            metrics.render(),
            "# HELP sts_refresher_tries_total Tries to get a token: written, or the code of the failure.\n\
             # TYPE sts_refresher_tries_total counter\n\
             sts_refresher_tries_total{endpoint=\"aws\",result=\"refused\"} 2\n\
             sts_refresher_tries_total{endpoint=\"aws\",result=\"written\"} 1\n\
             sts_refresher_tries_total{endpoint=\"gcp\",result=\"written\"} 0\n\
             # HELP sts_refresher_token_expiry_timestamp_seconds When the token in the file ends; absent while there is none.\n\
             # TYPE sts_refresher_token_expiry_timestamp_seconds gauge\n\
             sts_refresher_token_expiry_timestamp_seconds{endpoint=\"aws\"} 1900\n\
             # HELP sts_refresher_next_try_timestamp_seconds When the next exchange is due.\n\
             # TYPE sts_refresher_next_try_timestamp_seconds gauge\n"
        );
    }
}
