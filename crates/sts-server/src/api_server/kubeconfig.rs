//! Reads a kubeconfig for another cluster, and takes from it an address, a CA and a credential; nothing that would run a program,
//! trust anybody, or give our own files away.

use kube::Config;
use kube::config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig};
use thiserror::Error;

/// Where a kubeconfig is from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// A file of ours, which may name other files.
    File,
    /// A Secret. A path in it would be one of our files, such as our own token, and what is there would be sent to its address.
    Secret,
}

/// Why a kubeconfig is not used.
#[derive(Debug, Error)]
pub(super) enum KubeconfigError {
    #[error("{key} is not supported: {remedy}")]
    Forbidden {
        key: &'static str,
        remedy: &'static str,
    },
    // Its text can quote the file, and with it a credential: the source is left out.
    #[error("it is no kubeconfig with a current-context")]
    Malformed,
}

pub(super) async fn parse(text: &str, origin: Origin) -> Result<Config, KubeconfigError> {
    let parsed = Kubeconfig::from_yaml(text).or(Err(KubeconfigError::Malformed))?;
    for cluster in &parsed.clusters {
        cluster
            .cluster
            .as_ref()
            .map_or(Ok(()), |cluster| check_cluster(cluster, origin))?;
    }
    for user in &parsed.auth_infos {
        user.auth_info
            .as_ref()
            .map_or(Ok(()), |user| check_user(user, origin))?;
    }
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(parsed, &options).await;
    config.or(Err(KubeconfigError::Malformed))
}

fn check_cluster(cluster: &Cluster, origin: Origin) -> Result<(), KubeconfigError> {
    let forbidden = |key, remedy| Err(KubeconfigError::Forbidden { key, remedy });
    if cluster.insecure_skip_tls_verify == Some(true) {
        return forbidden(
            "insecure-skip-tls-verify",
            "write certificate-authority-data",
        );
    }
    let secure = |server: &String| server.starts_with("https://");
    if !cluster.server.as_ref().is_none_or(secure) {
        return forbidden(
            "server without https://",
            "the token would be sent in clear",
        );
    }
    if origin == Origin::Secret && cluster.certificate_authority.is_some() {
        return forbidden("certificate-authority", "write certificate-authority-data");
    }
    Ok(())
}

fn check_user(user: &AuthInfo, origin: Origin) -> Result<(), KubeconfigError> {
    let forbidden = |key, remedy| Err(KubeconfigError::Forbidden { key, remedy });
    if user.exec.is_some() || user.auth_provider.is_some() {
        return forbidden(
            "exec or auth-provider",
            "write a ServiceAccount's token or a client certificate",
        );
    }
    let files = [
        ("tokenFile", &user.token_file),
        ("client-certificate", &user.client_certificate),
        ("client-key", &user.client_key),
    ];
    for (key, path) in files {
        if origin == Origin::Secret && path.is_some() {
            return forbidden(key, "write the data itself, not the path of a file");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(cluster: &str, user: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Config, current-context: a, contexts: [{{name: a, context: {{cluster: a, user: a}}}}], \
             clusters: [{{name: a, cluster: {{{cluster}}}}}], users: [{{name: a, user: {{{user}}}}}]}}"
        )
    }

    const HTTPS: &str = "server: 'https://blue.example:6443'";
    const TOKEN: &str = "token: canary";

    #[tokio::test]
    async fn an_address_a_ca_and_a_token_are_taken() {
        for origin in [Origin::File, Origin::Secret] {
            let config = parse(&text(HTTPS, TOKEN), origin).await.unwrap();
            assert_eq!(config.cluster_url.host(), Some("blue.example"));
        }
    }

    #[tokio::test]
    async fn live_018_what_would_trust_anybody_or_run_a_program_is_refused() {
        for (cluster, user) in [
            (format!("{HTTPS}, insecure-skip-tls-verify: true"), TOKEN),
            ("server: 'http://blue.example'".to_owned(), TOKEN),
            (
                HTTPS.to_owned(),
                "exec: {command: id, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never}",
            ),
            (HTTPS.to_owned(), "auth-provider: {name: oidc, config: {}}"),
        ] {
            let refused = parse(&text(&cluster, user), Origin::File).await;
            let forbidden = matches!(refused, Err(KubeconfigError::Forbidden { .. }));
            assert!(forbidden, "{cluster} {user}");
        }
    }

    /// Else whoever may write the Secret could have our own token sent to an address of his.
    #[tokio::test]
    async fn a_secret_cannot_name_our_files() {
        let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
        for (cluster, user) in [
            (HTTPS.to_owned(), format!("tokenFile: {token}")),
            (HTTPS.to_owned(), format!("client-certificate: {token}")),
            (HTTPS.to_owned(), format!("client-key: {token}")),
            (
                format!("{HTTPS}, certificate-authority: {token}"),
                TOKEN.to_owned(),
            ),
        ] {
            let refused = parse(&text(&cluster, &user), Origin::Secret).await;
            let forbidden = matches!(refused, Err(KubeconfigError::Forbidden { .. }));
            assert!(forbidden, "{cluster} {user}");
        }
    }

    #[tokio::test]
    async fn no_error_repeats_a_credential() {
        for text in [
            "canary",
            "[canary",
            "{users: canary}",
            &text("server: ''", TOKEN),
        ] {
            let Err(error) = parse(text, Origin::Secret).await else {
                panic!("{text}");
            };
            let said = svc_runtime::log::chain(&error).to_string();
            assert!(!said.contains("canary"), "{said}");
        }
    }
}
