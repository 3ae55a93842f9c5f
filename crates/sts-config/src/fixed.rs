//! What a program cannot change while it runs, and so refuses in a configuration that is reloaded.

use crate::problem::{Place, Problem};
use crate::{Config, InjectorConfig, ServerConfig, ServiceAccountConfig};

/// What of `new` a running `sts-server` cannot take over from `old`; empty if nothing.
pub fn server_needs_restart(old: &Config, new: &Config) -> Vec<Problem> {
    let mut changes = Changes::default();
    changes.host(old, new);
    let parts = (old.server.as_ref(), new.server.as_ref());
    if let Some((old, new)) = changes.both("server", parts) {
        let ServerConfig {
            listen,
            admin_listen,
            tls,
            rate_limit: _,
            key_ledger,
        } = new;
        changes.compare("server.listen", &old.listen, listen);
        changes.compare("server.adminListen", &old.admin_listen, admin_listen);
        changes.compare("server.tls", &old.tls, tls);
        changes.compare("server.keyLedger", &old.key_ledger, key_ledger);
    }
    changes.0
}

/// What of `new` a running `injector` cannot take over from `old`; empty if nothing.
pub fn injector_needs_restart(old: &Config, new: &Config) -> Vec<Problem> {
    let mut changes = Changes::default();
    changes.host(old, new);
    let parts = (old.injector.as_ref(), new.injector.as_ref());
    if let Some((old, new)) = changes.both("injector", parts) {
        let InjectorConfig {
            listen,
            admin_listen,
            tls,
            service,
            webhook_configuration,
            server_ca_config_map,
            sidecar: _,
            service_accounts,
        } = new;
        changes.compare("injector.listen", &old.listen, listen);
        changes.compare("injector.adminListen", &old.admin_listen, admin_listen);
        changes.compare("injector.tls", &old.tls, tls);
        changes.compare("injector.service", &old.service, service);
        changes.compare(
            "injector.webhookConfiguration",
            &old.webhook_configuration,
            webhook_configuration,
        );
        changes.compare(
            "injector.serverCaConfigMap",
            &old.server_ca_config_map,
            server_ca_config_map,
        );
        changes.accounts(old.service_accounts.as_ref(), service_accounts.as_ref());
    }
    changes.0
}

#[derive(Default)]
struct Changes(Vec<Problem>);

impl Changes {
    fn compare<T: PartialEq>(&mut self, path: &str, old: &T, new: &T) {
        if old != new {
            self.0.push(Problem {
                place: Place::new(path, 0),
                message:
                    "cannot change while the program runs: set it back, or restart the program"
                        .to_owned(),
            });
        }
    }

    /// The host stands in the server's certificate, and in what every sidecar is told.
    fn host(&mut self, old: &Config, new: &Config) {
        self.compare("url", &old.url.host(), &new.url.host());
    }

    /// A part's two versions; that it came or went is a change too.
    fn both<'p, T>(
        &mut self,
        path: &str,
        (old, new): (Option<&'p T>, Option<&'p T>),
    ) -> Option<(&'p T, &'p T)> {
        self.compare(path, &old.is_some(), &new.is_some());
        old.zip(new)
    }

    /// What is watched for ServiceAccounts; how pods are changed for them is free.
    fn accounts(&mut self, old: Option<&ServiceAccountConfig>, new: Option<&ServiceAccountConfig>) {
        const PART: &str = "injector.serviceAccounts";
        let Some((old, new)) = self.both(PART, (old, new)) else {
            return;
        };
        let file = |config: &ServiceAccountConfig| {
            let agent = config.container_credentials.as_ref();
            agent.map(|agent| agent.file.clone())
        };
        self.compare(
            "injector.serviceAccounts.annotationPrefix",
            &old.annotation_prefix,
            &new.annotation_prefix,
        );
        self.compare(
            "injector.serviceAccounts.configMap",
            &old.config_map,
            &new.config_map,
        );
        self.compare(
            "injector.serviceAccounts.lookupTimeout",
            &old.lookup_timeout,
            &new.lookup_timeout,
        );
        self.compare(
            "injector.serviceAccounts.containerCredentials.file",
            &file(old),
            &file(new),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../../docs/samples/in-cluster.yaml");

    fn with(from: &str, to: &str) -> Config {
        let text = SAMPLE.replace(from, to);
        assert_ne!(text, SAMPLE, "{from}");
        Config::parse(&text).unwrap()
    }

    fn shown(problems: &[Problem]) -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn endpoints_rates_and_the_sidecar_may_change() {
        let old = Config::parse(SAMPLE).unwrap();
        for (from, to) in [
            ("lifetime: 15m", "lifetime: 20m"),
            ("perPod: 5", "perPod: 6"),
            ("gate: hook", "gate: probe"),
            ("- name: vault", "- name: other"),
        ] {
            let new = with(from, to);
            assert_eq!(server_needs_restart(&old, &new), [], "{from}");
            assert_eq!(injector_needs_restart(&old, &new), [], "{from}");
        }
    }

    #[test]
    fn what_needs_a_restart_is_named_all_at_once() {
        let old = Config::parse(SAMPLE).unwrap();
        let new = with("0.0.0.0:8443", "0.0.0.0:9443");
        let said = shown(&server_needs_restart(&old, &new));
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with("server.listen cannot change"),
            "{said:?}"
        );
        let new = with("kube-sts-server.kube-sts.svc", "sts.example.com");
        let said = shown(&injector_needs_restart(&old, &new));
        assert!(said[0].starts_with("url cannot change"), "{said:?}");
        let new = with("keyLedger: kube-sts-server-keys", "keyLedger: other");
        assert_eq!(injector_needs_restart(&old, &new), []);
        assert_eq!(server_needs_restart(&old, &new).len(), 1);
        let new = with(
            "  # serviceAccounts:                   #",
            "  serviceAccounts: {}  #",
        );
        let said = shown(&injector_needs_restart(&old, &new));
        assert!(
            said[0].starts_with("injector.serviceAccounts cannot"),
            "{said:?}"
        );
        assert_eq!(server_needs_restart(&old, &new), []);
    }
}
