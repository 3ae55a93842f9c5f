//! What AWS acts on in a token, opt-in: session tags, source identity, the roles it may be used for
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html>).

mod qualified;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::ident::Role;
use crate::policy::Attributes;
use crate::template::{Part, Template, TemplateError, Variable};

/// The most session tags of a session.
const MOST_TAGS: usize = 50;
/// The longest key of a tag, and the longest value.
const LONGEST_TAG_KEY: usize = 128;
const LONGEST_TAG_VALUE: usize = 256;
/// How long a source identity may be.
const SOURCE_IDENTITY_LENGTH: std::ops::RangeInclusive<usize> = 2..=64;

const TAGS_CLAIM: &str = "https://aws.amazon.com/tags";
const SOURCE_IDENTITY_CLAIM: &str = "https://aws.amazon.com/source_identity";
const ROLES_CLAIM: &str = "https://aws.amazon.com/roles";

/// What a token tells AWS beside who its subject is. Nothing by default: each of these needs the role's trust policy to allow it.
#[derive(Clone, Debug, Default)]
pub struct AwsClaims {
    tags: Vec<SessionTag>,
    source_identity: Option<SourceIdentity>,
    roles: RolesClaim,
}

/// A session tag.
#[derive(Clone, Debug)]
pub struct SessionTag {
    key: String,
    value: Template,
    transitive: Transitivity,
}

/// Whether a tag goes on to the sessions that a session begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transitivity {
    /// It ends with the session.
    Once,
    /// It goes on.
    Transitive,
}

/// The source identity of a session.
#[derive(Clone, Debug)]
pub struct SourceIdentity(Template);

/// Whether the token names the role it may be used for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RolesClaim {
    /// Any role whose trust policy takes the token.
    #[default]
    Absent,
    /// The bound role and no other.
    Bound,
}

/// What AWS would refuse, or would take for another subject's.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AwsClaimError {
    /// Two subjects could have the same, so that one could pass for the other where AWS decides by it.
    #[error(
        "in {what} nothing tells where {variable} ends: put a character behind it that cannot be part of it, such as `_` or `=`"
    )]
    Ambiguous {
        /// What it is in.
        what: &'static str,
        /// The variable.
        variable: Variable,
    },
    /// Two tags whose keys differ in nothing, or in case, which AWS does not tell apart.
    #[error("is another tag's key too, which AWS compares without regard to case")]
    DuplicateKey,
    /// Not a key.
    #[error(
        "is no tag's key: 1 to 128 letters, digits, spaces and `_ . : / = + - @`, not beginning with `aws:`"
    )]
    Key,
    /// A value with a character that AWS does not take, in its text or in what a variable can be.
    #[error("{what} has {found}, which AWS does not take")]
    Character {
        /// What it is in.
        what: &'static str,
        /// The character, or the variable.
        found: String,
    },
    /// Too long for AWS whatever the subject.
    #[error("{what} is longer than the {limit} characters that AWS takes")]
    Length {
        /// What is too long.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Not every subject has it.
    #[error("{0} is not there for every subject, and a source identity must be")]
    NotAlwaysThere(Variable),
    /// It is no template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A name that somebody in another namespace can have too.
    #[error(
        "in {what} {variable} stands without ${{namespace}}: a ServiceAccount of any other namespace can have that name, and would pass for \
         this one where AWS decides by it"
    )]
    WithoutNamespace {
        /// What it is in.
        what: &'static str,
        /// The name.
        variable: Variable,
    },
    /// More than AWS takes.
    #[error("are more than the 50 that AWS takes")]
    TooManyTags,
}

