use jiff::ToSpan;

use super::*;

type Data = BTreeMap<String, ByteString>;

fn noon() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn names() -> Vec<String> {
    vec![
        "sts.kube-sts.svc".to_owned(),
        "alias.kube-sts.svc".to_owned(),
    ]
}

fn decide_at(data: &Data, now: Timestamp) -> Decision {
    decide(data, "tls", &names(), now).unwrap()
}

#[track_caller]
fn filled(decision: Decision, expected: Why) -> Data {
    let Decision::Fill {
        filled,
        why,
        meanwhile: _,
    } = decision
    else {
        panic!("not filled: {decision:?}");
    };
    assert_eq!(why, expected);
    filled.expose()
}

#[track_caller]
fn refused(data: &Data) -> Refusal {
    let Decision::Refuse(refusal) = decide_at(data, noon()) else {
        panic!("not refused")
    };
    refusal
}

fn fresh() -> Data {
    filled(decide_at(&Data::new(), noon()), Why::Empty)
}

fn text(data: &Data, key: &str) -> String {
    String::from_utf8(data[key].0.clone()).unwrap()
}

#[test]
fn fills_an_empty_secret_and_keeps_what_it_filled() {
    let Decision::Keep {
        pair,
        bundle,
        renew_at,
    } = decide_at(&fresh(), noon())
    else {
        panic!("not kept");
    };
    pair.parse(noon()).unwrap();
    assert!(bundle.as_pem().starts_with("-----BEGIN CERTIFICATE-----\n"));
    assert!(renew_at > noon() + (24 * 59).hours());
}

#[test]
fn empty_entries_count_as_none() {
    let empty: Data = [TLS_CRT, TLS_KEY]
        .map(|key| (key.to_owned(), ByteString::default()))
        .into();
    filled(decide_at(&empty, noon()), Why::Empty);
}

#[test]
fn keeps_entries_of_others() {
    let other: Data = [("note".to_owned(), ByteString(b"mine".to_vec()))].into();
    let data = filled(decide_at(&other, noon()), Why::Empty);
    assert_eq!(text(&data, "note"), "mine");
}

#[test]
fn order_of_the_names_does_not_matter() {
    let reversed: Vec<_> = names().into_iter().rev().collect();
    let decision = decide(&fresh(), "tls", &reversed, noon()).unwrap();
    assert!(matches!(decision, Decision::Keep { .. }), "{decision:?}");
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
    meanwhile.unwrap().0.parse(later).unwrap();
    let renewed = filled.expose();
    assert_eq!(text(&renewed, CA_CRT), text(&data, CA_CRT));
    assert_ne!(text(&renewed, TLS_CRT), text(&data, TLS_CRT));
    assert!(matches!(decide_at(&renewed, later), Decision::Keep { .. }));
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
        decide(&data, "tls", &other, noon()).unwrap(),
        Why::OtherNames,
    );
    assert_eq!(text(&reissued, CA_KEY).len(), text(&data, CA_KEY).len());
    assert_eq!(text(&reissued, CA_CRT), text(&data, CA_CRT));
}

#[test]
fn issues_by_the_authority_an_operator_put_there() {
    let mut data = fresh();
    data.remove(TLS_CRT);
    data.remove(TLS_KEY);
    let issued = filled(decide_at(&data, noon()), Why::NoLeaf);
    assert_eq!(text(&issued, CA_CRT), text(&data, CA_CRT));
}

#[test]
fn reissues_after_an_operator_replaced_the_authority() {
    let (mut data, other) = (fresh(), fresh());
    for key in [CA_CRT, CA_KEY] {
        data.insert(key.to_owned(), other[key].clone());
    }
    filled(decide_at(&data, noon()), Why::OtherAuthority);
}

#[test]
fn keeps_the_certificate_of_the_old_authority_while_the_bundle_holds_both() {
    let (mut data, new) = (fresh(), fresh());
    let both = format!("{}{}", text(&new, CA_CRT), text(&data, CA_CRT));
    data.insert(CA_CRT.to_owned(), ByteString(both.into_bytes()));
    data.insert(CA_KEY.to_owned(), new[CA_KEY].clone());
    assert!(matches!(decide_at(&data, noon()), Decision::Keep { .. }));
}

#[test]
fn refuses_every_half_written_secret() {
    for key in [CA_CRT, CA_KEY, TLS_CRT, TLS_KEY] {
        let mut data = fresh();
        data.remove(key);
        let refusal = refused(&data);
        let named =
            matches!(refusal, Refusal::HalfWritten { present: _, missing } if missing == key);
        assert!(named, "{key}: {refusal:?}");
    }
}

#[test]
fn refuses_a_certificate_without_an_authority() {
    let mut data = fresh();
    data.remove(CA_CRT);
    data.remove(CA_KEY);
    assert!(matches!(refused(&data), Refusal::NoAuthority));
}

#[test]
fn refuses_garbage_in_any_entry() {
    for key in [CA_CRT, CA_KEY, TLS_CRT, TLS_KEY] {
        let mut data = fresh();
        data.insert(key.to_owned(), ByteString(b"garbage \xff".to_vec()));
        let refusal = refused(&data);
        let of_authority = matches!(refusal, Refusal::Authority(_));
        assert_eq!(of_authority, key.starts_with("ca."), "{key}: {refusal:?}");
    }
}

#[test]
fn refuses_keys_of_other_certificates() {
    for key in [CA_KEY, TLS_KEY] {
        let mut data = fresh();
        data.insert(key.to_owned(), fresh()[key].clone());
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
    for decision in [decide_at(&Data::new(), noon()), decide_at(&fresh(), noon())] {
        let shown = format!("{decision:?}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
