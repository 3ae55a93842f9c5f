use super::*;
use crate::time::UnixSeconds;

const KEY: &str = r#"{"kty":"EC","kid":"one","use":"sig","alg":"ES256","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

fn issuer() -> Issuer {
    Issuer::parse("https://issuer.example.com/a").unwrap()
}

fn key(kid: &str) -> String {
    KEY.replace("\"one\"", &format!("{kid:?}"))
}

fn set(keys: &[String]) -> String {
    format!("{{\"keys\":[{}]}}", keys.join(","))
}

fn discovery() -> String {
    r#"{"issuer":"https://issuer.example.com/a","jwks_uri":"https://issuer.example.com/a/certs",
        "authorization_endpoint":"urn:kubernetes:programmatic_authorization","response_types_supported":["id_token"],
        "subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256"],"claims_supported":["iss","sub"]}"#
        .to_owned()
}

#[track_caller]
fn refuses(discovery: &str, key_set: &str, expected: &NotPublic) {
    let found = Publication::of(&issuer(), discovery, key_set);
    assert_eq!(found.as_ref(), Err(expected));
}

#[test]
fn public_documents_are_published_to_the_byte() {
    let (discovery, key_set) = (discovery(), set(&[key("one"), key("two")]));
    let publication = Publication::of(&issuer(), &discovery, &key_set).unwrap();
    assert_eq!(publication.discovery(), discovery);
    assert_eq!(publication.key_set(), key_set);
    assert_eq!(publication.key_set_path(), "certs");
}

#[test]
fn key_012_private_members_end_the_publication() {
    for member in ["d", "p", "q", "dp", "dq", "qi", "k", "oth"] {
        let private = key("one").replace("\"use\"", &format!("\"{member}\":\"AAAA\",\"use\""));
        refuses(&discovery(), &set(&[private]), &NotPublic::PrivateKey);
    }
    let symmetric = r#"{"kty":"oct","kid":"one"}"#.to_owned();
    refuses(&discovery(), &set(&[symmetric]), &NotPublic::PrivateKey);
}

#[test]
fn key_012_a_private_key_in_pem_ends_the_publication_wherever_it_stands() {
    for label in [
        "RSA PRIVATE KEY",
        "PRIVATE KEY",
        "EC PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
    ] {
        let pem = format!("-----BEGIN {label}-----");
        refuses(&discovery(), &set(&[key(&pem)]), &NotPublic::PrivateKey);
        let hidden = discovery().replace("\"sub\"", &format!("{pem:?}"));
        refuses(&hidden, &set(&[key("one")]), &NotPublic::PrivateKey);
    }
}

#[test]
fn key_012_a_member_that_is_not_known_to_be_public_ends_the_publication() {
    let more = key("one").replace("\"use\"", "\"x5c\":\"AAAA\",\"use\"");
    refuses(&discovery(), &set(&[more]), &NotPublic::KeySet);
    let beside = set(&[key("one")]).replace("{\"keys\"", "{\"seed\":\"AAAA\",\"keys\"");
    refuses(&discovery(), &beside, &NotPublic::KeySet);
    let discovery = discovery().replace("{\"issuer\"", "{\"secret\":\"AAAA\",\"issuer\"");
    refuses(&discovery, &set(&[key("one")]), &NotPublic::Discovery);
}

#[test]
fn disc_008_keys_without_an_id_or_with_one_id_are_not_published() {
    refuses(&discovery(), &set(&[key("")]), &NotPublic::KeySet);
    refuses(
        &discovery(),
        &set(&[key("one"), key("one")]),
        &NotPublic::KeySet,
    );
    refuses(&discovery(), &set(&[]), &NotPublic::KeySet);
}

#[test]
fn disc_002_documents_of_another_issuer_are_not_published() {
    let foreign = discovery().replace("example.com/a\",\"jwks", "example.com/a/\",\"jwks");
    let found = "https://issuer.example.com/a/".to_owned();
    let expected = NotPublic::ForeignIssuer {
        found,
        expected: issuer(),
    };
    refuses(&foreign, &set(&[key("one")]), &expected);
}

#[test]
fn disc_003_a_key_set_elsewhere_is_not_published() {
    for place in [
        "https://elsewhere.example.com/certs",
        "https://issuer.example.com/ab/certs",
        "https://issuer.example.com/a/../b",
        "https://issuer.example.com/a//certs",
        "https://issuer.example.com/a/certs?x",
        "https://issuer.example.com/a/",
    ] {
        let elsewhere = discovery().replace("https://issuer.example.com/a/certs", place);
        let found = place.to_owned();
        let expected = NotPublic::ForeignKeySet {
            found,
            issuer: issuer(),
        };
        refuses(&elsewhere, &set(&[key("one")]), &expected);
    }
}

