//! Pid 1 of the node: makes its mounts and its network, starts its programs in order, then reaps.
//!
//! It runs in mount, pid and network namespaces of its own, so that killing it takes everything away again.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::address::{NODE_NAME, apiserver_url, render_links};
use super::layout::Layout;
use super::supervise::Supervisor;
use super::{daemons, exec};
use crate::poll;
use crate::progress::{Stopwatch, output_of};
use crate::workspace::HIDDEN_IN_NODE;

/// What the host tells pid 1.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The folder of the Kubernetes programs.
    pub(crate) programs: PathBuf,
    /// Image tars nothing starts without.
    pub(crate) base_images: Vec<PathBuf>,
    /// Image tars that may come a little later.
    pub(crate) more_images: Vec<PathBuf>,
}

/// Never returns but with an error.
pub(crate) fn run(root: &Path) -> Result<()> {
    ensure!(std::process::id() == 1, "this is for pid 1 of a new node");
    let layout = Layout::at(root.to_owned());
    let plan = fs::read(layout.node_plan()).context("pid 1 has no plan")?;
    let Plan {
        programs,
        base_images,
        more_images,
    } = serde_json::from_slice(&plan)?;
    let watch = Stopwatch::start();
    let report = |what: &str| println!("{:5.1} s  {what}", watch.seconds());
    prepare_mounts(&layout)?;
    prepare_network()?;

    let mut supervisor = Supervisor::new(layout.clone());
    supervisor.start(&daemons::etcd(&layout))?;
    supervisor.start(&daemons::apiserver(&layout, &programs))?;
    supervisor.start(&daemons::containerd(&layout))?;
    let containerd_limit = Duration::from_secs(60);
    poll::until("containerd", containerd_limit, || {
        supervisor.require_all()?;
        let version = output_of(exec::ctr(&layout).arg("version"));
        Ok(version.ok())
    })?;
    import(&layout, &base_images)?
        .iter_mut()
        .try_for_each(require_success)?;
    report("containerd runs, images imported");

    poll::until("kube-apiserver", START_LIMIT, || {
        supervisor.require_all()?;
        Ok(api_get(&layout, "/readyz").ok())
    })?;
    report("kube-apiserver is ready");
    // Before that, the controller manager would exit: its permissions are not there yet.
    supervisor.start(&daemons::controller_manager(&layout, &programs))?;
    supervisor.start(&daemons::scheduler(&layout, &programs))?;
    supervisor.start(&daemons::kubelet(&layout, &programs))?;
    supervisor.start(&daemons::proxy(&layout, &programs))?;
    let mut imports = import(&layout, &more_images)?;
    poll::until("the node to be Ready", START_LIMIT, || {
        supervisor.require_all()?;
        Ok(is_node_ready(&layout).then_some(()))
    })?;
    report("the node is Ready");
    imports.iter_mut().try_for_each(require_success)?;
    fs::write(layout.node_ready(), [])?;
    supervisor.reap_forever()
}

/// Hides what CNI, kubelet and containerd write outside their configured folders, and the host's names.
fn prepare_mounts(layout: &Layout) -> Result<()> {
    const NONE: Option<&str> = None;
    for folder in HIDDEN_IN_NODE {
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), NONE)
            .with_context(|| format!("cannot mount over {folder}"))?;
    }
    fs::create_dir("/run/containerd")?;
    mount(
        Some(&layout.path("hosts")),
        "/etc/hosts",
        NONE,
        MsFlags::MS_BIND,
        NONE,
    )
    .context("cannot mount over /etc/hosts")?;
    // Volumes must reach the containers: the kubelet mounts them after those have their own namespaces.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SHARED, NONE)
        .context("cannot share the mounts")
}

/// No uplink and no default route: nothing can leave.
fn prepare_network() -> Result<()> {
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start ip")?;
    if let Some(mut stdin) = ip.stdin.take() {
        stdin.write_all(render_links().as_bytes())?;
    }
    ensure!(ip.wait()?.success(), "cannot set up the node's network");
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot switch on forwarding")
}

/// Starts an import of each tar.
fn import(layout: &Layout, images: &[PathBuf]) -> Result<Vec<Child>> {
    let mut children = Vec::new();
    for image in images {
        let child = exec::ctr(layout)
            .args(["image", "import"])
            .arg(image)
            .stdout(Stdio::null())
            .spawn()?;
        children.push(child);
    }
    let mut imported = fs::read_to_string(layout.imported()).unwrap_or_default();
    for image in images {
        imported += &image.to_string_lossy();
        imported.push('\n');
    }
    fs::write(layout.imported(), imported)?;
    Ok(children)
}

fn require_success(child: &mut Child) -> Result<()> {
    ensure!(
        child.wait()?.success(),
        "cannot import an image (see above)"
    );
    Ok(())
}

fn is_node_ready(layout: &Layout) -> bool {
    let node = api_get(layout, &format!("/api/v1/nodes/{NODE_NAME}"));
    let node: Option<Value> = node.ok().and_then(|text| serde_json::from_str(&text).ok());
    let conditions = node
        .as_ref()
        .and_then(|node| node.pointer("/status/conditions")?.as_array());
    conditions.is_some_and(|conditions| conditions.iter().any(is_ready))
}

fn is_ready(condition: &Value) -> bool {
    let field = |name: &str| condition.get(name).and_then(Value::as_str);
    field("type") == Some("Ready") && field("status") == Some("True")
}

/// With curl, which starts ten times faster than kubectl.
fn api_get(layout: &Layout, path: &str) -> Result<String> {
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--fail",
        "--noproxy",
        "*",
        "--max-time",
        "5",
        "--cacert",
    ])
    .arg(layout.path("pki/ca.crt"))
    .arg("--cert")
    .arg(layout.path("pki/admin.crt"))
    .arg("--key")
    .arg(layout.path("pki/admin.key"))
    .arg(format!("{}{path}", apiserver_url()));
    output_of(&mut curl)
}

const START_LIMIT: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ready_means_true() {
        assert!(is_ready(&json!({ "type": "Ready", "status": "True" })));
        assert!(!is_ready(&json!({ "type": "Ready", "status": "False" })));
        assert!(!is_ready(
            &json!({ "type": "DiskPressure", "status": "True" })
        ));
    }
}
