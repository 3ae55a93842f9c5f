//! The command line and the environment as clap reads them; [`super`] makes checked settings of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::{ConfigError, Endpoint};
use crate::log::Format;

/// Keeps a fresh token of the STS in a file, for the pod it runs in.
///
/// Each endpoint's subject token is read from <SUBJECT_TOKEN_DIR>/<NAME>, exchanged at its URL, and the token that
/// comes back is put in <TOKEN_DIR>/<NAME>/token, as a whole or not at all.
///
/// Every setting can also be given as an environment variable, so that one environment serves all commands.
/// Ends with status 0 for success, 1 for failure, 2 for options that cannot be used.
#[derive(Debug, Parser)]
#[command(name = "refresher", version, about, long_about)]
pub(super) struct RawCli {
    #[command(subcommand)]
    pub(super) command: RawCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum RawCommand {
    /// Keep every endpoint's token fresh until SIGTERM
    ///
    /// Exchanges at once, then after a quarter to 45 hundredths of a token's life, so that half a lifetime without the STS is
    /// not felt. Never ends by itself: failures are logged and tried again after 0.2 to 60 seconds, or when the server
    /// says, but while there is a token never later than in half of what is left of it. The old token stays until there is a new one.
    Run {
        #[command(flatten)]
        tokens: RawTokens,
        #[command(flatten)]
        exchange: RawExchange,
        /// Serve Prometheus metrics at http://<ADDRESS>/metrics, e.g. 0.0.0.0:9464; off unless given
        #[arg(long, env = "STS_METRICS_LISTEN", value_name = "ADDRESS")]
        metrics_listen: Option<SocketAddr>,
    },
    /// Wait until every endpoint's token is there: the sidecar's postStart hook
    ///
    /// Ends with status 0 as soon as every token file holds a live token. If that takes too long, writes the reason to
    /// the termination message, the container's log and stderr, and ends with status 1.
    Wait {
        #[command(flatten)]
        tokens: RawTokens,
        /// How long to wait, e.g. 10s
        #[arg(long, env = "STS_WAIT_TIMEOUT", default_value = "10s", value_parser = parse_duration)]
        timeout: Duration,
        /// Where the container's log is written, since a hook's output is shown nowhere
        #[arg(long, env = "STS_CONTAINER_LOG", default_value = "/proc/1/fd/2")]
        container_log: PathBuf,
    },
    /// Exchange each endpoint once: for init containers and scripts
    ///
    /// Ends with status 0 if every token was written, with 1 if that did not work within the time.
    Once {
        #[command(flatten)]
        tokens: RawTokens,
        #[command(flatten)]
        exchange: RawExchange,
        /// How long to go on trying, e.g. 30s
        #[arg(long, env = "STS_ONCE_TIMEOUT", default_value = "30s", value_parser = parse_duration)]
        timeout: Duration,
    },
    /// Say whether every endpoint's token is there: for exec probes
    ///
    /// Ends with status 0 if every token file holds a live token, else with 1 and the reason on stderr: what a startup or
    /// readiness probe asks. With --liveness, status 1 means that `run` has left no trace for longer than it ever rests,
    /// and a restart may help; an STS that does not answer is no reason for one.
    Probe {
        #[command(flatten)]
        tokens: RawTokens,
        /// Ask instead whether `run` works, be it in vain: for liveness probes
        #[arg(long)]
        liveness: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct RawTokens {
    /// An endpoint and where it exchanges tokens, e.g. aws=https://kube-sts-server.kube-sts.svc/aws/token
    ///
    /// May be given several times, or several separated by commas.
    #[arg(
        id = "endpoint",
        long,
        env = "STS_ENDPOINTS",
        value_name = "NAME=URL",
        value_delimiter = ',',
        required = true
    )]
    pub(super) endpoints: Vec<Endpoint>,
    /// Files to put beside the tokens, as JSON: [{"endpoint": NAME, "name": FILE, "template": TEXT}, ...]
    ///
    /// Each is put in <TOKEN_DIR>/<NAME>/<FILE> like the token. In the template {token}, {tokenFile}, {expires}, {endpoint}
    /// and, where "annotation" is given too, {annotation} are replaced; other braces stay.
    #[arg(long, env = "STS_FILES", value_name = "JSON")]
    pub(super) files: Option<String>,
    /// Where tokens are put: <DIR>/<NAME>/token
    #[arg(
        long,
        env = "STS_TOKEN_DIR",
        value_name = "DIR",
        default_value = "/var/run/secrets/sts.tremolo.io/tokens"
    )]
    pub(super) token_dir: PathBuf,
    /// Where Kubernetes looks for a container's last words
    ///
    /// `wait` writes the reason there when it gives up, `run` and `once` where they cannot leave it in <TOKEN_DIR>.
    #[arg(
        long,
        env = "STS_TERMINATION_LOG",
        value_name = "FILE",
        default_value = "/dev/termination-log"
    )]
    pub(super) termination_log: PathBuf,
    /// The form of log lines
    #[arg(long, env = "STS_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    pub(super) log_format: Format,
    /// Let tests use http:// on loopback. Has no environment variable, so that no pod can be given it by accident.
    #[arg(long, hide = true)]
    pub(super) danger_plain_http: bool,
}

#[derive(Debug, Args)]
pub(super) struct RawExchange {
    /// The directory with the subject tokens: <DIR>/<NAME>, read anew for each exchange
    #[arg(
        long,
        env = "STS_SUBJECT_TOKEN_DIR",
        value_name = "DIR",
        default_value = "/var/run/secrets/sts.tremolo.io/subject"
    )]
    pub(super) subject_token_dir: PathBuf,
    /// The role that an endpoint's token is wanted for, e.g. aws=arn:aws:iam::123456789012:role/app
    ///
    /// May be given several times; in the environment one to a line, since a role may have commas in it. Endpoints that bind roles give no
    /// token without one.
    #[arg(
        id = "role",
        long,
        env = "STS_ROLES",
        value_name = "NAME=ROLE",
        value_delimiter = '\n'
    )]
    pub(super) roles: Vec<String>,
    /// The CA certificates to trust for the STS, instead of any other
    #[arg(
        long,
        env = "STS_CA_CERTIFICATES",
        value_name = "PEM",
        hide_env_values = true,
        allow_hyphen_values = true // PEM begins with "-----BEGIN"
    )]
    pub(super) ca_certificates: Option<String>,
    /// A file with these certificates; read anew after a failure of TLS
    #[arg(long, env = "STS_CA_FILE", value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// How long one exchange may take, e.g. 10s; less when a token is near its end: a quarter of what is left, at least 1s
    #[arg(long, env = "STS_REQUEST_TIMEOUT", default_value = "10s", value_parser = parse_duration)]
    pub(super) request_timeout: Duration,
}

/// Numbers with units, biggest first by custom but in any order: `1m30s`, `500ms`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, ConfigError> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        total = parse_span(number, unit)
            .and_then(|span| total.checked_add(span))
            .ok_or(ConfigError::NotADuration)?;
        rest = tail;
    }
    if total.is_zero() {
        Err(ConfigError::NotADuration)
    } else {
        Ok(total)
    }
}

fn parse_span(number: &str, unit: &str) -> Option<Duration> {
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        _ => return None,
    };
    unit.checked_mul(number.parse().ok()?)
}
