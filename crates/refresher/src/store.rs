//! The files: a token's is replaced as a whole or not at all, and is readable by any user of the pod.
//!
//! ```text
//! <token-dir>/<endpoint>/token     what the application reads
//! <token-dir>/<endpoint>/<name>    what a template puts beside it
//! <token-dir>/<endpoint>/.status   why there is no newer one; gone when there is
//! ```
//!
//! `.status` is how `run` tells `wait` why it fails. It is in the token directory because the sidecar has no other
//! writable volume, and has a dot name so that applications do not stumble over it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{Mode, OFlags};
use thiserror::Error;

use crate::clock::WallTime;
use crate::config::EndpointName;
use crate::token_text::{TokenText, TokenTextError, render_foreign_text};

/// The directory with every endpoint's token.
#[derive(Clone, Debug)]
pub struct TokenDir(PathBuf);

impl TokenDir {
    /// The directory at `path`, which should exist: it is the volume.
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Puts the token in its file.
    ///
    /// # Errors
    /// If the volume is full, read-only or somebody else's. The former file is then untouched.
    pub fn replace_token(&self, name: &EndpointName, token: &TokenText) -> Result<(), StoreError> {
        self.replace(name, TOKEN_FILE, token.expose().as_bytes())
    }

    /// Puts text in a file beside the token, unless it is there already: who watches the file is not woken for nothing.
    ///
    /// # Errors
    /// As [`replace_token`](Self::replace_token).
    pub fn replace_companion(
        &self,
        name: &EndpointName,
        file: &str,
        text: &str,
    ) -> Result<(), StoreError> {
        if self.load_text(name, file).is_ok_and(|found| found == text) {
            return Ok(());
        }
        self.replace(name, file, text.as_bytes())
    }

    /// Where the token is.
    pub fn token_file(&self, name: &EndpointName) -> PathBuf {
        self.file(name, TOKEN_FILE)
    }

    /// When the token was written, and when it ends; none if there is no file that can be read, or nothing that is a token in it.
    pub fn token_times(&self, name: &EndpointName) -> Option<(WallTime, WallTime)> {
        let written = self.written(name, TOKEN_FILE)?;
        // As of 1970, so that a token that is over counts too.
        let token = self.load_token(name, WallTime::from_unix_seconds(0)).ok()?;
        Some((written, token.expires()))
    }

    /// When the last failure was noted, if it was since the last success.
    pub fn failure_time(&self, name: &EndpointName) -> Option<WallTime> {
        self.written(name, STATUS_FILE)
    }

    /// When something was last made or removed in the endpoint's directory; before there is one, when the volume was made.
    pub fn touched(&self, name: &EndpointName) -> Option<WallTime> {
        let own = fs::metadata(self.0.join(name.as_str()));
        let modified = own
            .or_else(|_| fs::metadata(&self.0))
            .ok()?
            .modified()
            .ok()?;
        Some(WallTime::of(modified))
    }

    fn written(&self, name: &EndpointName, file: &str) -> Option<WallTime> {
        let file = self.open(name, file).ok()?;
        Some(WallTime::of(file.metadata().ok()?.modified().ok()?))
    }

    /// Reads the token back.
    ///
    /// # Errors
    /// If there is no live token in the file.
    pub fn load_token(&self, name: &EndpointName, now: WallTime) -> Result<TokenText, Absence> {
        let text = self.load_text(name, TOKEN_FILE).map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                Absence::Missing
            } else {
                Absence::Unreadable(error)
            }
        })?;
        Ok(TokenText::parse(&text, now)?)
    }

    /// Leaves the reason of the last failure for `wait`.
    ///
    /// # Errors
    /// As [`replace_token`](Self::replace_token).
    pub fn leave_status(&self, name: &EndpointName, reason: &str) -> Result<(), StoreError> {
        self.replace(name, STATUS_FILE, reason.as_bytes())
    }

    /// Takes away the reason of a failure that is over.
    pub fn clear_status(&self, name: &EndpointName) {
        drop(fs::remove_file(self.file(name, STATUS_FILE)));
    }

    /// The reason of the last failure, fit for a log: the volume is not only ours to write to if somebody
    /// made it so.
    pub fn load_status(&self, name: &EndpointName) -> Option<String> {
        let text = self.load_text(name, STATUS_FILE).ok()?;
        Some(render_foreign_text(&text))
    }

    /// Removes what a run that was killed may have left, but for the token.
    pub fn sweep(&self, name: &EndpointName) {
        self.clear_status(name);
        for entry in fs::read_dir(self.0.join(name.as_str()))
            .into_iter()
            .flatten()
            .flatten()
        {
            let file_name = entry.file_name();
            if file_name
                .as_encoded_bytes()
                .ends_with(TEMPORARY_SUFFIX.as_bytes())
            {
                drop(fs::remove_file(entry.path()));
            }
        }
    }

    fn replace(&self, name: &EndpointName, file: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let directory = self.0.join(name.as_str());
        make_directory(&directory)?;
        replace_atomically(&directory, file, bytes)
    }

    fn load_text(&self, name: &EndpointName, file: &str) -> io::Result<String> {
        let mut text = String::new();
        self.open(name, file)?
            .take(MAX_FILE)
            .read_to_string(&mut text)?;
        Ok(text)
    }

    /// Opens a file that we wrote. We write no symlinks, and what one leads to is shown to others: the
    /// sidecar can read what they cannot.
    fn open(&self, name: &EndpointName, file: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.0.join(name.as_str());
        let directory = rustix::fs::open(path, flags | OFlags::DIRECTORY, Mode::empty())?;
        // A pipe must not hold us up before we see that it is one.
        let file = rustix::fs::openat(directory, file, flags | OFlags::NONBLOCK, Mode::empty())?;
        let file = File::from(file);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(file)
    }

    fn file(&self, name: &EndpointName, file: &str) -> PathBuf {
        self.0.join(name.as_str()).join(file)
    }
}

