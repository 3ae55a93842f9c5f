use std::time::Duration;

use jiff::ToSpan;
use k8s_openapi::ByteString;

use super::super::content::{CA_CRT, CA_KEY, NEXT_CA_KEY, TLS_CRT, TLS_KEY};
use super::*;
use crate::tls::authority::AuthorityError;
use crate::tls::pem::CertificateError;

mod rotation;

const ROTATION: CertificateRotation = CertificateRotation {
    authority_lifetime: days(1000),
    certificate_lifetime: days(90),
    rotate_every: days(500),
    overlap: days(100),
    retire_after: days(50),
};

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

fn noon() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn names() -> Vec<String> {
    vec![
        "sts.kube-sts.svc".to_owned(),
        "alias.kube-sts.svc".to_owned(),
    ]
}

fn decide_for(
    content: &Content,
    dns_names: &[String],
    published: &Published,
    now: Timestamp,
) -> Decision {
    let context = Context {
        name: "tls",
        dns_names,
        rotation: &ROTATION,
        published,
        now,
    };
    decide(content, context).unwrap()
}

/// Where nobody finds anything, so that no CA is ever followed by another.
fn decide_at(content: &Content, now: Timestamp) -> Decision {
    decide_for(content, &names(), &Published::Seen(Vec::new()), now)
}

#[track_caller]
fn filled(decision: Decision, expected: Why) -> Content {
    let Decision::Fill {
        filled,
        why,
        meanwhile: _,
    } = decision
    else {
        panic!("not filled: {decision:?}");
    };
    assert_eq!(why, expected);
    filled
}

#[track_caller]
fn kept(decision: Decision) -> (Presentable, Timestamp) {
    let Decision::Keep {
        presentable,
        look_at,
    } = decision
    else {
        panic!("not kept: {decision:?}");
    };
    (presentable, look_at)
}

#[track_caller]
fn refused(content: &Content) -> Refusal {
    let Decision::Refuse(refusal) = decide_at(content, noon()) else {
        panic!("not refused")
    };
    refusal
}

fn fresh() -> Content {
    filled(decide_at(&Content::default(), noon()), Why::Empty)
}

fn put(content: &mut Content, key: &str, bytes: &[u8]) {
    let bytes = ByteString(bytes.to_vec());
    content.data.insert(key.to_owned(), bytes);
}

fn text(content: &Content, key: &str) -> String {
    String::from_utf8(content.data[key].0.clone()).unwrap()
}

#[test]
fn fills_an_empty_secret_and_keeps_what_it_filled() {
    let (presentable, look_at) = kept(decide_at(&fresh(), noon()));
    presentable.pair.parse(noon()).unwrap();
    let pem = presentable.bundle.as_pem();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{pem}");
    assert!(look_at > noon() + (24 * 59).hours(), "{look_at}");
}

#[test]
fn empty_entries_count_as_none() {
    let mut empty = Content::default();
    for key in [TLS_CRT, TLS_KEY] {
        put(&mut empty, key, b"");
    }
    filled(decide_at(&empty, noon()), Why::Empty);
}

#[test]
fn keeps_entries_and_annotations_of_others() {
    let mut other = Content::default();
    put(&mut other, "note", b"mine");
    let annotation = ("example.com/owner".to_owned(), "me".to_owned());
    other.annotations.extend([annotation.clone()]);
    let content = filled(decide_at(&other, noon()), Why::Empty);
    assert_eq!(text(&content, "note"), "mine");
    assert_eq!(content.annotations[&annotation.0], annotation.1);
}

#[test]
fn order_of_the_names_does_not_matter() {
    let reversed: Vec<_> = names().into_iter().rev().collect();
    let decision = decide_for(&fresh(), &reversed, &Published::Nowhere, noon());
    kept(decision);
}

#[test]
fn renews_the_certificate_by_the_same_authority_and_serves_the_old_one_meanwhile() {
    let data = fresh();
    let later = noon() + (24 * 61).hours();
    let Decision::Fill {
        filled,
        why,
        meanwhile,
    } = decide_at(&data, later)
    else {
        panic!("not renewed");
    };
    assert_eq!(why, Why::Aged);
    meanwhile.unwrap().pair.parse(later).unwrap();
    let renewed = filled;
    assert_eq!(text(&renewed, CA_CRT), text(&data, CA_CRT));
    assert_ne!(text(&renewed, TLS_CRT), text(&data, TLS_CRT));
    kept(decide_at(&renewed, later));
}

