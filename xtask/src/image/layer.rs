//! The file tree of an image, written as one tar whose bytes depend on nothing but its content.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

/// The files of an image, by their path without the leading slash.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layer {
    nodes: BTreeMap<String, Node>,
}

/// What is at a path.
#[derive(Debug, Clone)]
enum Node {
    Folder { mode: u32 },
    HostFile { source: PathBuf, mode: u32 },
    Link { target: String },
    Text { content: String, mode: u32 },
}

impl Layer {
    /// Every image has a `/tmp` that anybody may write to.
    pub(crate) fn new() -> Self {
        let mut layer = Self::default();
        layer
            .nodes
            .insert("tmp".into(), Node::Folder { mode: 0o1777 });
        layer
    }

    /// A file of the host (a link is followed), with its permission bits.
    pub(crate) fn file(&mut self, path: &str, source: &Path) -> Result<()> {
        let metadata =
            fs::metadata(source).with_context(|| format!("cannot read {}", source.display()))?;
        let mode = metadata.permissions().mode() & 0o777;
        self.insert(
            path,
            Node::HostFile {
                source: source.to_owned(),
                mode,
            },
        );
        Ok(())
    }

    /// A folder of the host with everything in it; links stay links.
    pub(crate) fn folder(&mut self, path: &str, source: &Path) -> Result<()> {
        for entry in
            fs::read_dir(source).with_context(|| format!("cannot read {}", source.display()))?
        {
            let entry = entry?;
            let name = entry
                .file_name()
                .into_string()
                .ok()
                .context("a file name that is not UTF-8")?;
            let inside = format!("{path}/{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.folder(&inside, &entry.path())?;
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path())?;
                self.link(
                    &inside,
                    target.to_str().context("a link target that is not UTF-8")?,
                );
            } else {
                self.file(&inside, &entry.path())?;
            }
        }
        Ok(())
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.insert(
            path,
            Node::Link {
                target: target.to_owned(),
            },
        );
    }

    pub(crate) fn script(&mut self, path: &str, content: &str) {
        self.text(path, content, 0o755);
    }

    pub(crate) fn text(&mut self, path: &str, content: &str, mode: u32) {
        let content = content.to_owned();
        self.insert(path, Node::Text { content, mode });
    }

    fn insert(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/') {
            if let Some(parent) = path.get(..end) {
                self.nodes
                    .entry(parent.to_owned())
                    .or_insert(Node::Folder { mode: 0o755 });
            }
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// The tar. A parent sorts before its children, so the map's order is the right one.
    pub(crate) fn render_tar(&self) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for (path, node) in &self.nodes {
            match node {
                Node::Folder { mode } => {
                    let mut header = header(EntryType::Directory, *mode, 0);
                    tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
                Node::HostFile { source, mode } => {
                    let content = fs::read(source)
                        .with_context(|| format!("cannot read {}", source.display()))?;
                    append_file(&mut tar, path, *mode, &content)?;
                }
                Node::Link { target } => {
                    tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target)?;
                }
                Node::Text { content, mode } => {
                    append_file(&mut tar, path, *mode, content.as_bytes())?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }
}

/// Adds one regular file to a tar.
pub(crate) fn append_file(
    tar: &mut Builder<Vec<u8>>,
    path: &str,
    mode: u32,
    content: &[u8],
) -> Result<()> {
    let size = u64::try_from(content.len())?;
    tar.append_data(&mut header(EntryType::Regular, mode, size), path, content)?;
    Ok(())
}

/// Owner root, time zero: the same content gives the same bytes.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(layer: &Layer) -> Vec<(String, u32, EntryType)> {
        let bytes = layer.render_tar().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            (
                path,
                entry.header().mode().unwrap(),
                entry.header().entry_type(),
            )
        });
        entries.collect()
    }

    #[test]
    fn parents_come_before_their_children() {
        let mut layer = Layer::new();
        layer.script("/usr/local/bin/hello", "#!/bin/sh\n");
        layer.link("usr/bin", "local/bin");
        let expected = [
            ("tmp/", 0o1777, EntryType::Directory),
            ("usr/", 0o755, EntryType::Directory),
            ("usr/bin", 0o777, EntryType::Symlink),
            ("usr/local/", 0o755, EntryType::Directory),
            ("usr/local/bin/", 0o755, EntryType::Directory),
            ("usr/local/bin/hello", 0o755, EntryType::Regular),
        ];
        assert_eq!(
            listing(&layer),
            expected.map(|(path, mode, kind)| (path.to_owned(), mode, kind))
        );
    }

    #[test]
    fn takes_folders_with_their_links_and_modes() {
        let host = tempfile::tempdir().unwrap();
        fs::create_dir(host.path().join("sub")).unwrap();
        fs::write(host.path().join("sub/run"), "x").unwrap();
        fs::set_permissions(
            host.path().join("sub/run"),
            fs::Permissions::from_mode(0o750),
        )
        .unwrap();
        std::os::unix::fs::symlink("sub/run", host.path().join("link")).unwrap();
        let mut layer = Layer::new();
        layer.folder("opt", host.path()).unwrap();
        layer.file("followed", &host.path().join("link")).unwrap();
        let found = listing(&layer);
        assert!(found.contains(&("opt/link".into(), 0o777, EntryType::Symlink)));
        assert!(found.contains(&("opt/sub/run".into(), 0o750, EntryType::Regular)));
        assert!(found.contains(&("followed".into(), 0o750, EntryType::Regular)));
    }

    #[test]
    fn long_paths_survive() {
        let mut layer = Layer::new();
        let path = format!("opt/{}/file", "long/".repeat(40).trim_end_matches('/'));
        layer.script(&path, "x");
        assert!(listing(&layer).iter().any(|(found, ..)| *found == path));
    }
}
