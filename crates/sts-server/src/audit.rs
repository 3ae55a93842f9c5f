//! The audit line: exactly one for each exchange, allowed or not, written before the answer.
//!
//! Its fields are documented in `docs/audit.md`. It names who asked and what was decided, and holds nothing that could be used: no token,
//! no key.

use std::net::SocketAddr;

use sts_core::exchange::Issued;
use sts_core::ident::{ClusterName, EndpointName};
use sts_core::verify::VerifiedToken;
use svc_runtime::log::chain;

use crate::error::ExchangeError;

/// The version of the line's fields.
const SCHEMA: &str = "kube-sts.audit/1";

/// Who asked, known once the token was verified.
pub(crate) struct Subject {
    cluster: String,
    namespace: String,
    service_account: String,
    pod: String,
    pod_uid: String,
    token_id: String,
}

impl Subject {
    pub(crate) fn of(token: &VerifiedToken, cluster: &ClusterName) -> Self {
        let account = token.service_account();
        Self {
            cluster: cluster.as_str().to_owned(),
            namespace: account.namespace.as_str().to_owned(),
            service_account: account.name.as_str().to_owned(),
            pod: token.pod().name.as_str().to_owned(),
            pod_uid: token.pod().uid.as_str().to_owned(),
            token_id: token
                .id()
                .map(|id| id.as_str().to_owned())
                .unwrap_or_default(),
        }
    }
}

/// Writes the line.
pub(crate) fn write(
    endpoint: &EndpointName,
    source: SocketAddr,
    subject: Option<&Subject>,
    outcome: &Result<Issued, ExchangeError>,
) {
    let issued = outcome.as_ref().ok();
    let refused = outcome.as_ref().err();
    tracing::info!(
        target: "audit",
        schema = SCHEMA,
        decision = if refused.is_some() { "deny" } else { "allow" },
        reason = refused.map_or("granted", ExchangeError::code),
        detail = refused.map(|error| chain(error).to_string()),
        endpoint = endpoint.as_str(),
        rule = issued.map(|issued| issued.rule.as_str()),
        cluster = subject.map(|subject| subject.cluster.as_str()),
        namespace = subject.map(|subject| subject.namespace.as_str()),
        service_account = subject.map(|subject| subject.service_account.as_str()),
        pod = subject.map(|subject| subject.pod.as_str()),
        pod_uid = subject.map(|subject| subject.pod_uid.as_str()),
        subject_jti = subject.map(|subject| subject.token_id.as_str()),
        jti = issued.map(|issued| issued.id.as_str()),
        kid = issued.map(|issued| issued.key_id.as_str()),
        sub = issued.map(|issued| issued.subject.as_str()),
        expires = issued.map(|issued| issued.expires),
        source = %source,
        "exchange"
    );
}
