//! Answers without a cluster what an endpoint would say to a pod with a given ServiceAccount. It asks the same rules and writes the same
//! claims as an exchange does, and no token can come out of it.

use std::fmt;

use serde_json::{Value, json};
use sts_config::{Config, Endpoint};
use sts_core::authorize::Refusal;
use sts_core::claims::{ClaimsError, preview};
use sts_core::ident::{ClusterName, EndpointName, Namespace, Role, ServiceAccountName};
use sts_core::policy::{Allowance, Attribute, Attributes, KnownLabels};
use thiserror::Error;

/// Whom the question is about.
#[derive(Clone, Debug)]
pub struct Question {
    /// One endpoint, or all.
    pub endpoint: Option<EndpointName>,
    /// The subject's cluster, or each of those whose tokens the endpoint takes.
    pub cluster: Option<ClusterName>,
    /// The subject's namespace.
    pub namespace: Namespace,
    /// Its ServiceAccount.
    pub service_account: ServiceAccountName,
    /// The role it asks for.
    pub role: Option<Role>,
    /// What else is known of it.
    pub known: Vec<(Attribute, String)>,
    /// What is known of the labels of its pod and of its namespace.
    pub labels: KnownLabels,
}

/// Why a question has no answer.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ExplainError {
    /// The configuration has no such endpoint.
    #[error("there is no endpoint {asked}: known are {known}")]
    EndpointUnknown {
        /// The name.
        asked: EndpointName,
        /// The names there are.
        known: String,
    },
    /// No endpoint that is asked about takes tokens of that cluster.
    #[error("no endpoint that is asked about takes tokens of a cluster {asked}")]
    ClusterUnknown {
        /// The name.
        asked: ClusterName,
    },
}

/// What one endpoint would say to one subject.
#[derive(Debug)]
pub struct Answer {
    endpoint: EndpointName,
    cluster: ClusterName,
    outcome: Result<Allowed, Denied>,
}

#[derive(Debug)]
struct Allowed {
    allowance: Allowance,
    claims: Value,
    lifetime_seconds: u64,
}

#[derive(Debug, Error)]
enum Denied {
    #[error(transparent)]
    Claims(ClaimsError),
    #[error(transparent)]
    Rules(Refusal),
}

/// Answers for each endpoint that is asked about.
///
/// # Errors
/// [`ExplainError`] when there is nothing to ask.
pub fn explain(config: &Config, question: &Question) -> Result<Vec<Answer>, ExplainError> {
    let asked = |endpoint: &&Endpoint| {
        let name = question.endpoint.as_ref();
        name.is_none_or(|name| *name == endpoint.name)
    };
    let endpoints: Vec<&Endpoint> = config.endpoints.iter().filter(asked).collect();
    if let (Some(asked), true) = (&question.endpoint, endpoints.is_empty()) {
        let known: Vec<&str> = config
            .endpoints
            .iter()
            .map(|endpoint| endpoint.name.as_str())
            .collect();
        return Err(ExplainError::EndpointUnknown {
            asked: asked.clone(),
            known: known.join(", "),
        });
    }
    let mut answers = Vec::new();
    for endpoint in endpoints {
        for cluster in &endpoint.clusters {
            let wanted = question.cluster.as_ref();
            if wanted.is_none_or(|wanted| wanted == cluster) {
                answers.push(answer(endpoint, cluster, question));
            }
        }
    }
    match &question.cluster {
        Some(asked) if answers.is_empty() => Err(ExplainError::ClusterUnknown {
            asked: asked.clone(),
        }),
        Some(_) | None => Ok(answers),
    }
}

fn answer(endpoint: &Endpoint, cluster: &ClusterName, question: &Question) -> Answer {
    let supposed = Attributes::supposed(cluster, &question.namespace, &question.service_account);
    let attributes = question
        .known
        .iter()
        .fold(supposed, |attributes, (attribute, value)| {
            attributes.with(*attribute, value)
        })
        .with_labels(question.labels.clone());
    Answer {
        endpoint: endpoint.name.clone(),
        cluster: cluster.clone(),
        outcome: decide(endpoint, &attributes, question.role.as_ref()),
    }
}

fn decide(
    endpoint: &Endpoint,
    attributes: &Attributes,
    role: Option<&Role>,
) -> Result<Allowed, Denied> {
    let allowance = endpoint
        .policy
        .decide(attributes, role)
        .map_err(Denied::Rules)?;
    let bound = allowance.role.as_ref().map(|bound| &bound.role);
    let claims = preview(&endpoint.template, attributes, bound).map_err(Denied::Claims)?;
    Ok(Allowed {
        allowance,
        claims,
        lifetime_seconds: endpoint.template.lifetime.get().as_secs(),
    })
}

impl Denied {
    fn code(&self) -> &'static str {
        match self {
            Self::Claims(error) => error.code(),
            Self::Rules(Refusal::Open { .. }) => "unknown",
            Self::Rules(refusal) => refusal.code(),
        }
    }
}

impl Answer {
    /// Whether the subject would get a token.
    pub fn is_allowed(&self) -> bool {
        self.outcome.is_ok()
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let (endpoint, cluster) = (self.endpoint.as_str(), self.cluster.as_str());
        match &self.outcome {
            Ok(Allowed {
                allowance,
                claims,
                lifetime_seconds,
            }) => {
                let bound = allowance.role.as_ref();
                json!({
                    "endpoint": endpoint, "cluster": cluster, "decision": "allow", "reason": "granted",
                    "rule": allowance.rule,
                    "role": bound.map(|bound| bound.role.as_str()),
                    "rolePattern": bound.map(|bound| bound.pattern.as_str()),
                    "lifetimeSeconds": lifetime_seconds,
                    "claims": claims,
                })
            }
            Err(denied) => json!({
                "endpoint": endpoint, "cluster": cluster, "decision": "deny", "reason": denied.code(),
                "detail": denied.to_string(),
            }),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            endpoint,
            cluster,
            outcome,
        } = self;
        let verdict = if outcome.is_ok() {
            "allowed"
        } else {
            "refused"
        };
        writeln!(f, "endpoint {endpoint}, cluster {cluster}: {verdict}")?;
        match outcome {
            Ok(Allowed {
                allowance,
                claims,
                lifetime_seconds,
            }) => {
                writeln!(f, "  by rule   {}", allowance.rule)?;
                if let Some(bound) = &allowance.role {
                    writeln!(f, "  for role  {}", bound.role)?;
                    writeln!(f, "  bound by  {}", bound.pattern)?;
                }
                writeln!(f, "  lifetime  at most {lifetime_seconds} s")?;
                writeln!(
                    f,
                    "  claims    (besides exp, iat, nbf, jti and kubernetes.io)"
                )?;
                for line in format!("{claims:#}").lines() {
                    writeln!(f, "    {line}")?;
                }
                Ok(())
            }
            Err(denied @ Denied::Rules(Refusal::Open { .. })) => {
                writeln!(f, "  because   {denied}")?;
                writeln!(
                    f,
                    "  say more  --with node-name=n1, --pod-label tier=web, --namespace-label team- (has none), and so on"
                )
            }
            Err(denied) => writeln!(f, "  because   {denied} ({})", denied.code()),
        }
    }
}
