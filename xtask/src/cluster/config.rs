//! The configuration files of the node's programs. They read JSON where their manuals show YAML.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use super::address::{
    DNS_SERVICE_ADDRESS, NODE_ADDRESS, NODE_NAME, POD_RANGE, apiserver_url, render_hosts,
};
use super::cgroup::Hierarchy;
use super::layout::Layout;
use crate::image::PAUSE;

/// Writes all of them.
pub(crate) fn write(layout: &Layout, cgroup_name: &str, hierarchy: Hierarchy) -> Result<()> {
    for client in CLIENTS {
        fs::write(
            layout.kubeconfig(client),
            kubeconfig(layout, client).to_string(),
        )?;
    }
    fs::write(layout.path("hosts"), render_hosts())?;
    fs::write(
        layout.path("containerd/config.toml"),
        render_containerd(layout),
    )?;
    fs::write(
        layout.path("containerd/cni/net.d/10-pods.conflist"),
        pod_network(layout).to_string(),
    )?;
    fs::write(
        layout.path("kubelet/config.json"),
        kubelet(layout, cgroup_name, hierarchy).to_string(),
    )?;
    fs::write(layout.path("proxy.json"), proxy(layout).to_string())?;
    Ok(())
}

fn kubeconfig(layout: &Layout, client: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": client } }],
        "clusters": [{ "name": "test", "cluster": {
            "server": apiserver_url(),
            "certificate-authority": layout.text("pki/ca.crt"),
        } }],
        "users": [{ "name": client, "user": {
            "client-certificate": layout.text(&format!("pki/{client}.crt")),
            "client-key": layout.text(&format!("pki/{client}.key")),
        } }],
    })
}

fn kubelet(layout: &Layout, cgroup_name: &str, hierarchy: Hierarchy) -> Value {
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{}", layout.containerd_socket().display()),
        "address": NODE_ADDRESS,
        "port": 10250,
        "healthzBindAddress": "127.0.0.1",
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": false },
            "x509": { "clientCAFile": layout.text("pki/ca.crt") },
        },
        "authorization": { "mode": "AlwaysAllow" },
        "tlsCertFile": layout.text("pki/kubelet.crt"),
        "tlsPrivateKeyFile": layout.text("pki/kubelet.key"),
        "resolvConf": "",
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS_SERVICE_ADDRESS],
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": true,
        "cgroupRoot": format!("/{cgroup_name}"),
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        // How full the machine's disk is says nothing about the tests.
        "localStorageCapacityIsolation": false,
        "evictionHard": { "imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%" },
        "imageGCHighThresholdPercent": 100,
        "volumePluginDir": layout.text("kubelet/plugins-exec"),
        "podLogsDir": layout.text("kubelet/pod-logs"),
        "makeIPTablesUtilChains": false,
    });
    if let (Hierarchy::V1, Some(fields)) = (hierarchy, config.as_object_mut()) {
        fields.insert("failCgroupV1".into(), json!(false));
    }
    config
}

fn proxy(layout: &Layout) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        // The default of 1 s shows as refused connections just after a rollout.
        "nftables": { "minSyncPeriod": "50ms" },
        "hostnameOverride": NODE_NAME,
        "clientConnection": { "kubeconfig": layout.kubeconfig("proxy") },
        "clusterCIDR": POD_RANGE,
        "detectLocalMode": "ClusterCIDR",
        // Leaves the machine's own limits alone.
        "conntrack": { "maxPerCore": 0, "min": 0 },
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    })
}

fn pod_network(layout: &Layout) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods0",
                "isGateway": true,
                "ipMasq": false,
                "hairpinMode": true, // a pod may call itself through its Service
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": POD_RANGE }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                    "dataDir": layout.text("containerd/cni/data"),
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
            { "type": "loopback" },
        ],
    })
}

/// `restrict_oom_score_adj`: without `CAP_SYS_RESOURCE`, runc could not lower the score and no pod would start.
fn render_containerd(layout: &Layout) -> String {
    let root = layout.path("containerd");
    let root = root.display();
    format!(
        r#"version = 2
root = "{root}/root"
state = "{root}/state"
[grpc]
  address = "{root}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  enable_unprivileged_ports = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{root}/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  BinaryName = "/usr/sbin/runc"
  Root = "{root}/runc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"
"#
    )
}

/// Each has a certificate and a kubeconfig of this name.
const CLIENTS: [&str; 5] = [
    "admin",
    "controller-manager",
    "kubelet",
    "proxy",
    "scheduler",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::at("/somewhere".into())
    }

    #[test]
    fn only_cgroup_v1_needs_the_exception() {
        let on_v1 = kubelet(&layout(), "kube-sts-x", Hierarchy::V1);
        assert_eq!(on_v1["failCgroupV1"], false);
        assert_eq!(on_v1["cgroupRoot"], "/kube-sts-x");
        assert_eq!(
            kubelet(&layout(), "kube-sts-x", Hierarchy::V2).get("failCgroupV1"),
            None
        );
    }

    #[test]
    fn every_path_of_containerd_is_below_the_root() {
        let config = render_containerd(&layout());
        for line in config.lines().filter(|line| line.contains("\"/")) {
            assert!(
                line.contains("\"/somewhere/containerd/") || line.contains("\"/usr/"),
                "{line}"
            );
        }
        assert!(config.contains("restrict_oom_score_adj = true"));
    }

    #[test]
    fn kubeconfig_names_the_client_files() {
        let config = kubeconfig(&layout(), "admin");
        assert_eq!(
            config["users"][0]["user"]["client-key"],
            "/somewhere/pki/admin.key"
        );
        assert_eq!(
            config["clusters"][0]["cluster"]["server"],
            "https://10.203.0.1:6443"
        );
    }
}
