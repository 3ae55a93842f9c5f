//! How `sub` is written.

use std::fmt;

use thiserror::Error;

use crate::policy::{Attribute, Attributes};
use crate::template::{Part, Template, TemplateError, Variable};

/// How `sub` is written.
///
/// Invariant: no two ServiceAccounts of one cluster share a `sub`; and none of different clusters, if it [names the
/// cluster](SubjectTemplate::names_cluster). And it has a colon, so that it is none of [`super::OwnSubject`]'s.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubjectTemplate(Template);

/// Why a text is no way to write `sub`.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum SubjectTemplateError {
    /// Two subjects could come out alike.
    #[error(
        "nothing tells where {0} ends, so that two ServiceAccounts could share a `sub`: put a `:` or `/` behind it"
    )]
    Ambiguous(Variable),
    /// A `*` or `?`, which trust policies read as a wildcard, or what is no printable ASCII.
    #[error("has {0:?}: only printable ASCII without spaces, `*` and `?` can stand in a `sub`")]
    Character(char),
    /// A ServiceAccount's name is its namespace's alone.
    #[error("does not name ${{{0}}}, so that ServiceAccounts would share a `sub`")]
    Missing(Attribute),
    /// It has no colon, by which pods' subjects are told from our own.
    #[error(
        "has no `:`, which keeps pods' subjects apart from our own: put one in, such as k8s:${{namespace}}/${{saname}}"
    )]
    NoColon,
    /// Not every subject has it.
    #[error("{0} is not there for every subject")]
    NotAlwaysThere(Variable),
    /// It is no template.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// OpenUnison's form.
const OPENUNISON: &str = "${cluster}:${namespace}:${saname}";

impl SubjectTemplate {
    /// `<cluster>:<namespace>:<name>`, OpenUnison's; users' trust policies name it.
    pub fn openunison() -> Self {
        let variable = |attribute| Part::Variable(Variable::Attribute(attribute));
        let colon = || Part::Text(":".to_owned());
        Self(Template::of(vec![
            variable(Attribute::Cluster),
            colon(),
            variable(Attribute::Namespace),
            colon(),
            variable(Attribute::ServiceAccountName),
        ]))
    }

    /// `system:serviceaccount:<namespace>:<name>`, Kubernetes' own.
    pub fn service_account() -> Self {
        let variable = Variable::Attribute(Attribute::Subject);
        Self(Template::of(vec![Part::Variable(variable)]))
    }

    /// Parses a form by its name, `openunison` or `serviceAccount`, or a template.
    ///
    /// # Errors
    /// [`SubjectTemplateError`] when two subjects could share a `sub`, or one could have none.
    pub fn parse(text: &str) -> Result<Self, SubjectTemplateError> {
        match text {
            "openunison" => return Ok(Self::openunison()),
            "serviceAccount" => return Ok(Self::service_account()),
            _ => {}
        }
        let template = Template::parse(text)?;
        let allowed = |c: &char| c.is_ascii_graphic() && !matches!(c, '*' | '?');
        let bad = template
            .texts()
            .flat_map(str::chars)
            .find(|character| !allowed(character));
        if let Some(character) = bad {
            return Err(SubjectTemplateError::Character(character));
        }
        let absent = template.variables().find(|found| !found.is_always_there());
        if let Some(variable) = absent {
            return Err(SubjectTemplateError::NotAlwaysThere(variable));
        }
        for attribute in [Attribute::Namespace, Attribute::ServiceAccountName] {
            if !template.names(attribute) && !template.names(Attribute::Subject) {
                return Err(SubjectTemplateError::Missing(attribute));
            }
        }
        let colon = template.texts().any(|text| text.contains(':'));
        if !colon && !template.names(Attribute::Subject) {
            return Err(SubjectTemplateError::NoColon);
        }
        match template.ambiguous() {
            Some(variable) => Err(SubjectTemplateError::Ambiguous(variable)),
            None => Ok(Self(template)),
        }
    }

    /// Whether the cluster stands in it: where tokens of several clusters are taken, it must.
    pub fn names_cluster(&self) -> bool {
        self.0.names(Attribute::Cluster)
    }

