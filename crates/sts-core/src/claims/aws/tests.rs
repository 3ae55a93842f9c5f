use proptest::prelude::*;

use super::*;
use crate::template::tests::subjects_in;

fn subject() -> Attributes {
    Attributes::supposed(
        &"c1".parse().unwrap(),
        &"team-a".parse().unwrap(),
        &"app".parse().unwrap(),
    )
}

fn tag(key: &str, value: &str) -> Result<SessionTag, AwsClaimError> {
    SessionTag::parse(key, value, Transitivity::Once)
}

fn added(claims: &AwsClaims, role: Option<&str>) -> Result<Value, String> {
    let role = role.map(|role| role.parse::<Role>().unwrap());
    let mut into = Map::new();
    claims.add(&subject(), role.as_ref(), &mut into)?;
    Ok(into.into())
}

#[test]
fn nothing_is_said_unless_it_is_asked_for() {
    assert_eq!(added(&AwsClaims::default(), Some("r")), Ok(json!({})));
}

/// The nested form, whose values are arrays of one.
#[test]
fn tags_are_written_as_aws_reads_them() {
    let tags = vec![
        SessionTag::parse(
            "kubernetes-namespace",
            "${namespace}",
            Transitivity::Transitive,
        )
        .unwrap(),
        tag("who", "${namespace}/${saname}").unwrap(),
        tag("node", "${node-name}").unwrap(),
    ];
    let identity = SourceIdentity::parse("${namespace}.${saname}").unwrap();
    let claims = AwsClaims::new(tags, Some(identity), RolesClaim::Bound).unwrap();
    let role = "arn:aws:iam::123456789012:role/app";
    let expected = json!({
        "https://aws.amazon.com/tags": {
            "principal_tags": {"kubernetes-namespace": ["team-a"], "who": ["team-a/app"]},
            "transitive_tag_keys": ["kubernetes-namespace"],
        },
        "https://aws.amazon.com/source_identity": "team-a.app",
        "https://aws.amazon.com/roles": [role],
    });
    assert_eq!(added(&claims, Some(role)), Ok(expected));
    assert!(added(&claims, None).is_err(), "no role is bound");
}

#[test]
fn what_aws_does_not_take_is_refused_at_load() {
    for key in ["", "a,b", "aws:x", "AWS:x", "a\u{e4}", &"k".repeat(129)] {
        assert_eq!(tag(key, "v").err(), Some(AwsClaimError::Key), "{key}");
    }
    assert!(matches!(
        tag("k", "a,b"),
        Err(AwsClaimError::Character { .. })
    ));
    assert!(matches!(
        tag("k", &"v".repeat(257)),
        Err(AwsClaimError::Length { .. })
    ));
    assert!(matches!(
        tag("k", "${nmespace}"),
        Err(AwsClaimError::Template(_))
    ));
    assert!(matches!(
        tag("k", "${credential-id}"),
        Err(AwsClaimError::Character { .. })
    ));
    assert!(tag("k", &"v".repeat(256)).is_ok());
    let many = |count: usize| {
        let tags = (0..count).map(|number| tag(&format!("k{number}"), "v").unwrap());
        AwsClaims::new(tags.collect(), None, RolesClaim::Absent).err()
    };
    assert_eq!(many(50), None);
    assert_eq!(many(51), Some(AwsClaimError::TooManyTags));
    let twice = vec![tag("Team", "a").unwrap(), tag("team", "b").unwrap()];
    let error = AwsClaims::new(twice, None, RolesClaim::Absent).err();
    assert_eq!(error, Some(AwsClaimError::DuplicateKey));
}