impl SessionTag {
    /// A tag.
    ///
    /// # Errors
    /// [`AwsClaimError`] for what AWS would refuse, and for what two subjects could share by their choice of names.
    pub fn parse(key: &str, value: &str, transitive: Transitivity) -> Result<Self, AwsClaimError> {
        let reserved = key
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case("aws:"));
        let fits = (1..=LONGEST_TAG_KEY).contains(&key.len()) && key.chars().all(is_tag_character);
        if reserved || !fits {
            return Err(AwsClaimError::Key);
        }
        let value = Template::parse(value)?;
        check("the value", &value, is_tag_character, LONGEST_TAG_VALUE)?;
        let key = key.to_owned();
        Ok(Self {
            key,
            value,
            transitive,
        })
    }

    /// Whether some subject's value may be too long, so that it gets no token.
    pub fn may_be_too_long(&self) -> bool {
        self.value.longest() > LONGEST_TAG_VALUE
    }
}

impl SourceIdentity {
    /// A source identity: 2 to 64 letters, digits and `_ + = , . @ -`.
    ///
    /// # Errors
    /// [`AwsClaimError`] for what AWS would refuse, and for what two subjects could share by their choice of names.
    pub fn parse(text: &str) -> Result<Self, AwsClaimError> {
        let template = Template::parse(text)?;
        let absent = template.variables().find(|found| !found.is_always_there());
        if let Some(variable) = absent {
            return Err(AwsClaimError::NotAlwaysThere(variable));
        }
        let limit = *SOURCE_IDENTITY_LENGTH.end();
        check(
            "the source identity",
            &template,
            is_identity_character,
            limit,
        )?;
        if let Some(variable) = qualified::without_namespace([&template].into_iter()) {
            let what = "the source identity";
            return Err(AwsClaimError::WithoutNamespace { what, variable });
        }
        Ok(Self(template))
    }

    /// Whether some subject's may be too long, so that it gets no token.
    pub fn may_be_too_long(&self) -> bool {
        self.0.longest() > *SOURCE_IDENTITY_LENGTH.end()
    }
}

/// Letters and digits of any script are allowed by AWS; ASCII is enough for everything that Kubernetes names.
fn is_tag_character(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || matches!(
            character,
            ' ' | '_' | '.' | ':' | '/' | '=' | '+' | '-' | '@'
        )
}

fn is_identity_character(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || matches!(character, '_' | '+' | '=' | ',' | '.' | '@' | '-')
}

/// What the template's own text makes impossible, what a variable brings that cannot be taken, and what two subjects could share.
fn check(
    what: &'static str,
    template: &Template,
    allowed: fn(char) -> bool,
    limit: usize,
) -> Result<(), AwsClaimError> {
    let refuse = |found: String| AwsClaimError::Character { what, found };
    let mut length = 0_usize;
    for part in template.parts() {
        match part {
            Part::Text(text) => {
                length = length.saturating_add(text.len());
                if let Some(character) = text.chars().find(|character| !allowed(*character)) {
                    return Err(refuse(format!("{character:?}")));
                }
            }
            // A role is looked at when it is there: most are good.
            Part::Variable(Variable::Role) => {}
            Part::Variable(variable) => {
                let bad = (' '..='~').find(|c| variable.can_contain(*c) && !allowed(*c));
                if bad.is_some() {
                    return Err(refuse(variable.to_string()));
                }
            }
        }
    }
    if length > limit {
        return Err(AwsClaimError::Length { what, limit });
    }
    match template.ambiguous() {
        Some(variable) => Err(AwsClaimError::Ambiguous { what, variable }),
        None => Ok(()),
    }
}

impl AwsClaims {
    /// Puts them together.
    ///
    /// # Errors
    /// [`AwsClaimError`] for tags that AWS would refuse together, and for those by which one subject could pass for another.
    pub fn new(
        tags: Vec<SessionTag>,
        source_identity: Option<SourceIdentity>,
        roles: RolesClaim,
    ) -> Result<Self, AwsClaimError> {
        if tags.len() > MOST_TAGS {
            return Err(AwsClaimError::TooManyTags);
        }
        let keys: BTreeSet<String> = tags
            .iter()
            .map(|tag| tag.key.to_ascii_lowercase())
            .collect();
        if keys.len() < tags.len() {
            return Err(AwsClaimError::DuplicateKey);
        }
        let claims = Self {
            tags,
            source_identity,
            roles,
        };
        for (what, texts) in claims.texts() {
            if let Some(variable) = qualified::without_namespace(texts.into_iter()) {
                return Err(AwsClaimError::WithoutNamespace { what, variable });
            }
        }
        Ok(claims)
    }