    /// The `sub` of a subject; `None` if something in it is not known.
    pub fn render(&self, attributes: &Attributes) -> Option<String> {
        self.0.render(attributes, None)
    }
}

impl fmt::Display for SubjectTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.to_string().as_str() {
            OPENUNISON => f.write_str("openunison"),
            "${sub}" => f.write_str("serviceAccount"),
            other => f.write_str(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::tests::subjects_in;

    fn subject(namespace: &str, name: &str) -> Option<Attributes> {
        Some(Attributes::supposed(
            &"c1".parse().ok()?,
            &namespace.parse().ok()?,
            &name.parse().ok()?,
        ))
    }

    #[test]
    fn forms_have_names_and_others_are_templates() {
        let render = |text: &str| {
            let template = SubjectTemplate::parse(text).unwrap();
            template.render(&subject("team-a", "app").unwrap()).unwrap()
        };
        assert_eq!(render("openunison"), "c1:team-a:app");
        assert_eq!(render("serviceAccount"), "system:serviceaccount:team-a:app");
        assert_eq!(render("k8s:${namespace}/${saname}"), "k8s:team-a/app");
        assert_eq!(render(OPENUNISON), "c1:team-a:app");
        assert_eq!(
            SubjectTemplate::parse(OPENUNISON).unwrap(),
            SubjectTemplate::openunison()
        );
        assert!(SubjectTemplate::openunison().names_cluster());
        assert!(!SubjectTemplate::service_account().names_cluster());
    }

    #[test]
    fn templates_in_which_two_subjects_could_meet_are_refused() {
        let error = |text: &str| SubjectTemplate::parse(text).expect_err(text);
        let namespace = Variable::Attribute(Attribute::Namespace);
        for text in [
            ":${namespace}-${saname}",
            ":${namespace}${saname}",
            "x:${namespace}a${saname}",
        ] {
            assert_eq!(
                error(text),
                SubjectTemplateError::Ambiguous(namespace),
                "{text}"
            );
        }
        let missing = SubjectTemplateError::Missing;
        assert_eq!(error("${saname}"), missing(Attribute::Namespace));
        assert_eq!(
            error("${namespace}"),
            missing(Attribute::ServiceAccountName)
        );
        assert_eq!(error("fixed"), missing(Attribute::Namespace));
        assert_eq!(
            error("a/${namespace}/${saname}"),
            SubjectTemplateError::NoColon
        );
        let node = Variable::Attribute(Attribute::NodeName);
        let text = "${namespace}:${saname}:${node-name}";
        assert_eq!(error(text), SubjectTemplateError::NotAlwaysThere(node));
        let text = "${namespace}:${saname}:${role}";
        assert_eq!(
            error(text),
            SubjectTemplateError::NotAlwaysThere(Variable::Role)
        );
        assert_eq!(
            error("${namespace}:${saname} *"),
            SubjectTemplateError::Character(' ')
        );
        assert_eq!(
            error("*:${namespace}:${saname}"),
            SubjectTemplateError::Character('*')
        );
    }

    proptest::proptest! {
        /// Whatever template is accepted: a `sub` is nobody else's whose names can be read out of it.
        #[test]
        fn no_two_service_accounts_share_a_sub(
            text in "[ab:./-]{0,2}\\$\\{(namespace|saname|sub)\\}[ab:./-]{0,2}\\$\\{(namespace|saname|cluster)\\}[ab:./-]{0,2}",
            namespace in "[ab]|[ab]-?[ab]", name in "[ab]|[ab][.-]?[ab]",
        ) {
            if let Ok(template) = SubjectTemplate::parse(&text) {
                let sub = template.render(&subject(&namespace, &name).unwrap()).unwrap();
                for (other, account) in subjects_in(&sub.replace("system:serviceaccount:", "")) {
                    let same = other.as_str() == namespace && account.as_str() == name;
                    let theirs = template.render(&subject(other.as_str(), account.as_str()).unwrap());
                    proptest::prop_assert_eq!(theirs.as_ref() == Some(&sub), same, "{} by {}: {}/{}", sub, text, other, account);
                }
            }
        }
    }
}