#[test]
fn replaces_an_expired_certificate_by_the_same_authority() {
    let data = fresh();
    let renewed = filled(decide_at(&data, noon() + (24 * 365).hours()), Why::Aged);
    assert_eq!(text(&renewed, CA_CRT), text(&data, CA_CRT));
}

#[test]
fn reissues_for_other_names() {
    let data = fresh();
    let other = ["new.kube-sts.svc".to_owned()];
    let reissued = filled(
        decide_for(&data, &other, &Published::Nowhere, noon()),
        Why::OtherNames,
    );
    assert_eq!(text(&reissued, CA_KEY).len(), text(&data, CA_KEY).len());
    assert_eq!(text(&reissued, CA_CRT), text(&data, CA_CRT));
}

#[test]
fn issues_by_the_authority_an_operator_put_there() {
    let mut data = fresh();
    for key in [TLS_CRT, TLS_KEY] {
        data.data.remove(key);
    }
    let issued = filled(decide_at(&data, noon()), Why::NoLeaf);
    assert_eq!(text(&issued, CA_CRT), text(&data, CA_CRT));
}

#[test]
fn reissues_after_an_operator_replaced_the_authority() {
    let (mut data, other) = (fresh(), fresh());
    for key in [CA_CRT, CA_KEY] {
        put(&mut data, key, text(&other, key).as_bytes());
    }
    filled(decide_at(&data, noon()), Why::OtherAuthority);
}

#[test]
fn keeps_the_certificate_of_the_old_authority_while_the_bundle_holds_both() {
    let (mut data, new) = (fresh(), fresh());
    let both = format!("{}{}", text(&new, CA_CRT), text(&data, CA_CRT));
    put(&mut data, CA_CRT, both.as_bytes());
    put(&mut data, CA_KEY, text(&new, CA_KEY).as_bytes());
    kept(decide_at(&data, noon()));
}

#[test]
fn refuses_every_half_written_secret() {
    for key in [CA_CRT, CA_KEY, TLS_CRT, TLS_KEY] {
        let mut data = fresh();
        data.data.remove(key);
        let refusal = refused(&data);
        let named =
            matches!(refusal, Refusal::HalfWritten { present: _, missing } if missing == key);
        assert!(named, "{key}: {refusal:?}");
    }
}

#[test]
fn refuses_a_certificate_without_an_authority() {
    let mut data = fresh();
    for key in [CA_CRT, CA_KEY] {
        data.data.remove(key);
    }
    assert!(matches!(refused(&data), Refusal::NoAuthority));
}

#[test]
fn refuses_garbage_in_any_entry() {
    for key in [CA_CRT, CA_KEY, TLS_CRT, TLS_KEY] {
        let mut data = fresh();
        put(&mut data, key, b"garbage \xff");
        let refusal = refused(&data);
        let of_authority = matches!(refusal, Refusal::Authority(_));
        assert_eq!(of_authority, key.starts_with("ca."), "{key}: {refusal:?}");
    }
}

#[test]
fn refuses_keys_of_other_certificates() {
    for key in [CA_KEY, TLS_KEY] {
        let mut data = fresh();
        put(&mut data, key, text(&fresh(), key).as_bytes());
        let refusal = refused(&data);
        let named = matches!(
            refusal,
            Refusal::Authority(AuthorityError::KeyNotOfBundle)
                | Refusal::Leaf(CertificateError::Pair(_))
        );
        assert!(named, "{key}: {refusal:?}");
    }
}

#[test]
fn refuses_an_expired_authority_rather_than_making_a_new_one() {
    let decision = decide_at(&fresh(), noon() + (24 * 365 * 11).hours());
    assert!(
        matches!(decision, Decision::Refuse(Refusal::AuthorityExpired { .. })),
        "{decision:?}"
    );
}

#[test]
fn debug_shows_no_key() {
    for content in [Content::default(), fresh()] {
        let decision = decide_at(&content, noon());
        let shown = format!("{decision:?}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
