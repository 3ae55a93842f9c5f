//! Everything of a release gone at once, while its webhook refuses every pod that it is asked about: it has to come back by itself.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::own::Own;
use crate::release::endpoint_for;
use crate::stage::{Stage, stage, wait_for};

const RELEASE: &str = "cold";
const PODS: &str = "cold-pods";

/// The strictest there is: no pod of a chosen namespace without the injector. The release's own namespace has the label too.
const SETTINGS: &str = r#"
server: {replicas: 1}
injector:
  replicas: 1
  serviceAccounts:
    enabled: true
    failurePolicy: Fail
    namespaceSelector: {matchLabels: {cold: "yes"}}
"#;

/// That the API server would take a pod of the namespace.
fn takes(stage: &Stage, namespace: &str) -> Result<()> {
    let image = format!("--image={}", stage.awscli_image);
    let question = ["-n", namespace, "run", "probe", &image, "--dry-run=server"];
    let answer = stage.kubectl(&question);
    answer.map(drop).with_context(|| namespace.to_owned())
}

#[test]
fn adm_035_a_release_whose_pods_are_all_gone_comes_back() -> Result<()> {
    let stage = stage();
    for namespace in [RELEASE, PODS] {
        stage.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: {{cold: 'yes'}}}}}}"
        ))?;
    }
    let endpoint = endpoint_for(RELEASE, "(namespace=cold-pods)");
    let own = Own::install(stage, RELEASE, SETTINGS, &endpoint)?;
    let taken = || takes(stage, PODS).map(Some);
    wait_for("pods to be taken", Duration::from_secs(30), taken)?;
    let both = ["deployment/cold-server", "deployment/cold-injector"];
    let scale = |replicas: &str| {
        let scale = ["-n", RELEASE, "scale", replicas];
        stage.kubectl(&[&scale, &both[..]].concat())
    };
    scale("--replicas=0")?;
    let kill = ["delete", "pods", "--all", "--force", "--grace-period=0"];
    stage.kubectl(&[&["-n", RELEASE], &kill[..]].concat())?;
    let refused = || Ok(takes(stage, PODS).err());
    wait_for("pods to be refused", Duration::from_secs(30), refused)?;
    takes(stage, RELEASE)?;
    takes(stage, "kube-system")?;
    scale("--replicas=1")?;
    for deployment in both {
        let status = ["rollout", "status", deployment, "--timeout=60s"];
        stage.kubectl(&[&["-n", RELEASE], &status[..]].concat())?;
    }
    wait_for("pods to be taken again", Duration::from_secs(30), taken)?;
    own.uninstall(stage)
}
