//! Settings, from flags and the environment. Each has both, so that the sidecar's container sets its environment
//! once and `run`, `wait`, `once` and `probe` read the same.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use reqwest::Url;
use thiserror::Error;

use crate::client::Transport;
use crate::files::{self, CompanionFile, FileError};
use crate::last_words::LastWords;
use crate::log::Log;
use crate::store::TokenDir;
use crate::trust::{CaSource, TrustError};

mod raw;

use raw::{RawCli, RawCommand, RawExchange, RawTokens};

/// What to do, with everything needed for it.
#[derive(Debug)]
pub enum Command {
    /// Exchange each endpoint once.
    Once(OnceSettings),
    /// Say whether every token is there, or whether `run` works.
    Probe(ProbeSettings),
    /// Keep every token fresh.
    Run(RunSettings),
    /// Hold the application back until every token is there.
    Wait(WaitSettings),
}

impl Command {
    /// Reads the arguments and the environment. Ends the process with status 2 if they are unusable, or 0 after
    /// `--help`.
    pub fn load() -> Self {
        let RawCli { command } = RawCli::parse();
        match Self::try_from(command) {
            Ok(command) => command,
            Err(error) => RawCli::command()
                .error(ErrorKind::ValueValidation, error)
                .exit(),
        }
    }

    /// Where its events go.
    pub const fn log(&self) -> Log {
        match self {
            Self::Once(settings) => settings.exchange.tokens.log,
            Self::Probe(settings) => settings.tokens.log,
            Self::Run(settings) => settings.exchange.tokens.log,
            Self::Wait(settings) => settings.tokens.log,
        }
    }
}

impl TryFrom<RawCommand> for Command {
    type Error = ConfigError;

    fn try_from(raw: RawCommand) -> Result<Self, ConfigError> {
        Ok(match raw {
            RawCommand::Once {
                tokens,
                exchange,
                timeout,
            } => {
                let exchange = ExchangeSettings::parse(tokens, exchange)?;
                Self::Once(OnceSettings { exchange, timeout })
            }
            RawCommand::Probe { tokens, liveness } => {
                let tokens = Tokens::parse(tokens)?;
                let question = if liveness {
                    Question::Liveness
                } else {
                    Question::Tokens
                };
                Self::Probe(ProbeSettings { tokens, question })
            }
            RawCommand::Run {
                tokens,
                exchange,
                metrics_listen,
            } => {
                let exchange = ExchangeSettings::parse(tokens, exchange)?;
                Self::Run(RunSettings {
                    exchange,
                    metrics_listen,
                })
            }
            RawCommand::Wait {
                tokens,
                timeout,
                container_log,
            } => {
                let tokens = Tokens::parse(tokens)?;
                Self::Wait(WaitSettings {
                    tokens,
                    timeout,
                    container_log,
                })
            }
        })
    }
}

/// Which tokens, and where they are.
#[derive(Debug)]
pub struct Tokens {
    /// At least one; no two of the same name.
    pub endpoints: Vec<Endpoint>,
    /// Where their tokens are put.
    pub directory: TokenDir,
    /// The container's termination message.
    pub last_words: LastWords,
    /// Which URLs are acceptable.
    pub transport: Transport,
    /// Where events go.
    pub log: Log,
}

impl Tokens {
    fn parse(raw: RawTokens) -> Result<Self, ConfigError> {
        let RawTokens {
            mut endpoints,
            files,
            token_dir,
            termination_log,
            log_format,
            danger_plain_http,
        } = raw;
        let transport = if danger_plain_http {
            Transport::PlainHttpToLoopback
        } else {
            Transport::Https
        };
        let mut names = BTreeSet::new();
        for Endpoint { name, url, .. } in &endpoints {
            if !names.insert(name.as_str()) {
                return Err(ConfigError::TwiceTheSame { name: name.clone() });
            }
            if !is_acceptable(url, transport) {
                return Err(ConfigError::NotHttps { name: name.clone() });
            }
        }
        if let Some(json) = files.filter(|json| !json.trim().is_empty()) {
            files::attach(&json, &mut endpoints)?;
        }
        let (directory, log) = (TokenDir::new(token_dir), Log::new(log_format));
        Ok(Self {
            endpoints,
            directory,
            last_words: LastWords::new(termination_log),
            transport,
            log,
        })
    }
}

impl Tokens {
    /// Notes the roles that tokens are wanted for, each `NAME=ROLE`.
    fn ask_for(&mut self, roles: &[String]) -> Result<(), ConfigError> {
        for role in roles.iter().filter(|role| !role.is_empty()) {
            let (name, role) = role.split_once('=').ok_or(ConfigError::NotNameAndRole)?;
            let mut endpoints = self.endpoints.iter_mut();
            let endpoint = endpoints.find(|endpoint| endpoint.name.as_str() == name);
            let endpoint = endpoint.ok_or(ConfigError::RoleOfNobody)?;
            if endpoint.role.replace(role.to_owned()).is_some() {
                let name = endpoint.name.clone();
                return Err(ConfigError::TwoRoles { name });
            }
        }
        Ok(())
    }
}

/// What an exchange needs.
#[derive(Debug)]
pub struct ExchangeSettings {
    /// Which tokens.
    pub tokens: Tokens,
    /// The directory with each endpoint's subject token.
    pub subject_token_dir: PathBuf,
    /// Whom to believe to be the STS.
    pub ca: CaSource,
    /// How long one exchange may take.
    pub request_timeout: Duration,
}

