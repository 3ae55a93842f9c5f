//! Things that are expensive to make, kept under the fingerprint of what they are made from.
//!
//! An entry is a folder that counts only when it holds the marker file, which is written last. So a build that
//! was interrupted is never used, and a build may write its own final path into its files (a Python venv must).

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::progress::say;

/// The folder of everything that survives a run.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// Held as long as nobody else may do the same; ends with the process, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// What an entry is made from, reduced to a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

/// Collects what an entry is made from.
#[derive(Debug, Default)]
pub(crate) struct Fingerprint(Sha256);

impl Cache {
    /// The folder need not be there: whatever writes makes it.
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the output of a long-running step goes.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join("log").join(format!("{name}.log"))
    }

    /// The folder of all test clusters' files.
    pub(crate) fn clusters(&self) -> PathBuf {
        self.root.join("clusters")
    }

    /// Waits until no other run holds the lock of this name.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock> {
        let folder = self.root.join("locks");
        fs::create_dir_all(&folder)?;
        let file = File::create(folder.join(name))?;
        if file.try_lock().is_err() {
            say(format!("waiting for another run to end: {name}"));
            file.lock().with_context(|| format!("cannot lock {name}"))?;
        }
        Ok(Lock { _file: file })
    }

    /// The folder of `kind`/`name` made from `key`; `build` fills it if it is not there yet.
    pub(crate) fn entry(
        &self,
        kind: &str,
        name: &str,
        key: &Key,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let siblings = self.root.join(kind);
        let folder = siblings.join(format!("{name}-{key}"));
        if is_complete(&folder) {
            return Ok(folder);
        }
        let _lock = self.lock(&format!("{kind}-{name}"))?;
        if is_complete(&folder) {
            return Ok(folder);
        }
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove the half-built {}", folder.display()))?;
        }
        fs::create_dir_all(&folder)?;
        build(&folder).with_context(|| format!("cannot build {kind}/{name}"))?;
        fs::write(folder.join(MARKER), [])?;
        prune(&siblings, name, &folder)?;
        Ok(folder)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Fingerprint {
    /// Starts from a number to raise when the way of building changes.
    pub(crate) fn of_recipe(version: u32) -> Self {
        Self::default().text(&version.to_string())
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn file(self, path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self.bytes(&bytes))
    }

    /// The length goes first, so that two parts are never mistaken for one.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes.len().to_string());
        self.0.update(b":");
        self.0.update(bytes);
        self
    }

    pub(crate) fn key(self) -> Key {
        let digest = hex(&self.0.finalize());
        Key(digest.chars().take(KEY_DIGITS).collect())
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

fn is_complete(folder: &Path) -> bool {
    folder.join(MARKER).exists()
}

/// Removes older siblings. Young ones stay: another working tree, or a running cluster, may use them.
fn prune(siblings: &Path, name: &str, keep: &Path) -> Result<()> {
    for entry in fs::read_dir(siblings)? {
        let path = entry?.path();
        let is_sibling = path
            .file_name()
            .and_then(|file_name| file_name.to_str())
            .and_then(|file_name| file_name.strip_prefix(name)?.strip_prefix('-'))
            .is_some_and(|key| {
                key.len() == KEY_DIGITS && key.bytes().all(|byte| byte.is_ascii_hexdigit())
            });
        let age = path.metadata()?.modified()?.elapsed().unwrap_or_default();
        if is_sibling && path != keep && age > PRUNE_AGE {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

const MARKER: &str = ".complete";
const KEY_DIGITS: usize = 20;
const PRUNE_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn parts_are_not_mistaken_for_one() {
        let apart = Fingerprint::default().text("ab").text("c").key();
        let together = Fingerprint::default().text("a").text("bc").key();
        assert_ne!(apart, together);
        assert_eq!(apart, Fingerprint::default().text("ab").bytes(b"c").key());
        assert_eq!(apart.to_string().len(), KEY_DIGITS);
    }

    #[test]
    fn builds_once_for_each_key() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let (first, second) = (
            Fingerprint::of_recipe(1).key(),
            Fingerprint::of_recipe(2).key(),
        );
        let one = cache
            .entry("kind", "name", &first, |dir| {
                Ok(fs::write(dir.join("x"), "1")?)
            })
            .unwrap();
        assert_eq!(
            cache
                .entry("kind", "name", &first, |_| bail!("built twice"))
                .unwrap(),
            one
        );
        let two = cache.entry("kind", "name", &second, |_| Ok(())).unwrap();
        assert_ne!(one, two);
        assert!(one.join("x").exists(), "a young entry of another key stays");
    }

    #[test]
    fn half_built_is_never_used() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        let key = Fingerprint::of_recipe(1).key();
        let broken = cache.entry("kind", "name", &key, |dir| {
            fs::write(dir.join("leftover"), "")?;
            bail!("no")
        });
        broken.unwrap_err();
        let built = cache.entry("kind", "name", &key, |_| Ok(())).unwrap();
        assert!(!built.join("leftover").exists());
    }
}
