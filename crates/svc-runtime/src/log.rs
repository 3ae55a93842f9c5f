//! Logs: one line per event on stdout, UTC times, JSON in a cluster and text at a desk.

use std::error::Error;
use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, ParseError};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How a log line looks. Written in lower case on the command line: `json` or `text`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line; the event's fields are at its top level.
    #[default]
    Json,
    /// For people; coloured when stdout is a terminal.
    Text,
}

impl FromStr for LogFormat {
    type Err = UnsupportedLogFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(UnsupportedLogFormat {
                found: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

/// The name of a log format was neither `json` nor `text`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unsupported log format {found:?}: use json or text")]
pub struct UnsupportedLogFormat {
    /// What was written instead.
    pub found: String,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not in the syntax of `tracing_subscriber::EnvFilter`.
    #[error("log filter {filter:?} cannot be read")]
    Filter {
        /// The filter as given.
        filter: String,
        /// Where it fails.
        source: ParseError,
    },
    /// This process already has a subscriber.
    #[error("logging is already set up")]
    Installed(#[source] TryInitError),
}

/// Sends logs to stdout from now on. `filter` is in env-filter syntax, for example `info,svc_runtime=debug`.
///
/// # Errors
///
/// [`LogError::Filter`] for a filter that cannot be read, [`LogError::Installed`] on a second call.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let filter = parse_filter(filter)?;
    let base = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        LogFormat::Json => base.json().flatten_event(true).finish().try_init(),
        LogFormat::Text => base
            .with_ansi(std::io::stdout().is_terminal())
            .finish()
            .try_init(),
    }
    .map_err(LogError::Installed)
}

/// An error with its sources, as one line: `outer: inner: innermost`. Our errors do not repeat their source in their own text.
pub fn chain(error: &(dyn Error + 'static)) -> impl fmt::Display {
    let mut line = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if !line.is_empty() {
            line.push_str(": ");
        }
        if let Some(refusal) = api_refusal(error) {
            line.push_str(&refusal);
            break;
        }
        line.push_str(&error.to_string());
        next = error.source();
    }
    line
}

/// What the API server said, if it is that which failed: kube's own text repeats it as a dump of the whole object.
fn api_refusal(error: &(dyn Error + 'static)) -> Option<String> {
    let boxed = || error.downcast_ref::<Box<kube::Error>>().map(Box::as_ref);
    let kube::Error::Api(status) = error.downcast_ref::<kube::Error>().or_else(boxed)? else {
        return None;
    };
    Some(format!("API server: {} ({})", status.message, status.code))
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
    let unreadable = |source| LogError::Filter {
        filter: filter.to_owned(),
        source,
    };
    let parsed = EnvFilter::builder().parse(filter).map_err(unreadable)?;
    let cap: Directive = KUBE_CLIENT_CAP.parse().map_err(unreadable)?;
    Ok(parsed.add_directive(cap))
}

/// kube-client 5 writes the whole body of an answer it cannot parse into a warning, and such a body can be a Secret or a review that
/// holds a token. No filter may switch that on.
const KUBE_CLIENT_CAP: &str = "kube_client::client=error";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_formats_are_lower_case_and_round_trip() {
        for format in [LogFormat::Json, LogFormat::Text] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("JSON".parse::<LogFormat>().is_err());
    }

    #[test]
    fn filter_cannot_make_kube_client_print_bodies() {
        let filter = parse_filter("trace,kube_client::client=trace")
            .unwrap()
            .to_string();
        assert!(filter.contains("kube_client::client=error"), "{filter}");
        assert!(!filter.contains("kube_client::client=trace"), "{filter}");
    }

    #[test]
    fn chain_says_what_the_api_server_said_once() {
        let status =
            kube::core::Status::failure("secrets is forbidden", "Forbidden").with_code(403);
        let inner = Box::new(kube::Error::Api(Box::new(status)));
        let error = crate::tls::SecretError::Read(inner);
        let expected = "the Secret cannot be read: API server: secrets is forbidden (403)";
        assert_eq!(chain(&error).to_string(), expected);
    }

    #[test]
    fn refuses_a_filter_it_cannot_read() {
        assert!(matches!(
            parse_filter("info,a=b=c"),
            Err(LogError::Filter { .. })
        ));
    }
}
