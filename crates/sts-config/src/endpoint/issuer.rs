//! `issuer:` and `key:`: our own form, or OpenUnison's `issuer: {host, path, keypair}`.

use sts_core::claims::SubjectTemplate;
use sts_core::ident::Issuer;

use super::{KeySource, Rotation, SigningAlgorithm};
use crate::cluster::{parse_https, parse_path};
use crate::reader::Section;
use crate::server::parse_object_name;

/// Who an endpoint's tokens are from, and the `sub` that goes with the form it was written in.
pub(super) struct IssuerPart {
    pub(super) issuer: Issuer,
    pub(super) key: KeySource,
    pub(super) rotation: Rotation,
    pub(super) subject: SubjectTemplate,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<IssuerPart> {
    if section.has_mapping("issuer") {
        let part = section.section("issuer").and_then(read_openunison);
        if !section.has("key") {
            section.pass_over("key");
            return part;
        }
        let rotation = section.section("key").and_then(read_rotation_alone);
        return part
            .zip(rotation)
            .map(|(part, rotation)| IssuerPart { rotation, ..part });
    }
    let issuer = section.required("issuer", parse_issuer);
    let place = section.place_of("key");
    let key = section.section("key");
    if key.is_none() {
        section.error(place, "is missing: write `secret: NAME` or `file: PATH`");
    }
    let (key, rotation) = key.and_then(read_key)?;
    Some(IssuerPart {
        issuer: issuer?,
        key,
        rotation,
        subject: SubjectTemplate::service_account(),
    })
}

/// OpenUnison's form: `iss` is `https://<host><path>`, and its users' trust policies name OpenUnison's `sub`.
fn read_openunison(mut section: Section<'_>) -> Option<IssuerPart> {
    let host = section.required("host", parse_host);
    let path = section.or("path", parse_issuer_path, String::new());
    let name = section.required("keypair", parse_object_name);
    let place = section.place_of("host");
    let issuer = host.zip(path).and_then(|(host, path)| {
        match parse_issuer(&format!("https://{host}{path}")) {
            Ok(issuer) => Some(issuer),
            Err(message) => {
                section.error(place, message);
                None
            }
        }
    });
    section.finish()?;
    let key = KeySource::Secret {
        name: name?,
        algorithm: SigningAlgorithm::Rs256,
    };
    Some(IssuerPart {
        issuer: issuer?,
        key,
        rotation: Rotation::default(),
        subject: SubjectTemplate::openunison(),
    })
}

/// Beside OpenUnison's `keypair`, `key` says how it is followed by others and nothing else.
fn read_rotation_alone(mut section: Section<'_>) -> Option<Rotation> {
    for key in ["secret", "file"] {
        if section.has(key) {
            let place = section.place_of(key);
            section.pass_over(key);
            section.error(place, "and issuer.keypair both name a key: leave one out");
        }
    }
    let rotation = Rotation::read(&mut section);
    section.finish()?;
    rotation
}

fn read_key(mut section: Section<'_>) -> Option<(KeySource, Rotation)> {
    let algorithm = section.or("algorithm", parse_algorithm, SigningAlgorithm::Rs256);
    let create = section.flag("create");
    let secret = section.optional("secret", parse_object_name);
    let path = section.optional("file", parse_path);
    let place = section.place().clone();
    let rotation = Rotation::read(&mut section);
    if path.is_some() && section.has("rotateEvery") {
        let place = section.place_of("rotateEvery");
        section.error(
            place,
            "is for keys in a Secret: a file's key is replaced by whoever wrote the file",
        );
    }
    let algorithm = algorithm?;
    let key = match (secret, path) {
        (Some(name), None) => Some(KeySource::Secret { name, algorithm }),
        (None, Some(path)) => Some(KeySource::File {
            path,
            algorithm,
            create: create?,
        }),
        (Some(_), Some(_)) | (None, None) => {
            section.error(
                place,
                "needs exactly one of `secret: NAME` and `file: PATH`",
            );
            None
        }
    };
    section.finish()?;
    key.zip(rotation)
}

fn parse_algorithm(text: &str) -> Result<SigningAlgorithm, &'static str> {
    SigningAlgorithm::parse(text).ok_or("is neither RS256 nor ES256, which AWS takes")
}

fn parse_host(text: &str) -> Result<String, &'static str> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if !text.is_empty() && text.bytes().all(inner) {
        Ok(text.to_owned())
    } else {
        Err(
            "is no host name, such as d111111abcdef8.cloudfront.net; https:// and a path do not belong here",
        )
    }
}

/// OpenUnison takes `/` for no path.
fn parse_issuer_path(text: &str) -> Result<String, &'static str> {
    match text {
        "" | "/" => Ok(String::new()),
        _ if text.starts_with('/') && !text.ends_with('/') => Ok(text.to_owned()),
        _ => Err("does not begin with a slash, or ends with one"),
    }
}

/// An issuer (OpenID Connect Discovery 1.0, section 3; AWS: no port, no query). Relying parties compare it byte by byte, so that a
/// slash at its end would make it another one.
fn parse_issuer(text: &str) -> Result<Issuer, String> {
    let issuer = parse_https(text)?;
    if issuer.ends_with('/') {
        return Err(
            "ends with a slash: relying parties compare it byte by byte, so leave it out"
                .to_owned(),
        );
    }
    if url::Url::parse(&issuer).is_ok_and(|url| url.port().is_some()) {
        return Err("has a port, which AWS does not take".to_owned());
    }
    Issuer::parse(&issuer).map_err(|error| error.to_string())
}
