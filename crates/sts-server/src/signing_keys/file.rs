//! A signing key in a file, for a server without a cluster.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sts_config::SigningAlgorithm;
use sts_core::keys::ring::{Inputs, Ring, Sight, Terms, advance};
use sts_core::sign::SigningKey;
use svc_runtime::log::chain;
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::api_clock::seconds;
use super::{Key, KeyRing, Keys, SigningKeyError, Surroundings, generate};

/// Loads a file's key, trying until it is there. It is a ring of one key: whoever wrote the file replaces it, and restarts the server.
pub(super) async fn keep(
    ring: &KeyRing,
    path: &Path,
    algorithm: SigningAlgorithm,
    create: bool,
    surroundings: &Surroundings,
) -> Result<(), SigningKeyError> {
    let Surroundings {
        condition,
        shutdown,
        ..
    } = surroundings;
    loop {
        match load(path, algorithm, create)
            .await
            .and_then(|key| install(ring, key))
        {
            Ok(()) => {
                condition.met();
                return Ok(());
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "signing key cannot be loaded");
                condition.unmet(error.to_string());
            }
        }
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = sleep(RETRY) => {}
        }
    }
}

/// How soon it is tried again when a key cannot be had.
const RETRY: Duration = Duration::from_secs(2);

/// The first key of a ring signs at once.
fn install(ring: &KeyRing, key: SigningKey) -> Result<(), SigningKeyError> {
    let id = key.key_id().clone();
    let inputs = Inputs {
        given: Some((&id, key.algorithm())),
        ..Inputs::default()
    };
    let terms = terms_of_file(&ring.terms);
    let now = seconds(svc_runtime::clock::now()).ok_or(SigningKeyError::Silence)?;
    let next = advance(&Ring::default(), &terms, &inputs, now);
    tracing::info!(kid = %id, "signing key is loaded");
    let keys = Keys::from([(id, Key::Private(Arc::new(key)))]);
    ring.install(&next.ring, keys, None)
}

/// Nothing follows a file's key, whatever the terms say of that.
fn terms_of_file(terms: &Terms) -> Terms {
    Terms {
        sight: Sight::ByTime,
        rotate_every: None,
        ..terms.clone()
    }
}

/// The ring of a file's key as other terms have it.
pub(super) fn on_terms(ring: &Ring, terms: &Terms) -> Result<Ring, SigningKeyError> {
    let now = seconds(svc_runtime::clock::now()).ok_or(SigningKeyError::Silence)?;
    Ok(advance(ring, &terms_of_file(terms), &Inputs::default(), now).ring)
}

/// Reads the key; makes it if the file is absent and `create` says so.
async fn load(
    path: &Path,
    algorithm: SigningAlgorithm,
    create: bool,
) -> Result<SigningKey, SigningKeyError> {
    let failed = |verb| {
        move |source| SigningKeyError::File {
            path: path.display().to_string(),
            verb,
            source,
        }
    };
    match std::fs::read_to_string(path) {
        Ok(pem) => {
            let pem = Zeroizing::new(pem);
            for exposure in exposures(path).map_err(failed("looked at"))? {
                tracing::warn!(path = %path.display(), "{exposure}");
            }
            parse(path, &pem, algorithm)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
            let key = generate(algorithm).await?;
            let pem = key.to_pem().map_err(|source| SigningKeyError::Key {
                place: "memory".to_owned(),
                source,
            })?;
            match write_new(path, &pem) {
                Ok(()) => parse(path, &pem, algorithm),
                // Another process was first: its key counts.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let pem = std::fs::read_to_string(path).map_err(failed("read"))?;
                    parse(path, &Zeroizing::new(pem), algorithm)
                }
                Err(error) => Err(failed("created")(error)),
            }
        }
        Err(error) => Err(failed("read")(error)),
    }
}

/// What lets others have the key, or put another in its place.
///
/// A group may read it: that is how the kubelet lets a program have a Secret's files that does not run as root.
fn exposures(path: &Path) -> io::Result<Vec<&'static str>> {
    let real = path.canonicalize()?;
    let mode = real.metadata()?.mode();
    // The links of a volume lead to a folder within it.
    let folder = Path::new(".").join(path).parent().map(Path::canonicalize);
    let folder = folder.transpose()?.unwrap_or_default();
    let found = [
        (
            mode & 0o004 != 0,
            "everybody on this machine can read the signing key: chmod 600, or defaultMode: 0440 of a Secret's volume",
        ),
        (
            mode & 0o022 != 0,
            "others than its owner can replace the signing key: chmod 600",
        ),
        (
            !real.starts_with(&folder),
            "the signing key's file is a link that leads out of its folder: name the file it leads to",
        ),
    ];
    let found = found.into_iter().filter(|(is_so, _)| *is_so);
    Ok(found.map(|(_, exposure)| exposure).collect())
}

fn parse(
    path: &Path,
    pem: &str,
    algorithm: SigningAlgorithm,
) -> Result<SigningKey, SigningKeyError> {
    SigningKey::from_pem(pem, algorithm).map_err(|source| SigningKeyError::Key {
        place: path.display().to_string(),
        source,
    })
}

/// Writes the key beside the file and links it into place, so that the file is whole from its first moment and is never replaced.
/// Readable by its owner alone.
fn write_new(path: &Path, pem: &str) -> io::Result<()> {
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        std::fs::create_dir_all(directory)?;
    }
    let temporary = path.with_extension(format!("{}.pem.tmp", std::process::id()));
    // One that is there was left behind by a process of the same id, or laid there by somebody who would like to read the key.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&temporary, path);
    std::fs::remove_file(&temporary)?;
    linked
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_laid_in_the_way_does_not_get_the_key() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("key.pem");
        let trap = directory.path().join("trap");
        std::fs::write(&trap, "open to all").unwrap();
        let temporary = path.with_extension(format!("{}.pem.tmp", std::process::id()));
        std::os::unix::fs::symlink(&trap, &temporary).unwrap();
        write_new(&path, "key").unwrap();
        assert_eq!(std::fs::read_to_string(&trap).unwrap(), "open to all");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "key");
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(!temporary.exists());
    }
}
