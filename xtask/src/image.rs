//! The images of the test cluster, made from this machine's files.

mod awscli;
mod layer;
mod libraries;
mod oci;
mod recipes;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::Key;
use crate::progress::{Stopwatch, say};
use crate::workspace::Workspace;
pub(crate) use awscli::awscli;
use layer::Layer;
use oci::{Settings, render_image};
#[cfg(test)]
pub(crate) use recipes::COREDNS;
pub(crate) use recipes::{
    BUSYBOX, PAUSE, Profile, busybox, coredns, example, ours, pause, program, relying_party,
};

/// An image as a tar on disk. Its path changes with its content.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// What a pod names it.
    pub(crate) reference: String,
    pub(crate) tar: PathBuf,
}

impl Image {
    pub(crate) fn megabytes(&self) -> Result<f64> {
        let bytes = self
            .tar
            .metadata()
            .with_context(|| format!("{} is gone", self.tar.display()))?
            .len();
        Ok(f64::from(u32::try_from(bytes / 1000)?) / 1000.0)
    }
}

/// What the node itself needs: nothing runs without these.
pub(crate) fn base(workspace: &Workspace) -> Result<Vec<Image>> {
    Ok(vec![
        pause(workspace)?,
        busybox(workspace)?,
        coredns(workspace)?,
    ])
}

/// Makes the image `reference` unless the cache has it; `compose` may put files into the folder it is given.
fn make(
    workspace: &Workspace,
    reference: &str,
    key: &Key,
    compose: impl FnOnce(&Path) -> Result<(Layer, Settings)>,
) -> Result<Image> {
    let name = reference
        .rsplit('/')
        .next()
        .unwrap_or(reference)
        .split(':')
        .next()
        .unwrap_or(reference);
    let folder = workspace.cache.entry("images", name, key, |folder| {
        let watch = Stopwatch::start();
        let scratch = tempfile::tempdir()?;
        let (layer, settings) = compose(scratch.path())?;
        std::fs::write(
            folder.join(TAR),
            render_image(reference, &layer, &settings)?,
        )?;
        say(format!(
            "image {reference} made in {:.1} s",
            watch.seconds()
        ));
        Ok(())
    })?;
    Ok(Image {
        reference: reference.to_owned(),
        tar: folder.join(TAR),
    })
}

const TAR: &str = "image.tar";