/// What kube-apiserver says.
fn served(place: &str) -> String {
    format!(
        "{{\"issuer\":\"https://issuer.example.com/a\",\"jwks_uri\":\"{place}\",\"response_types_supported\":[\"id_token\"],\
         \"subject_types_supported\":[\"public\"],\"id_token_signing_alg_values_supported\":[\"ES256\"],\"new_in_kubernetes\":1}}"
    )
}

fn cluster(keys: &[&str]) -> ClusterDocuments {
    let keys: Vec<String> = keys.iter().map(|kid| key(kid)).collect();
    let place = "https://10.0.0.1:6443/openid/v1/jwks";
    ClusterDocuments::parse(
        &issuer(),
        &served(place),
        &set(&keys),
        KeySetPlace::Rewritten,
    )
    .unwrap()
}

fn at(minute: u32) -> UnixSeconds {
    let since = std::time::Duration::from_secs(60).saturating_mul(minute);
    UnixSeconds::new(1_800_000_000)
        .unwrap()
        .saturating_add(since)
}

fn ids(publication: &Publication) -> Vec<String> {
    publication.key_ids()
}

#[test]
fn a_clusters_documents_are_sent_under_the_public_issuer_and_made_whole() {
    let publication = cluster(&["one"]).publication(None, &mut Absences::default(), at(0));
    let publication = publication.unwrap();
    assert_eq!(publication.key_set_path(), "openid/v1/jwks");
    let written: serde_json::Value = serde_json::from_str(publication.discovery()).unwrap();
    assert_eq!(
        written["jwks_uri"],
        "https://issuer.example.com/a/openid/v1/jwks"
    );
    assert_eq!(written["claims_supported"][2], "aud");
    assert!(written["new_in_kubernetes"].is_null(), "{written}");
}

#[test]
fn a_clusters_key_set_elsewhere_is_refused_unless_it_may_be_rewritten() {
    let place = "https://10.0.0.1:6443/openid/v1/jwks".to_owned();
    let keys = set(&[key("one")]);
    let parsed = ClusterDocuments::parse(&issuer(), &served(&place), &keys, KeySetPlace::AsServed);
    let expected = NotPublic::ForeignKeySet {
        found: place,
        issuer: issuer(),
    };
    assert_eq!(parsed.unwrap_err(), expected);
}

#[test]
fn key_012_a_clusters_private_keys_end_the_publication() {
    let keys = set(&[key("one").replace("\"use\"", "\"d\":\"AAAA\",\"use\"")]);
    let place = "https://issuer.example.com/a/openid/v1/jwks";
    let parsed = ClusterDocuments::parse(&issuer(), &served(place), &keys, KeySetPlace::AsServed);
    assert_eq!(parsed.unwrap_err(), NotPublic::PrivateKey);
}

#[test]
fn a_key_that_one_of_several_api_servers_does_not_show_stays_published_for_a_while() {
    let mut absences = Absences::default();
    let both = cluster(&["one", "two"]);
    let first = both.publication(None, &mut absences, at(0)).unwrap();
    assert_eq!(ids(&first), ["one", "two"]);
    let old = cluster(&["one"]);
    let mut published = first;
    for minute in 1..=15 {
        // The other API server answers now and then, so that nobody knows yet.
        let answer = if minute == 8 { &both } else { &old };
        let next = answer.publication(
            Some(published.key_set().as_bytes()),
            &mut absences,
            at(minute),
        );
        published = next.unwrap();
        assert_eq!(ids(&published), ["one", "two"], "at minute {minute}");
    }
    let last = old
        .publication(Some(published.key_set().as_bytes()), &mut absences, at(24))
        .unwrap();
    assert_eq!(ids(&last), ["one"]);
}

#[test]
fn a_key_that_somebody_removed_from_the_published_set_comes_back_only_if_the_api_server_shows_it() {
    let mut absences = Absences::default();
    let published = set(&[key("one")]);
    let next =
        cluster(&["one", "two"]).publication(Some(published.as_bytes()), &mut absences, at(0));
    assert_eq!(ids(&next.unwrap()), ["one", "two"]);
    let next = cluster(&["one"]).publication(Some(published.as_bytes()), &mut absences, at(1));
    assert_eq!(ids(&next.unwrap()), ["one"]);
}
