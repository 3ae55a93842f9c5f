//! A file, and what becomes of it.
//!
//! Polled, not watched: a mounted ConfigMap or Secret changes by the swap of a symbolic link, which a watch on the file does not see.

use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::time::sleep;

use crate::log::chain;

/// The contents of a file, one after the other.
#[derive(Debug)]
pub struct FileChanges {
    path: PathBuf,
    look_every: Duration,
    /// What was given out last.
    told: Option<Seen>,
    /// What the last look found, where a content has to be found twice.
    last: Option<Seen>,
    is_patient: bool,
}

/// A file cannot be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{path} cannot be read: {reason}")]
pub struct UnreadableFile {
    path: String,
    reason: String,
}

type Seen = Result<Vec<u8>, UnreadableFile>;

impl FileChanges {
    /// A file of which nothing is known: its present content comes first, at once.
    pub fn new(path: &Path, look_every: Duration) -> Self {
        Self {
            path: path.to_owned(),
            look_every,
            told: None,
            last: None,
            is_patient: false,
        }
    }

    /// A file whose content is known: the next one comes first.
    ///
    /// A content counts when two looks in a row found the same, so that one that is being written is not taken for whole.
    pub fn after(path: &Path, look_every: Duration, known: Vec<u8>) -> Self {
        Self {
            told: Some(Ok(known)),
            is_patient: true,
            ..Self::new(path, look_every)
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a content that is not the one before it. Loses nothing when it is dropped.
    ///
    /// # Errors
    /// [`UnreadableFile`], once for each way in which it cannot be read.
    pub async fn next(&mut self) -> Result<Vec<u8>, UnreadableFile> {
        loop {
            let seen = read(&self.path).await;
            let is_settled = !self.is_patient || self.last.as_ref() == Some(&seen);
            if is_settled && self.told.as_ref() != Some(&seen) {
                self.told = Some(seen.clone());
                return seen;
            }
            self.last = Some(seen);
            sleep(self.look_every).await;
        }
    }
}

async fn read(path: &Path) -> Seen {
    tokio::fs::read(path).await.map_err(|error| UnreadableFile {
        path: path.display().to_string(),
        reason: chain(&error).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;

    const LOOK: Duration = Duration::from_millis(5);
    const PATIENCE: Duration = Duration::from_secs(10);

    async fn next(changes: &mut FileChanges) -> Result<String, UnreadableFile> {
        let content = timeout(PATIENCE, changes.next()).await.unwrap()?;
        Ok(String::from_utf8(content).unwrap())
    }

    /// As the kubelet does it: `file` → `..data/file`, and `..data` → a folder that is another one each time.
    fn swap(volume: &Path, number: u32, content: &str) {
        let folder = format!("..{number}");
        std::fs::create_dir(volume.join(&folder)).unwrap();
        std::fs::write(volume.join(&folder).join("file"), content).unwrap();
        symlink(folder, volume.join("..data_tmp")).unwrap();
        std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    }

    #[tokio::test]
    async fn a_swapped_link_is_a_change_and_the_same_content_is_none() {
        let volume = TempDir::new().unwrap();
        swap(volume.path(), 1, "one");
        symlink("..data/file", volume.path().join("file")).unwrap();
        let mut changes = FileChanges::after(&volume.path().join("file"), LOOK, b"one".to_vec());
        assert!(timeout(LOOK * 10, changes.next()).await.is_err());
        swap(volume.path(), 2, "one");
        assert!(timeout(LOOK * 10, changes.next()).await.is_err());
        swap(volume.path(), 3, "two");
        assert_eq!(next(&mut changes).await.unwrap(), "two");
        swap(volume.path(), 4, "one");
        assert_eq!(next(&mut changes).await.unwrap(), "one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_content_counts_when_it_was_found_twice() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "half").unwrap();
        let mut changes = FileChanges::after(&path, Duration::from_secs(1), Vec::new());
        let half_a_look = Duration::from_millis(500);
        assert!(timeout(half_a_look, changes.next()).await.is_err());
        std::fs::write(&path, "half and half").unwrap();
        assert_eq!(next(&mut changes).await.unwrap(), "half and half");
    }

    #[tokio::test]
    async fn a_file_that_is_gone_is_said_once() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("file");
        let mut changes = FileChanges::new(&path, LOOK);
        let error = next(&mut changes).await.unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
        assert!(timeout(LOOK * 10, changes.next()).await.is_err());
        std::fs::write(&path, "here").unwrap();
        assert_eq!(next(&mut changes).await.unwrap(), "here");
    }
}
