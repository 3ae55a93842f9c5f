//! `injector.files` and `injector.gcp` of an endpoint: what is written beside its token.

use std::collections::BTreeSet;

use super::injection::parse_env;
use crate::reader::Section;

/// A file that the sidecar writes beside the token, whenever it writes the token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CompanionFile {
    /// Its name in the token's directory.
    pub name: String,
    /// The variable that holds its path.
    pub env: Option<String>,
    /// What is in it, with `{annotation}`, `{endpoint}`, `{expires}`, `{token}` and `{tokenFile}` for the sidecar to fill in.
    pub template: String,
}

/// What both keys say together; `None` if something of it is wrong.
pub(super) fn read(section: &mut Section<'_>) -> Option<Vec<CompanionFile>> {
    let place = section.place_of("files");
    let files = if section.has("files") {
        section.optional_list("files", read_file)
    } else {
        section.pass_over("files");
        Some(Vec::new())
    };
    let has_gcp = section.has("gcp");
    let gcp = section.section("gcp").and_then(read_gcp);
    let mut files: Vec<_> = files?.into_iter().collect::<Option<_>>()?;
    if has_gcp {
        files.push(gcp?);
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = files.iter().find(|file| !names.insert(&file.name)) {
        let name = twice.name.clone();
        section.error(place, format!("has two files of the name {name}"));
        return None;
    }
    Some(files)
}

fn read_file(mut section: Section<'_>) -> Option<CompanionFile> {
    let name = section.required("name", parse_name);
    let has_env = section.has("env");
    let env = section.optional("env", parse_env);
    let template = section.required("template", parse_template);
    section.finish()?;
    Some(CompanionFile {
        name: name?,
        env: if has_env { Some(env?) } else { None },
        template: template?,
    })
}

/// The credential configuration of Google's client libraries
/// (<https://google.aip.dev/auth/4117>, <https://cloud.google.com/iam/docs/workload-identity-federation-with-other-providers>).
fn read_gcp(mut section: Section<'_>) -> Option<CompanionFile> {
    let provider = section.required("provider", parse_provider);
    let impersonate = section.flag("impersonate");
    section.finish()?;
    let configuration = serde_json::json!({
        "type": "external_account",
        "audience": format!("//iam.googleapis.com/{}", provider?),
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": "{tokenFile}", "format": {"type": "text"}},
    });
    let impersonation = serde_json::json!({
        "service_account_impersonation_url":
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{annotation}:generateAccessToken",
    });
    let parts = [Some(configuration), impersonate?.then_some(impersonation)];
    let fields = parts
        .into_iter()
        .flatten()
        .filter_map(|part| part.as_object().cloned());
    let configuration: serde_json::Map<_, _> = fields.flatten().collect();
    Some(CompanionFile {
        name: "credentials.json".to_owned(),
        env: Some("GOOGLE_APPLICATION_CREDENTIALS".to_owned()),
        template: serde_json::Value::from(configuration).to_string(),
    })
}

fn parse_provider(text: &str) -> Result<String, &'static str> {
    let parts: Vec<_> = text.split('/').collect();
    let is_part = |part: &&str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !part.is_empty() && part.bytes().all(inner)
    };
    match parts.as_slice() {
        [
            "projects",
            _,
            "locations",
            _,
            "workloadIdentityPools",
            _,
            "providers",
            _,
        ] if parts.iter().all(is_part) => Ok(text.to_owned()),
        _ => Err(
            "is no projects/<number>/locations/global/workloadIdentityPools/<pool>/providers/<provider>",
        ),
    }
}

fn parse_name(text: &str) -> Result<String, &'static str> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_name = (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('.')
        && text != "token";
    if is_name {
        Ok(text.to_owned())
    } else {
        Err(
            "is no file name: letters, digits, `.`, `-` and `_`, at most 63, not `token`, no `.` first",
        )
    }
}

/// The sidecar refuses unknown placeholders too, but that would be in every pod.
fn parse_template(text: &str) -> Result<String, String> {
    let words = text.split('{').skip(1).filter_map(|rest| {
        let (word, _) = rest.split_once('}')?;
        let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic());
        is_word.then_some(word)
    });
    for word in words {
        if !PLACEHOLDERS.contains(&word) {
            let known = PLACEHOLDERS.join("}, {");
            return Err(format!("has {{{word}}}, which is none of {{{known}}}"));
        }
    }
    Ok(text.to_owned())
}

const PLACEHOLDERS: [&str; 5] = ["annotation", "endpoint", "expires", "token", "tokenFile"];