impl ExchangeSettings {
    fn parse(tokens: RawTokens, raw: RawExchange) -> Result<Self, ConfigError> {
        let RawExchange {
            subject_token_dir,
            roles,
            ca_certificates,
            ca_file,
            request_timeout,
        } = raw;
        let inline = ca_certificates.filter(|pem| !pem.trim().is_empty());
        let file = ca_file.filter(|path| !path.as_os_str().is_empty());
        let ca = match (inline, file) {
            (Some(pem), None) => CaSource::Inline(pem),
            (None, Some(path)) => CaSource::File(path),
            (Some(_), Some(_)) => return Err(ConfigError::TwoCas),
            (None, None) => return Err(ConfigError::NoCa),
        };
        if matches!(ca, CaSource::Inline(_)) {
            // A file may come later; this cannot get better.
            drop(ca.load_tls()?);
        }
        let mut tokens = Tokens::parse(tokens)?;
        tokens.ask_for(&roles)?;
        Ok(Self {
            tokens,
            subject_token_dir,
            ca,
            request_timeout,
        })
    }
}

/// What `run` needs.
#[derive(Debug)]
pub struct RunSettings {
    /// What an exchange needs.
    pub exchange: ExchangeSettings,
    /// Where metrics are served, if they are.
    pub metrics_listen: Option<SocketAddr>,
}

/// What `probe` needs.
#[derive(Debug)]
pub struct ProbeSettings {
    /// Which tokens.
    pub tokens: Tokens,
    /// What is asked.
    pub question: Question,
}

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Does `run` work, whether it succeeds or not?
    Liveness,
    /// Is every token there?
    Tokens,
}

/// What `once` needs.
#[derive(Debug)]
pub struct OnceSettings {
    /// What an exchange needs.
    pub exchange: ExchangeSettings,
    /// How long to go on trying.
    pub timeout: Duration,
}

/// What `wait` needs.
#[derive(Debug)]
pub struct WaitSettings {
    /// Which tokens.
    pub tokens: Tokens,
    /// How long to wait.
    pub timeout: Duration,
    /// The container's log.
    pub container_log: PathBuf,
}

/// One endpoint of the STS: `NAME=URL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Names the files.
    pub name: EndpointName,
    /// Where tokens are exchanged.
    pub url: Url,
    /// The role that the token is wanted for.
    pub role: Option<String>,
    /// What is written beside the token.
    pub files: Vec<CompanionFile>,
}

impl FromStr for Endpoint {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let (name, url) = text
            .trim()
            .split_once('=')
            .ok_or(ConfigError::NotNameAndUrl)?;
        let url = Url::parse(url).map_err(|error| ConfigError::NotAUrl {
            reason: error.to_string(),
        })?;
        let plain =
            url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        if plain {
            Ok(Self {
                name: name.parse()?,
                url,
                role: None,
                files: Vec::new(),
            })
        } else {
            Err(ConfigError::UrlWithExtras)
        }
    }
}

/// An endpoint's name: a DNS label, hence a file name that cannot lead anywhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointName(String);

impl EndpointName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EndpointName {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_label = (1..=63).contains(&text.len())
            && text.chars().all(is_inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if is_label {
            Ok(Self(text.to_owned()))
        } else {
            Err(ConfigError::NotADnsLabel)
        }
    }
}

/// Unusable settings.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Unusable files beside the tokens.
    #[error("--files (STS_FILES): {0}")]
    Files(#[from] FileError),
    /// A length of time that is not one.
    #[error("not a length of time like 10s, 500ms or 1m30s")]
    NotADuration,
    /// An endpoint's name.
    #[error("an endpoint's name must be a DNS label: a-z, 0-9 and '-', at most 63 characters")]
    NotADnsLabel,
    /// An endpoint's URL without TLS.
    #[error("endpoint {name}: the URL must begin with https://")]
    NotHttps {
        /// Which.
        name: EndpointName,
    },
    /// An endpoint without `=`.
    #[error("an endpoint is given as NAME=URL")]
    NotNameAndUrl,
    /// A role without `=`.
    #[error("--role (STS_ROLES): a role is given as NAME=ROLE")]
    NotNameAndRole,
    /// A role of no endpoint.
    #[error("--role (STS_ROLES): no endpoint has that name")]
    RoleOfNobody,
    /// Two roles for one endpoint.
    #[error("--role (STS_ROLES): endpoint {name} is given two")]
    TwoRoles {
        /// Which.
        name: EndpointName,
    },
    /// No CA at all.
    #[error(
        "one of --ca-certificates (STS_CA_CERTIFICATES) and --ca-file (STS_CA_FILE) is required"
    )]
    NoCa,
    /// Unusable inline CA certificates.
    #[error("--ca-certificates (STS_CA_CERTIFICATES): {0}")]
    Trust(#[from] TrustError),
    /// Two endpoints of one name.
    #[error("endpoint {name} is given twice")]
    TwiceTheSame {
        /// Which.
        name: EndpointName,
    },
    /// Two sources of CA certificates.
    #[error(
        "--ca-certificates (STS_CA_CERTIFICATES) and --ca-file (STS_CA_FILE) exclude each other"
    )]
    TwoCas,
    /// An endpoint's URL that is none.
    #[error("not a URL: {reason}")]
    NotAUrl {
        /// What is wrong with it.
        reason: String,
    },
    /// An endpoint's URL with things that do not belong there.
    #[error("an endpoint's URL has no user, password or fragment")]
    UrlWithExtras,
}

impl ConfigError {
    /// The stable name of this failure.
    pub const fn code(&self) -> &'static str {
        "unusable_settings"
    }
}

fn is_acceptable(url: &Url, transport: Transport) -> bool {
    match transport {
        Transport::Https => url.scheme() == "https",
        Transport::PlainHttpToLoopback => {
            let is_loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
            url.scheme() == "https" || (url.scheme() == "http" && is_loopback)
        }
    }
}

#[cfg(test)]
mod tests;