/// Replaces `<directory>/<file>`: a reader sees the former bytes or these, at any moment, also after a crash.
///
/// # Errors
/// If it cannot be written. The former file is then untouched, and nothing is left beside it.
pub fn replace_atomically(directory: &Path, file: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = directory.join(format!(".{file}.{}{TEMPORARY_SUFFIX}", process::id()));
    let target = directory.join(file);
    let written = write_new(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, &target))
        .map_err(|source| StoreError {
            path: target,
            source,
        });
    if written.is_err() {
        drop(fs::remove_file(&temporary));
        return written;
    }
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| StoreError {
            path: directory.to_owned(),
            source,
        })
}

/// Why a file could not be replaced.
#[derive(Debug, Error)]
#[error("cannot write {}", path.display())]
pub struct StoreError {
    /// The file, or the directory of it.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl StoreError {
    /// The stable name of this failure.
    pub fn code(&self) -> &'static str {
        let kind = self.source.kind();
        if kind == ErrorKind::StorageFull || kind == ErrorKind::QuotaExceeded {
            "volume_full"
        } else if kind == ErrorKind::ReadOnlyFilesystem {
            "volume_read_only"
        } else if kind == ErrorKind::PermissionDenied {
            "volume_denied"
        } else {
            "write_failed"
        }
    }
}

/// Why an application has no token.
#[derive(Debug, Error)]
pub enum Absence {
    /// There is no file.
    #[error("there is no token file yet")]
    Missing,
    /// There is a file, but without a live token.
    #[error(transparent)]
    Unusable(#[from] TokenTextError),
    /// There is something that cannot be read.
    #[error("the token file cannot be read: {0}")]
    Unreadable(io::Error),
}

/// Mode 0755 whatever the umask: the application's user is not ours.
fn make_directory(directory: &Path) -> Result<(), StoreError> {
    let made = match DirBuilder::new().mode(0o755).create(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => Err(error),
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(0o755)),
    };
    made.map_err(|source| StoreError {
        path: directory.to_owned(),
        source,
    })
}

/// Mode 0644 whatever the umask: the volume is the pod's own, and only we mount it writable.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    file.sync_all()
}

const TOKEN_FILE: &str = "token";
const STATUS_FILE: &str = ".status";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// More than any file of ours has.
const MAX_FILE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    const SECRET: &str = "what only the sidecar may read";

    fn volume() -> (TempDir, TokenDir, EndpointName) {
        let volume = tempfile::tempdir().unwrap();
        fs::create_dir(volume.path().join("tokens")).unwrap();
        fs::create_dir(volume.path().join("elsewhere")).unwrap();
        for file in [TOKEN_FILE, STATUS_FILE] {
            fs::write(volume.path().join("elsewhere").join(file), SECRET).unwrap();
        }
        let tokens = TokenDir::new(volume.path().join("tokens"));
        (volume, tokens, "aws".parse().unwrap())
    }

    #[track_caller]
    fn check_nothing_is_read(tokens: &TokenDir, name: &EndpointName) {
        assert_eq!(tokens.load_status(name), None);
        let absence = tokens.load_token(name, WallTime::from_unix_seconds(0));
        assert!(
            matches!(absence, Err(Absence::Unreadable(_))),
            "{absence:?}"
        );
    }

    #[test]
    fn a_symlink_is_not_followed() {
        let (volume, tokens, name) = volume();
        fs::create_dir(tokens.0.join("aws")).unwrap();
        for file in [TOKEN_FILE, STATUS_FILE] {
            let target = volume.path().join("elsewhere").join(file);
            symlink(target, tokens.file(&name, file)).unwrap();
        }
        check_nothing_is_read(&tokens, &name);
    }

    #[test]
    fn a_symlink_to_a_directory_is_not_followed() {
        let (volume, tokens, name) = volume();
        symlink(volume.path().join("elsewhere"), tokens.0.join("aws")).unwrap();
        check_nothing_is_read(&tokens, &name);
    }

    #[test]
    fn what_is_no_file_is_not_read_nor_waited_for() {
        let (_volume, tokens, name) = volume();
        fs::create_dir(tokens.0.join("aws")).unwrap();
        for file in [TOKEN_FILE, STATUS_FILE] {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mkfifoat(rustix::fs::CWD, tokens.file(&name, file), mode).unwrap();
        }
        check_nothing_is_read(&tokens, &name);
    }

    #[test]
    fn a_status_is_shown_as_foreign_text_is() {
        let (_volume, tokens, name) = volume();
        let long = "a".repeat(100);
        let left = tokens.leave_status(&name, &format!("bad\nline {long}"));
        assert!(left.is_ok());
        let shown = tokens.load_status(&name);
        assert_eq!(shown.as_deref(), Some("bad line [hidden]"));
    }
}
