//! How each program of the node is started. Only arguments here: who starts them, and when, is in `node`.

use std::path::Path;

use super::address::{
    APISERVER_PORT, ETCD_CLIENT_URL, ETCD_PEER_URL, NODE_ADDRESS, NODE_NAME, SERVICE_RANGE,
    apiserver_url,
};
use super::layout::Layout;

/// A program with its arguments, and the name of its log.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    pub(crate) name: &'static str,
    pub(crate) program: String,
    pub(crate) arguments: Vec<String>,
}

/// `--unsafe-no-fsync`: what it holds need not survive the machine.
pub(crate) fn etcd(layout: &Layout) -> Daemon {
    Daemon {
        name: "etcd",
        program: "/usr/bin/etcd".into(),
        arguments: vec![
            flag("data-dir", layout.text("etcd")),
            "--unsafe-no-fsync".into(),
            flag("listen-client-urls", ETCD_CLIENT_URL),
            flag("advertise-client-urls", ETCD_CLIENT_URL),
            flag("listen-peer-urls", ETCD_PEER_URL),
        ],
    }
}

pub(crate) fn containerd(layout: &Layout) -> Daemon {
    Daemon {
        name: "containerd",
        program: "/usr/bin/containerd".into(),
        arguments: vec!["--config".into(), layout.text("containerd/config.toml")],
    }
}

pub(crate) fn apiserver(layout: &Layout, programs: &Path) -> Daemon {
    let issuer = apiserver_url();
    let pki = |file: &str| layout.text(&format!("pki/{file}"));
    kubernetes(
        programs,
        "kube-apiserver",
        vec![
            flag("etcd-servers", ETCD_CLIENT_URL),
            flag("bind-address", "0.0.0.0"),
            flag("secure-port", APISERVER_PORT.to_string()),
            flag("advertise-address", NODE_ADDRESS.to_string()),
            flag("cert-dir", layout.text("run")),
            flag("tls-cert-file", pki("apiserver.crt")),
            flag("tls-private-key-file", pki("apiserver.key")),
            flag("client-ca-file", pki("ca.crt")),
            flag("service-account-issuer", &issuer),
            flag(
                "service-account-jwks-uri",
                format!("{issuer}/openid/v1/jwks"),
            ),
            flag("service-account-key-file", pki("sa.pub")),
            flag("service-account-signing-key-file", pki("sa.key")),
            flag("api-audiences", &issuer),
            flag("service-cluster-ip-range", SERVICE_RANGE),
            flag("authorization-mode", "Node,RBAC"),
            flag("allow-privileged", "true"),
            flag(
                "kubelet-client-certificate",
                pki("apiserver-kubelet-client.crt"),
            ),
            flag("kubelet-client-key", pki("apiserver-kubelet-client.key")),
            flag("kubelet-certificate-authority", pki("ca.crt")),
            // The default tries the node's name first, and nothing resolves that.
            flag("kubelet-preferred-address-types", "InternalIP"),
        ],
    )
}

/// Its own default of 20 requests a second would delay the first pods by 5 s.
pub(crate) fn controller_manager(layout: &Layout, programs: &Path) -> Daemon {
    let mut arguments = client_flags(layout, "controller-manager");
    arguments.extend([
        flag("root-ca-file", layout.text("pki/ca.crt")),
        flag(
            "service-account-private-key-file",
            layout.text("pki/sa.key"),
        ),
        flag("use-service-account-credentials", "true"),
        flag("cluster-signing-cert-file", layout.text("pki/ca.crt")),
        flag("cluster-signing-key-file", layout.text("pki/ca.key")),
        flag("kube-api-qps", "500"),
        flag("kube-api-burst", "1000"),
    ]);
    kubernetes(programs, "kube-controller-manager", arguments)
}

pub(crate) fn scheduler(layout: &Layout, programs: &Path) -> Daemon {
    kubernetes(
        programs,
        "kube-scheduler",
        client_flags(layout, "scheduler"),
    )
}

pub(crate) fn kubelet(layout: &Layout, programs: &Path) -> Daemon {
    kubernetes(
        programs,
        "kubelet",
        vec![
            flag("config", layout.text("kubelet/config.json")),
            flag("kubeconfig", layout.text("kubeconfig/kubelet")),
            flag("hostname-override", NODE_NAME),
            flag("node-ip", NODE_ADDRESS.to_string()),
            flag("root-dir", layout.text("kubelet")),
            flag("cert-dir", layout.text("kubelet/pki")),
            "--v=2".into(),
        ],
    )
}

pub(crate) fn proxy(layout: &Layout, programs: &Path) -> Daemon {
    kubernetes(
        programs,
        "kube-proxy",
        vec![flag("config", layout.text("proxy.json")), "--v=2".into()],
    )
}

/// What controller manager and scheduler have in common.
fn client_flags(layout: &Layout, client: &str) -> Vec<String> {
    let kubeconfig = layout.kubeconfig(client).to_string_lossy().into_owned();
    vec![
        flag("kubeconfig", &kubeconfig),
        flag("authentication-kubeconfig", &kubeconfig),
        flag("authorization-kubeconfig", &kubeconfig),
        flag("bind-address", "127.0.0.1"),
        flag("cert-dir", layout.text("run")),
        flag("leader-elect", "false"),
    ]
}

fn kubernetes(programs: &Path, name: &'static str, arguments: Vec<String>) -> Daemon {
    Daemon {
        name,
        program: programs.join(name).to_string_lossy().into_owned(),
        arguments,
    }
}

fn flag(name: &str, value: impl AsRef<str>) -> String {
    format!("--{name}={}", value.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_issued_and_accepted_for_the_same_url() {
        let layout = Layout::at("/somewhere".into());
        let arguments = apiserver(&layout, Path::new("/tools")).arguments;
        let value = |name: &str| {
            let prefix = format!("--{name}=");
            arguments
                .iter()
                .find_map(|argument| argument.strip_prefix(&prefix))
                .unwrap()
        };
        assert_eq!(value("service-account-issuer"), "https://10.203.0.1:6443");
        assert_eq!(value("api-audiences"), value("service-account-issuer"));
        assert_eq!(value("service-account-key-file"), "/somewhere/pki/sa.pub");
    }
}
