//! What a ServiceAccount says by its annotations.

use std::collections::BTreeMap;

/// A ServiceAccount's annotations, as far as they matter here. Values are as they were written: what is wrong with one is told to
/// whoever makes a pod of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// `role-arn`.
    pub role: Option<String>,
    /// `role-arn.<container>`.
    pub container_roles: BTreeMap<String, String>,
    /// `audience`; an empty one would be the API server's own, and is none.
    pub audience: Option<String>,
    /// `sts-regional-endpoints`.
    pub regional_sts: Option<bool>,
    /// `token-expiration`, at least ten minutes.
    pub token_seconds: Option<u64>,
    /// `role-session-name`.
    pub session: Option<String>,
    /// A key that looks like one of these.
    pub misspelt: Option<Misspelt>,
}

/// A key that is not one of ours, and what it was probably meant to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misspelt {
    /// As it was written.
    pub found: String,
    /// As it is known.
    pub meant: String,
}

impl Account {
    /// Of the annotations with this prefix.
    pub fn read(prefix: &str, annotations: &BTreeMap<String, String>) -> Self {
        let mut account = Self::default();
        for (key, value) in annotations {
            match key
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_prefix('/'))
            {
                Some(name) => account.take(name, value, key, prefix),
                None => account.suspect(key, prefix),
            }
        }
        account
    }

    /// Whether a pod of it may get a role at all.
    pub fn has_role(&self) -> bool {
        self.role.is_some() || !self.container_roles.is_empty()
    }

    fn take(&mut self, name: &str, value: &str, key: &str, prefix: &str) {
        let filled = (!value.is_empty()).then(|| value.to_owned());
        match name {
            ROLE => self.role = filled,
            AUDIENCE => self.audience = filled,
            "sts-regional-endpoints" => self.regional_sts = parse_boolean(value),
            EXPIRATION => self.token_seconds = parse_expiration(value),
            "role-session-name" => self.session = filled,
            _ => match (name.strip_prefix(CONTAINER_ROLE), filled) {
                (Some(container), Some(role)) => {
                    drop(self.container_roles.insert(container.to_owned(), role));
                }
                (Some(_), None) => {}
                (None, _) => self.guess(key, name, prefix),
            },
        }
    }

    /// The names are known by heart, their prefixes are not: `eks.amazon.com/role-arn`.
    fn suspect(&mut self, key: &str, prefix: &str) {
        let name = key.rsplit('/').next().unwrap_or(key);
        if name == ROLE {
            self.misspelt = Some(Misspelt {
                found: key.to_owned(),
                meant: format!("{prefix}/{ROLE}"),
            });
        }
    }

    fn guess(&mut self, key: &str, name: &str, prefix: &str) {
        if let Some(meant) = nearest(name, &NAMES) {
            self.misspelt = Some(Misspelt {
                found: key.to_owned(),
                meant: format!("{prefix}/{meant}"),
            });
        }
    }
}

/// The known name that differs from this one by a slip or two.
pub(crate) fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let distance = |one: &&str| strsim::osa_distance(name, one);
    let best = known.iter().min_by_key(|one| distance(one))?;
    (distance(best) <= SLIPS).then_some(*best)
}

/// Go's `strconv.ParseBool`, which AWS's webhook reads flags by. Anything else is as good as not written.
pub(crate) fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Seconds, at least as many as the API server takes. Anything else is as good as not written.
pub(crate) fn parse_expiration(text: &str) -> Option<u64> {
    let seconds: i64 = text.parse().ok()?;
    Some(u64::try_from(seconds).unwrap_or(0).max(SHORTEST_TOKEN))
}

/// The annotation that makes a ServiceAccount one of ours.
pub(crate) const ROLE: &str = "role-arn";
/// `aud` of the kubelet's token.
pub(crate) const AUDIENCE: &str = "audience";
/// How long it is asked for.
pub(crate) const EXPIRATION: &str = "token-expiration";
/// Before a container's name.
pub(crate) const CONTAINER_ROLE: &str = "role-arn.";
/// What a ServiceAccount may say.
const NAMES: [&str; 5] = [
    ROLE,
    AUDIENCE,
    "sts-regional-endpoints",
    EXPIRATION,
    "role-session-name",
];
const SLIPS: usize = 2;
/// <https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken>
const SHORTEST_TOKEN: u64 = 600;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> Account {
        let pairs = annotations.iter();
        let pairs = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Account::read("eks.amazonaws.com", &pairs.collect())
    }

    #[test]
    fn every_annotation_of_awss_webhook_is_read() {
        let account = read(&[
            ("eks.amazonaws.com/role-arn", "r"),
            ("eks.amazonaws.com/role-arn.worker", "w"),
            ("eks.amazonaws.com/audience", "a"),
            ("eks.amazonaws.com/sts-regional-endpoints", "T"),
            ("eks.amazonaws.com/token-expiration", "7200"),
            ("eks.amazonaws.com/role-session-name", "s"),
            ("example.com/other", "x"),
        ]);
        let expected = Account {
            role: Some("r".to_owned()),
            container_roles: BTreeMap::from([("worker".to_owned(), "w".to_owned())]),
            audience: Some("a".to_owned()),
            regional_sts: Some(true),
            token_seconds: Some(7200),
            session: Some("s".to_owned()),
            misspelt: None,
        };
        assert_eq!(account, expected);
    }

    #[test]
    fn empty_and_unreadable_values_are_as_good_as_none() {
        let account = read(&[
            ("eks.amazonaws.com/role-arn", ""),
            ("eks.amazonaws.com/audience", ""),
            ("eks.amazonaws.com/sts-regional-endpoints", "yes"),
            ("eks.amazonaws.com/token-expiration", "1h"),
        ]);
        assert_eq!(account, Account::default());
        assert!(!account.has_role());
        for (text, seconds) in [("599", 600), ("-1", 600), ("600", 600), ("86401", 86_401)] {
            assert_eq!(parse_expiration(text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn a_misspelt_key_is_recognised() {
        for (found, meant) in [
            ("eks.amazon.com/role-arn", "eks.amazonaws.com/role-arn"),
            ("eks.amazonaws.com/role-anr", "eks.amazonaws.com/role-arn"),
            ("eks.amazonaws.com/rolearn", "eks.amazonaws.com/role-arn"),
            ("eks.amazonaws.com/audiense", "eks.amazonaws.com/audience"),
        ] {
            let misspelt = read(&[(found, "x")]).misspelt.unwrap();
            assert_eq!(
                (misspelt.found.as_str(), misspelt.meant.as_str()),
                (found, meant)
            );
        }
        assert_eq!(read(&[("eks.amazonaws.com/cluster", "x")]).misspelt, None);
    }
}
