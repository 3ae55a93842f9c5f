//! The audit line: exactly one for each exchange, allowed or not, written before the answer.
//!
//! Its fields are documented in `docs/audit.md`. It names who asked and what was decided, and holds nothing that could be used: no token,
//! no key.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sts_core::authorize::{Permission, Refusal};
use sts_core::exchange::Issued;
use sts_core::ident::{ClusterName, EndpointName, Role};
use sts_core::verify::VerifiedToken;
use svc_runtime::log::chain;

use crate::error::ExchangeError;

/// The version of the line's fields.
const SCHEMA: &str = "kube-sts.audit/1";

/// How many lines about callers of whom nothing is known an endpoint writes in one [`WINDOW`]. They prove nothing and cost nothing to
/// cause: without a bound, anybody could push the lines that matter out of the log.
const MOST_UNVERIFIED: u32 = 20;
/// How often [`Trail::next_window`] is to be called.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);

/// The audit lines of one endpoint.
pub(crate) struct Trail {
    endpoint: EndpointName,
    window: Mutex<Window>,
}

/// What the present window has seen of refusals without a subject.
#[derive(Default)]
struct Window {
    written: u32,
    suppressed: u64,
}

/// Who asked, known once the token was verified, and what the rules said, once they were asked.
pub(crate) struct Subject {
    cluster: String,
    namespace: String,
    service_account: String,
    pod: String,
    pod_uid: String,
    token_id: String,
    rule: Option<String>,
    role: Option<Role>,
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
            rule: None,
            role: None,
        }
    }

    /// Takes down what the rules said: whatever refuses the exchange from here on, it is known which rule allowed it, and for which role.
    pub(crate) fn note(&mut self, decision: &Result<Permission, Refusal>) {
        let (rule, role) = match decision {
            Ok(permission) => (Some(permission.rule()), permission.role()),
            Err(refusal) => (refusal.rule(), refusal.role()),
        };
        self.rule = rule.map(str::to_owned);
        self.role = role.cloned();
    }
}

impl Trail {
    pub(crate) fn new(endpoint: EndpointName) -> Self {
        Self {
            endpoint,
            window: Mutex::default(),
        }
    }

    /// Writes the line, unless it is one more refusal of nobody known, or of somebody who comes too often, than the window holds.
    pub(crate) fn write(
        &self,
        source: SocketAddr,
        subject: Option<&Subject>,
        outcome: &Result<Issued, ExchangeError>,
    ) {
        let flood = matches!(outcome, Err(ExchangeError::TooOften { .. }));
        let known = subject.is_some() && !flood;
        if outcome.is_ok() || known || self.lock().admits() {
            write(&self.endpoint, source, subject, outcome);
        }
    }

    /// Ends the window; one line says how many lines were left out of it, if any.
    pub(crate) fn next_window(&self) {
        let Window {
            written: _,
            suppressed,
        } = std::mem::take(&mut *self.lock());
        if suppressed > 0 {
            tracing::info!(
                target: "audit",
                schema = SCHEMA,
                decision = "deny",
                reason = "suppressed",
                endpoint = self.endpoint.as_str(),
                suppressed,
                "refusals before verification"
            );
        }
    }

    /// Both numbers are good at any time: a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of an endpoint that is gone: what its last window left out is said too.
impl Drop for Trail {
    fn drop(&mut self) {
        self.next_window();
    }
}

impl Window {
    /// Counts a line, and says whether it is to be written.
    fn admits(&mut self) -> bool {
        let admits = self.written < MOST_UNVERIFIED;
        if admits {
            self.written += 1;
        } else {
            self.suppressed = self.suppressed.saturating_add(1);
        }
        admits
    }
}

fn write(
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
        rule = subject.and_then(|subject| subject.rule.as_deref()),
        role = subject.and_then(|subject| subject.role.as_ref()).map(Role::as_str),
        confirmed_by = issued.map(|issued| issued.confirmation.name()),
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