    /// What AWS decides by at once: the source identity, the tags of one session, and those that go on to the next.
    fn texts(&self) -> [(&'static str, Vec<&Template>); 3] {
        let identity = self.source_identity.iter();
        let goes_on = |tag: &&SessionTag| tag.transitive == Transitivity::Transitive;
        let tags = || self.tags.iter();
        [
            (
                "the source identity",
                identity.map(|SourceIdentity(text)| text).collect(),
            ),
            ("the session tags", tags().map(|tag| &tag.value).collect()),
            (
                "the transitive session tags",
                tags().filter(goes_on).map(|tag| &tag.value).collect(),
            ),
        ]
    }

    /// Where a name stands without its cluster, and which: where tokens of several clusters are taken, somebody in another one can have it too.
    pub fn without_cluster(&self) -> Vec<(&'static str, Variable)> {
        let texts = self.texts().into_iter();
        texts
            .filter_map(|(what, texts)| {
                Some((what, qualified::without_cluster(texts.into_iter())?))
            })
            .collect()
    }

    /// Whether the role is named in them: then the endpoint must bind roles.
    pub fn names_role(&self) -> bool {
        self.roles == RolesClaim::Bound || self.tags.iter().any(|tag| tag.value.names_role())
    }

    /// Adds them to a token's claims.
    ///
    /// # Errors
    /// The name of what AWS would not take of this subject. A tag for which the subject has nothing is left out.
    pub(super) fn add(
        &self,
        attributes: &Attributes,
        role: Option<&Role>,
        claims: &mut Map<String, Value>,
    ) -> Result<(), String> {
        let mut add = |name: &str, value| drop(claims.insert(name.to_owned(), value));
        if let Some(tags) = self.render_tags(attributes, role)? {
            add(TAGS_CLAIM, tags);
        }
        if let Some(SourceIdentity(template)) = &self.source_identity {
            let identity = template.render(attributes, role).unwrap_or_default();
            let fits = SOURCE_IDENTITY_LENGTH.contains(&identity.len());
            if !fits || !identity.chars().all(is_identity_character) {
                return Err("source identity".to_owned());
            }
            add(SOURCE_IDENTITY_CLAIM, identity.into());
        }
        match (self.roles, role) {
            (RolesClaim::Absent, _) => Ok(()),
            (RolesClaim::Bound, Some(role)) => {
                add(ROLES_CLAIM, json!([role.as_str()]));
                Ok(())
            }
            (RolesClaim::Bound, None) => Err("roles: none is bound".to_owned()),
        }
    }

    /// The nested form, whose values are arrays of one; nothing where there are no tags.
    fn render_tags(
        &self,
        attributes: &Attributes,
        role: Option<&Role>,
    ) -> Result<Option<Value>, String> {
        let (mut tags, mut transitive) = (BTreeMap::new(), Vec::new());
        for tag in &self.tags {
            let key = tag.key.as_str();
            let Some(value) = tag.value.render(attributes, role) else {
                continue;
            };
            if value.len() > LONGEST_TAG_VALUE || !value.chars().all(is_tag_character) {
                return Err(format!("session tag {key}"));
            }
            if tag.transitive == Transitivity::Transitive {
                transitive.push(key);
            }
            drop(tags.insert(key, [value]));
        }
        if tags.is_empty() {
            return Ok(None);
        }
        let mut claim = json!({ "principal_tags": tags });
        if let (false, Value::Object(claim)) = (transitive.is_empty(), &mut claim) {
            drop(claim.insert("transitive_tag_keys".to_owned(), json!(transitive)));
        }
        Ok(Some(claim))
    }
}

#[cfg(test)]
#[path = "aws/tests.rs"]
mod tests;
