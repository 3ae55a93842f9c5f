//! A kubeconfig file with the files that it names, and by what it is seen that any of them has changed.

use std::io::ErrorKind;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};

use super::ConnectError;
use super::kubeconfig::{Checked, Origin};

/// A kubeconfig file as it is at the moment.
pub(super) struct KubeconfigFile {
    pub(super) gone: bool,
    pub(super) kubeconfig: Result<Checked, ConnectError>,
    /// Other fingerprints than before: something has changed.
    pub(super) seen: Seen,
}

/// Fingerprints of its text, or of why there is none, and of each file that it names and whose content a client of it keeps.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Seen(Vec<Option<Vec<u8>>>);

impl KubeconfigFile {
    /// Before a client is made of it: what changes meanwhile is seen the next time.
    pub(super) async fn read(path: &Path) -> Self {
        let text = tokio::fs::read_to_string(path).await;
        let gone = matches!(&text, Err(error) if error.kind() == ErrorKind::NotFound);
        let folder = path.parent().unwrap_or(path);
        let (mut seen, kubeconfig) = match text {
            Ok(text) => (
                vec![Some(fingerprint(text.as_bytes()))],
                Checked::parse(&text, Origin::File(folder)).map_err(ConnectError::from),
            ),
            Err(error) => (
                vec![Some(fingerprint(error.to_string().as_bytes()))],
                Err(ConnectError::Unreadable(error)),
            ),
        };
        if let Ok(kubeconfig) = &kubeconfig {
            for file in kubeconfig.kept_files() {
                let content = tokio::fs::read(file).await;
                seen.push(content.ok().map(|content| fingerprint(&content)));
            }
        }
        Self {
            gone,
            kubeconfig,
            seen: Seen(seen),
        }
    }
}

fn fingerprint(content: &[u8]) -> Vec<u8> {
    digest(&SHA256, content).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const TEXT: &str = "{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}], \
        clusters: [{name: a, cluster: {server: 'https://blue.example:6443', certificate-authority: ca.crt}}], \
        users: [{name: a, user: {client-certificate: tls.crt, client-key: tls.key}}]}";

    #[tokio::test]
    async fn each_file_that_changes_is_seen_and_nothing_else() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("kubeconfig");
        let seen = async || KubeconfigFile::read(&path).await.seen;
        let absent = seen().await;
        assert!(KubeconfigFile::read(&path).await.gone);
        std::fs::write(&path, TEXT).unwrap();
        let mut last = seen().await;
        assert_ne!(last, absent);
        for content in ["first", "second"] {
            for name in ["ca.crt", "tls.crt", "tls.key"] {
                std::fs::write(folder.path().join(name), content).unwrap();
                let next = seen().await;
                assert_ne!(last, next, "{name}");
                last = next;
            }
            assert_eq!(seen().await, last);
        }
        std::fs::remove_file(folder.path().join("tls.key")).unwrap();
        assert_ne!(seen().await, last);
    }
}