#[test]
fn source_identities_are_short_and_always_there() {
    for (text, problem) in [
        ("${sub}", "${sub}"),
        ("a/b", "'/'"),
        ("${node-name}", "${node-name}"),
        (&"a".repeat(65), "64"),
    ] {
        let error = SourceIdentity::parse(text).unwrap_err().to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
    let long = SourceIdentity::parse("${namespace}.${saname}").unwrap();
    assert!(long.may_be_too_long());
}

#[test]
fn a_subject_that_aws_would_refuse_gets_no_token() {
    let long = "a".repeat(253);
    let subject = subject().with(crate::policy::Attribute::ServiceAccountName, &long);
    let identity = SourceIdentity::parse("${namespace}.${saname}").unwrap();
    let claims = AwsClaims::new(Vec::new(), Some(identity), RolesClaim::Absent).unwrap();
    let error = claims.add(&subject, None, &mut Map::new());
    assert_eq!(error, Err("source identity".to_owned()));
    let tags = vec![tag("who", "${namespace}/${saname}").unwrap()];
    let claims = AwsClaims::new(tags, None, RolesClaim::Absent).unwrap();
    let error = claims.add(&subject, None, &mut Map::new());
    assert_eq!(error, Err("session tag who".to_owned()));
    let tags = vec![tag("role", "${role}").unwrap()];
    let claims = AwsClaims::new(tags, None, RolesClaim::Absent).unwrap();
    assert!(added(&claims, Some("arn:aws:iam::1:role/a,b")).is_err());
}

/// `a-b-c` is of `a-b`, `c` and of `a`, `b-c`: AWS would take the one for the other.
#[test]
fn values_that_two_subjects_could_share_are_refused() {
    let namespace = Variable::Attribute(crate::policy::Attribute::Namespace);
    for text in ["${namespace}-${saname}", "${namespace}${saname}"] {
        let ambiguous = |what| {
            let variable = namespace;
            Some(AwsClaimError::Ambiguous { what, variable })
        };
        assert_eq!(tag("k", text).err(), ambiguous("the value"), "{text}");
        assert_eq!(
            SourceIdentity::parse(text).err(),
            ambiguous("the source identity"),
            "{text}"
        );
    }
    for text in ["${namespace}.${saname}", "${namespace}_${saname}"] {
        assert!(tag("k", text).is_ok(), "{text}");
        assert!(SourceIdentity::parse(text).is_ok(), "{text}");
    }
    assert!(tag("k", "${role}/${namespace}").is_ok());
}

/// `app` is a name that every namespace can have.
#[test]
fn names_without_their_namespace_are_refused() {
    use Transitivity::{Once, Transitive};
    let saname = Variable::Attribute(crate::policy::Attribute::ServiceAccountName);
    let without = |what| {
        Some(AwsClaimError::WithoutNamespace {
            what,
            variable: saname,
        })
    };
    for text in ["${saname}", "app-${saname}", "${saname}_${uid}"] {
        let error = SourceIdentity::parse(text).err();
        assert_eq!(error, without("the source identity"), "{text}");
    }
    for text in ["${namespace}", "${namespace}.${saname}", "${uid}", "prod"] {
        assert!(SourceIdentity::parse(text).is_ok(), "{text}");
    }
    let namespace = |transitive| SessionTag::parse("ns", "${namespace}", transitive).unwrap();
    let name = |transitive| SessionTag::parse("sa", "${saname}", transitive).unwrap();
    let together = |tags| AwsClaims::new(tags, None, RolesClaim::Absent).err();
    assert_eq!(together(vec![name(Once)]), without("the session tags"));
    assert_eq!(together(vec![namespace(Once), name(Once)]), None);
    assert_eq!(together(vec![namespace(Transitive), name(Once)]), None);
    assert_eq!(
        together(vec![namespace(Once), name(Transitive)]),
        without("the transitive session tags"),
        "in the next session the namespace is not said any more"
    );
    assert_eq!(
        together(vec![tag("who", "${sub}").unwrap(), name(Once)]),
        None
    );
}

#[test]
fn names_without_their_cluster_are_found() {
    let found = |tags: Vec<SessionTag>, identity: &str| {
        let identity = SourceIdentity::parse(identity).unwrap();
        let claims = AwsClaims::new(tags, Some(identity), RolesClaim::Absent).unwrap();
        let found = claims.without_cluster().into_iter();
        found
            .map(|(what, variable)| format!("{what}: {variable}"))
            .collect::<Vec<_>>()
    };
    let nothing: [&str; 0] = [];
    assert_eq!(found(Vec::new(), "prod"), nothing);
    assert_eq!(found(Vec::new(), "${cluster}.${namespace}"), nothing);
    assert_eq!(
        found(vec![tag("ns", "${namespace}").unwrap()], "${namespace}"),
        [
            "the source identity: ${namespace}",
            "the session tags: ${namespace}"
        ]
    );
    let tags = vec![
        tag("ns", "${namespace}").unwrap(),
        tag("cluster", "${cluster}").unwrap(),
    ];
    assert_eq!(found(tags, "${uid}"), nothing);
}

proptest! {
    /// Whatever source identity with a ServiceAccount's name is accepted: it is nobody else's whose names can be read out of it.
    #[test]
    fn no_source_identity_with_a_name_is_two_subjects(
        text in "[ab.=-]{0,2}\\$\\{(namespace|saname)\\}[ab.=-]{0,2}\\$\\{(namespace|saname)\\}[ab.=-]{0,2}",
        namespace in "[ab]|[ab]-?[ab]", name in "[ab]|[ab][.-]?[ab]",
    ) {
        if let Ok(identity) = SourceIdentity::parse(&text) && text.contains("saname") {
            let of = |namespace: &str, name: &str| {
                let (namespace, name) = (namespace.parse().unwrap(), name.parse().unwrap());
                let somebody = Attributes::supposed(&"c1".parse().unwrap(), &namespace, &name);
                identity.0.render(&somebody, None).unwrap()
            };
            let ours = of(&namespace, &name);
            for (other, account) in subjects_in(&ours) {
                let same = other.as_str() == namespace && account.as_str() == name;
                let theirs = of(other.as_str(), account.as_str());
                prop_assert_eq!(theirs == ours, same, "{} by {}: {}/{}", ours, text, other, account);
            }
        }
    }
}
