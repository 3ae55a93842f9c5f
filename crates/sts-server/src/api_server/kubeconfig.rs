//! Reads a kubeconfig for another cluster, and takes from it an address, a CA and a credential; nothing that would run a program,
//! trust anybody, or give our own files away.

use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig};
use thiserror::Error;

/// Where a kubeconfig is from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin<'o> {
    /// A file of ours in this folder, which may name other files.
    File(&'o Path),
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

/// A kubeconfig that names nothing that it may not.
pub(super) struct Checked(Kubeconfig);

impl Checked {
    pub(super) fn parse(text: &str, origin: Origin<'_>) -> Result<Self, KubeconfigError> {
        let mut parsed = Kubeconfig::from_yaml(text).or(Err(KubeconfigError::Malformed))?;
        let clusters = parsed.clusters.iter_mut();
        for cluster in clusters.filter_map(|named| named.cluster.as_mut()) {
            check_cluster(cluster, origin)?;
            origin.place(&mut cluster.certificate_authority);
        }
        let users = parsed.auth_infos.iter_mut();
        for user in users.filter_map(|named| named.auth_info.as_mut()) {
            check_user(user, origin)?;
            origin.place(&mut user.client_certificate);
            origin.place(&mut user.client_key);
            origin.place(&mut user.token_file);
        }
        Ok(Self(parsed))
    }

    /// The files it names whose content a client keeps. Not those of tokens: a client reads them again by itself.
    pub(super) fn kept_files(&self) -> Vec<PathBuf> {
        let Kubeconfig {
            clusters,
            auth_infos,
            ..
        } = &self.0;
        let clusters = clusters.iter().filter_map(|named| named.cluster.as_ref());
        let users = auth_infos
            .iter()
            .filter_map(|named| named.auth_info.as_ref());
        let clusters = clusters.map(|cluster| &cluster.certificate_authority);
        let users = users.flat_map(|user| [&user.client_certificate, &user.client_key]);
        let named = clusters.chain(users);
        named.flatten().map(PathBuf::from).collect()
    }

    pub(super) async fn into_config(self) -> Result<Config, KubeconfigError> {
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(self.0, &options).await;
        config.or(Err(KubeconfigError::Malformed))
    }
}

impl Origin<'_> {
    /// As kubectl does: what is no absolute path is beside the kubeconfig.
    fn place(self, path: &mut Option<String>) {
        if let (Self::File(folder), Some(path)) = (self, path) {
            *path = folder.join(&*path).display().to_string();
        }
    }
}

fn check_cluster(cluster: &Cluster, origin: Origin<'_>) -> Result<(), KubeconfigError> {
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

fn check_user(user: &AuthInfo, origin: Origin<'_>) -> Result<(), KubeconfigError> {
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

    async fn parse(text: &str, origin: Origin<'_>) -> Result<Config, KubeconfigError> {
        Checked::parse(text, origin)?.into_config().await
    }

    fn file() -> Origin<'static> {
        Origin::File(Path::new("/configured"))
    }

    #[test]
    fn files_are_beside_the_kubeconfig_and_a_client_keeps_all_but_tokens() {
        let user = "client-certificate: tls.crt, client-key: ../tls.key, tokenFile: token";
        let cluster = format!("{HTTPS}, certificate-authority: /elsewhere/ca.crt");
        let checked = Checked::parse(&text(&cluster, user), file()).unwrap();
        let files = checked.kept_files();
        let expected = [
            "/elsewhere/ca.crt",
            "/configured/tls.crt",
            "/configured/../tls.key",
        ];
        assert_eq!(files, expected.map(PathBuf::from));
        let user = checked.0.auth_infos[0].auth_info.as_ref().unwrap();
        assert_eq!(user.token_file.as_deref(), Some("/configured/token"));
    }

    #[tokio::test]
    async fn an_address_a_ca_and_a_token_are_taken() {
        for origin in [file(), Origin::Secret] {
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
            let refused = parse(&text(&cluster, user), file()).await;
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
