//! The files that a consumer wants beside the token: GCP's credential configuration, a kubeconfig, a header.
//!
//! What is in them is said by a template of the endpoint's preset. Placeholders are `{annotation}` (the pod's, given beside the
//! template), `{endpoint}`, `{expires}` (RFC 3339), `{token}` and `{tokenFile}`; all other braces stand for themselves, so
//! that JSON needs no escapes.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use thiserror::Error;

use crate::config::{Endpoint, EndpointName};
use crate::token_text::TokenText;

/// One file beside an endpoint's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompanionFile {
    name: String,
    pieces: Vec<Piece>,
}

impl CompanionFile {
    /// Its name in the endpoint's directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is to be in it. Without the token in it, it is as public as the template.
    pub fn render(&self, endpoint: &EndpointName, token: &TokenText, token_file: &Path) -> String {
        let render = |piece: &Piece| match piece {
            Piece::Endpoint => endpoint.to_string(),
            Piece::Expires => token.expires().rfc3339(),
            Piece::Text(text) => text.clone(),
            Piece::Token => token.expose().to_owned(),
            Piece::TokenFile => token_file.display().to_string(),
        };
        self.pieces.iter().map(render).collect()
    }

    fn parse(name: String, template: &str, annotation: Option<&str>) -> Result<Self, FileError> {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_name = (1..=63).contains(&name.len())
            && name.chars().all(is_inner)
            && !name.starts_with('.')
            && name != "token";
        if !is_name {
            return Err(FileError::Name { name });
        }
        match parse_template(template, annotation) {
            Ok(pieces) => Ok(Self { name, pieces }),
            Err(placeholder) => Err(FileError::Placeholder { name, placeholder }),
        }
    }
}

/// Gives each endpoint its files. `json` is a list of `{"endpoint": ..., "name": ..., "template": ..., "annotation": ...}`, the last
/// of which may be absent.
///
/// # Errors
/// If it is no such list, or names an endpoint that is not there.
pub fn attach(json: &str, endpoints: &mut [Endpoint]) -> Result<(), FileError> {
    let files: Vec<RawFile> = serde_json::from_str(json).map_err(FileError::NotAList)?;
    let mut seen = BTreeSet::new();
    for RawFile {
        endpoint,
        name,
        template,
        annotation,
    } in files
    {
        let Some(owner) = endpoints
            .iter_mut()
            .find(|known| known.name.as_str() == endpoint)
        else {
            return Err(FileError::Endpoint { name, endpoint });
        };
        if !seen.insert((endpoint, name.clone())) {
            return Err(FileError::Twice { name });
        }
        let file = CompanionFile::parse(name, &template, annotation.as_deref())?;
        owner.files.push(file);
    }
    Ok(())
}

/// Why the files' description is unusable.
#[derive(Debug, Error)]
pub enum FileError {
    /// It is for an endpoint that is not there.
    #[error("file {name} is for endpoint {endpoint}, which is not given")]
    Endpoint {
        /// The file.
        name: String,
        /// The endpoint.
        endpoint: String,
    },
    /// A name that could lead elsewhere, or that is ours.
    #[error(
        "file name {name:?}: letters, digits, '.', '-' and '_', at most 63, not `token`, no '.' first"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// It is not the JSON it should be.
    #[error("no list of {{\"endpoint\", \"name\", \"template\"}}")]
    NotAList(#[source] serde_json::Error),
    /// A placeholder that is none.
    #[error(
        "file {name}: {{{placeholder}}} is none of {{annotation}} (if there is one), {{endpoint}}, {{expires}}, {{token}}, {{tokenFile}}"
    )]
    Placeholder {
        /// The file.
        name: String,
        /// What is between the braces.
        placeholder: String,
    },
    /// Two files of one name.
    #[error("file {name} is given twice")]
    Twice {
        /// The file.
        name: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    endpoint: String,
    name: String,
    template: String,
    annotation: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Endpoint,
    Expires,
    Text(String),
    Token,
    TokenFile,
}

/// A word alone between braces is a placeholder, or a misspelt one, which is the error.
fn parse_template(template: &str, annotation: Option<&str>) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let word = after
            .split_once('}')
            .filter(|(word, _)| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphabetic()));
        let Some((word, after)) = word else {
            text.push('{');
            rest = after;
            continue;
        };
        pieces.push(Piece::Text(std::mem::take(&mut text)));
        pieces.push(match (word, annotation) {
            // Not read again for placeholders: it is the pod's.
            ("annotation", Some(annotation)) => Piece::Text(annotation.to_owned()),
            ("endpoint", _) => Piece::Endpoint,
            ("expires", _) => Piece::Expires,
            ("token", _) => Piece::Token,
            ("tokenFile", _) => Piece::TokenFile,
            _ => return Err(word.to_owned()),
        });
        rest = after;
    }
    text.push_str(rest);
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;

    fn endpoints() -> Vec<Endpoint> {
        vec!["gcp=https://sts/gcp/token".parse().unwrap()]
    }

    fn rendered(template: &str) -> String {
        let file = CompanionFile::parse("a.json".to_owned(), template, Some("a {token}")).unwrap();
        // The payload is {"exp":1900}.
        let token = TokenText::parse("aa.eyJleHAiOjE5MDB9.cc", WallTime::from_unix_seconds(0));
        let name = "gcp".parse().unwrap();
        file.render(&name, &token.unwrap(), Path::new("/t/gcp/token"))
    }

    #[track_caller]
    fn check_refused(json: &str, expected: &str) {
        let error = attach(json, &mut endpoints()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn placeholders_are_filled_and_other_braces_stay() {
        assert_eq!(
            rendered(r#"{"file":"{tokenFile}","at":{"exp":"{expires}"},"of":"{endpoint}"}"#),
            r#"{"file":"/t/gcp/token","at":{"exp":"1970-01-01T00:31:40.000Z"},"of":"gcp"}"#
        );
        assert_eq!(
            rendered("Authorization: Bearer {token}"),
            "Authorization: Bearer aa.eyJleHAiOjE5MDB9.cc"
        );
        assert_eq!(rendered("<{annotation}>"), "<a {token}>");
        assert_eq!(rendered("{} { } {{ a{b c} {"), "{} { } {{ a{b c} {");
    }

    #[test]
    fn files_go_to_their_endpoint() {
        let mut endpoints = endpoints();
        let json = r#"[{"endpoint":"gcp","name":"credentials.json","template":"x"}]"#;
        attach(json, &mut endpoints).unwrap();
        assert_eq!(endpoints[0].files[0].name(), "credentials.json");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let file = |endpoint: &str, name: &str, template: &str| {
            serde_json::json!([{"endpoint": endpoint, "name": name, "template": template}])
                .to_string()
        };
        check_refused("x", "no list of");
        check_refused(r#"[{"endpoint":"gcp","name":"a"}]"#, "no list of");
        check_refused(
            &file("aws", "a", ""),
            "is for endpoint aws, which is not given",
        );
        for name in ["", "token", ".status", "../a", "a/b"] {
            check_refused(&file("gcp", name, ""), "file name");
        }
        check_refused(&file("gcp", "a", "{tokenfile}"), "{tokenfile} is none of");
        check_refused(&file("gcp", "a", "{annotation}"), "{annotation} is none of");
        let twice = r#"[{"endpoint":"gcp","name":"a","template":""},{"endpoint":"gcp","name":"a","template":""}]"#;
        check_refused(twice, "given twice");
    }
}
