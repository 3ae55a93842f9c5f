//! Every address and name of the test cluster, in one place.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// A name of the outside world that leads to the node instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    pub(crate) host: &'static str,
    pub(crate) address: Ipv4Addr,
    pub(crate) scope: Scope,
}

/// How much of the name space below a name goes the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Exact,
    /// S3 addresses a bucket as a host below its own name.
    WithSubdomains,
}

/// The names that resolve on the node and in its pods. All others are unknown there.
pub(crate) const NAMES: [Name; 7] = [
    Name {
        host: "sts.amazonaws.com",
        address: NODE_ADDRESS,
        scope: Scope::Exact,
    },
    Name {
        host: "sts.us-east-1.amazonaws.com",
        address: NODE_ADDRESS,
        scope: Scope::Exact,
    },
    Name {
        host: "s3.amazonaws.com",
        address: NODE_ADDRESS,
        scope: Scope::WithSubdomains,
    },
    Name {
        host: "s3.us-east-1.amazonaws.com",
        address: NODE_ADDRESS,
        scope: Scope::WithSubdomains,
    },
    Name {
        host: "d1dexjaad4ian0.cloudfront.net",
        address: CDN_ADDRESS,
        scope: Scope::Exact,
    },
    Name {
        host: "strict-sts.example",
        address: STRICT_STS_ADDRESS,
        scope: Scope::Exact,
    },
    Name {
        host: STORE_HOST,
        address: STORE_ADDRESS,
        scope: Scope::Exact,
    },
];

/// A hosts file knows no wildcards: these buckets are named in it.
const BUCKETS: [&str; 1] = ["openunison-sts-docs"];

pub(crate) const NODE_NAME: &str = "node";
/// The node itself; kube-apiserver and the AWS stand-in listen here.
pub(crate) const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 203, 0, 1);
/// Free for a stand-in of the content delivery network.
pub(crate) const CDN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 203, 0, 2);
/// Free for a second, strict STS.
pub(crate) const STRICT_STS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 203, 0, 3);
/// Free for a store that documents publish themselves in.
pub(crate) const STORE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 203, 0, 4);
pub(crate) const STORE_HOST: &str = "store.example";
const NODE_ADDRESSES: [Ipv4Addr; 4] =
    [NODE_ADDRESS, CDN_ADDRESS, STRICT_STS_ADDRESS, STORE_ADDRESS];
pub(crate) const POD_RANGE: &str = "10.201.0.0/24";
pub(crate) const SERVICE_RANGE: &str = "10.202.0.0/24";
/// The Service `kubernetes`: the first address of the range.
pub(crate) const API_SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 202, 0, 1);
pub(crate) const DNS_SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 202, 0, 10);
pub(crate) const ETCD_CLIENT_URL: &str = "http://127.0.0.1:12379";
pub(crate) const ETCD_PEER_URL: &str = "http://127.0.0.1:12380";

/// Where kube-apiserver listens, which is also the issuer of its tokens.
pub(crate) fn apiserver_url() -> String {
    format!("https://{NODE_ADDRESS}:{APISERVER_PORT}")
}

pub(crate) const APISERVER_PORT: u16 = 6443;

/// The addresses a person needs, each with what it is.
pub(crate) fn overview() -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("apiserver", apiserver_url()),
        ("pods", POD_RANGE.to_owned()),
        (
            "services",
            format!("{SERVICE_RANGE}, DNS {DNS_SERVICE_ADDRESS}"),
        ),
    ];
    rows.extend(
        NAMES
            .iter()
            .map(|name| ("name", format!("{} -> {}", name.host, name.address))),
    );
    rows
}

/// The `/etc/hosts` of the node's own processes.
pub(crate) fn render_hosts() -> String {
    let mut lines = vec![
        "127.0.0.1 localhost".to_owned(),
        format!("{NODE_ADDRESS} {NODE_NAME}"),
    ];
    for Name {
        host,
        address,
        scope,
    } in NAMES
    {
        lines.push(format!("{address} {host}"));
        if scope == Scope::WithSubdomains {
            lines.extend(BUCKETS.map(|bucket| format!("{address} {bucket}.{host}")));
        }
    }
    lines.join("\n") + "\n"
}

