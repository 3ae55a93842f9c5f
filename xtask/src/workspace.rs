//! Where everything is: this repository, the cache, and what the environment asks for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::cache::Cache;

/// Options every command takes. The environment is read here alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Folder for tools, images and clusters [default: $XDG_CACHE_HOME/kube-sts or ~/.cache/kube-sts]
    #[arg(long, global = true, env = "KUBE_STS_CACHE", value_name = "DIR")]
    cache_dir: Option<OsString>,

    #[arg(long, global = true, env = "XDG_CACHE_HOME", hide = true)]
    xdg_cache_home: Option<OsString>,

    /// Folder with an etcd and a kube-apiserver to use in the API tests instead of our own
    #[arg(long, global = true, env = "KUBEBUILDER_ASSETS", value_name = "DIR")]
    kubebuilder_assets: Option<OsString>,
}

/// The surroundings of one run.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The repository's root.
    pub(crate) root: PathBuf,
    pub(crate) cache: Cache,
    pub(crate) kubebuilder_assets: Option<PathBuf>,
}

impl Workspace {
    pub(crate) fn open(options: Options) -> Result<Self> {
        let Options {
            cache_dir,
            xdg_cache_home,
            kubebuilder_assets,
        } = options;
        let cache_dir = match (given(cache_dir), given(xdg_cache_home)) {
            (Some(dir), _) => dir,
            (None, Some(xdg)) => xdg.join("kube-sts"),
            (None, None) => std::env::home_dir()
                .context("no home directory: set KUBE_STS_CACHE")?
                .join(".cache/kube-sts"),
        };
        let cache_dir = std::path::absolute(cache_dir)?;
        ensure!(
            !HIDDEN_IN_NODE
                .iter()
                .any(|hidden| cache_dir.starts_with(hidden)),
            "the cache {} would be hidden in the test node, which has its own {}: set KUBE_STS_CACHE to another place",
            cache_dir.display(),
            HIDDEN_IN_NODE.join(", "),
        );
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask has no parent folder")?;
        Ok(Self {
            root: root.to_owned(),
            cache: Cache::at(cache_dir),
            kubebuilder_assets: given(kubebuilder_assets),
        })
    }
}

/// A variable that is set but empty counts as not given.
fn given(value: Option<OsString>) -> Option<PathBuf> {
    value.filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The node mounts an empty file system of its own over each of these.
pub(crate) const HIDDEN_IN_NODE: [&str; 3] = ["/run", "/var/lib", "/var/log"];