/// The commands for `ip -batch` that make the node's network: a bridge, because not every kernel has dummy devices.
pub(crate) fn render_links() -> String {
    let [node, cdn, strict_sts, store] =
        NODE_ADDRESSES.map(|address| format!("address add {address}/24 dev node0"));
    // Processes on the node have no other route to a ClusterIP: there is no default route.
    let route = format!("route add {SERVICE_RANGE} dev node0");
    let commands = [
        "link set lo up",
        "link add node0 type bridge",
        &node,
        &cdn,
        &strict_sts,
        &store,
        "link set node0 up",
        &route,
    ];
    commands.join("\n") + "\n"
}

/// CoreDNS's configuration. The catch-all must be a block of its own: `template` runs before `kubernetes`, and would
/// answer for it.
pub(crate) fn render_corefile() -> String {
    let cluster = "cluster.local:5353 in-addr.arpa:5353 ip6.arpa:5353 {
    errors
    ready :8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        ttl 5
    }
}
";
    let outside = NODE_ADDRESSES.map(render_outside_block).concat();
    let rest = ".:5353 {\n    errors\n    template ANY ANY {\n        rcode NXDOMAIN\n    }\n}\n";
    format!("{cluster}{outside}{rest}")
}

/// The names of one address. Another type than A has an empty answer, so that clients which ask for IPv6 too do not
/// fail; a name beside them is unknown.
fn render_outside_block(address: Ipv4Addr) -> String {
    let names: Vec<Name> = NAMES
        .into_iter()
        .filter(|name| name.address == address)
        .collect();
    let zones: Vec<String> = names
        .iter()
        .map(|name| format!("{}:5353", name.host))
        .collect();
    let patterns: Vec<String> = names
        .iter()
        .map(|Name { host, scope, .. }| {
            let below = match scope {
                Scope::Exact => "",
                Scope::WithSubdomains => "([^.]+[.])*",
            };
            format!("{below}{}", host.replace('.', "[.]"))
        })
        .collect();
    let pattern = format!("^({})[.]$", patterns.join("|"));
    let template = |kind: &str, answer: &str| {
        format!(
            "    template {kind} {{\n        match \"{pattern}\"\n        {answer}\n        fallthrough\n    }}\n"
        )
    };
    let known = template(
        "IN A",
        &format!("answer \"{{{{ .Name }}}} 5 IN A {address}\""),
    );
    let empty = template("ANY ANY", "rcode NOERROR");
    let unknown = "    template ANY ANY {\n        rcode NXDOMAIN\n    }\n";
    format!(
        "{} {{\n    errors\n{known}{empty}{unknown}}}\n",
        zones.join(" ")
    )
}

/// Everything CoreDNS is made of in the cluster, as `kubectl apply` takes it.
pub(crate) fn render_dns_manifests() -> String {
    let config: Value = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "coredns", "namespace": "kube-system" },
        "data": { "Corefile": render_corefile() },
    });
    format!("{config}\n---\n{}", include_str!("coredns.yaml"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image;

    #[test]
    fn hosts_name_the_buckets() {
        let hosts = render_hosts();
        for line in [
            "10.203.0.1 sts.amazonaws.com",
            "10.203.0.1 openunison-sts-docs.s3.us-east-1.amazonaws.com",
            "10.203.0.2 d1dexjaad4ian0.cloudfront.net",
            "10.203.0.3 strict-sts.example",
            "10.203.0.4 store.example",
        ] {
            assert!(
                hosts.lines().any(|found| found == line),
                "{line} in {hosts}"
            );
        }
    }

    #[test]
    fn outside_block_answers_subdomains_only_where_wanted() {
        let block = render_outside_block(NODE_ADDRESS);
        assert!(block.starts_with(
            "sts.amazonaws.com:5353 sts.us-east-1.amazonaws.com:5353 s3.amazonaws.com:5353 "
        ));
        assert!(block.contains("^(sts[.]amazonaws[.]com|"), "{block}");
        assert!(
            block.contains("|([^.]+[.])*s3[.]amazonaws[.]com|"),
            "{block}"
        );
        assert!(
            block.contains("answer \"{{ .Name }} 5 IN A 10.203.0.1\""),
            "{block}"
        );
    }

    #[test]
    fn every_opened_brace_is_closed() {
        let corefile = render_corefile();
        assert_eq!(corefile.matches('{').count(), corefile.matches('}').count());
        assert_eq!(corefile.matches(":8181").count(), 1);
    }

    #[test]
    fn manifests_use_the_image_we_make() {
        let manifests = render_dns_manifests();
        assert!(manifests.contains(&format!("image: {}\n", image::COREDNS)));
        assert!(manifests.contains(&format!("clusterIP: {DNS_SERVICE_ADDRESS}\n")));
    }
}
