use jiff::ToSpan;

use super::*;
use crate::tls::trust::is_accepted;

const NAMES: [&str; 2] = ["sts.kube-sts.svc", "sts.kube-sts.svc.cluster.local"];

fn names() -> Vec<String> {
    NAMES.map(str::to_owned).to_vec()
}

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

fn noon() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// Judges as a rustls client would that trusts `bundle` alone.
fn accepts(bundle: &CaBundle, pair: &KeyPairPem, name: &str, at: Timestamp) -> bool {
    let (certified, _) = pair.parse_at_any_time().unwrap();
    is_accepted(&certified, bundle, name, at)
}

#[test]
fn tls_007_clients_of_the_authority_accept_its_certificate_under_each_name() {
    let authority = Authority::create("test", days(3652), noon()).unwrap();
    let pair = authority.issue(&names(), days(90), noon()).unwrap();
    for name in NAMES {
        assert!(accepts(authority.bundle(), &pair, name, noon()), "{name}");
    }
    assert!(!accepts(
        authority.bundle(),
        &pair,
        "other.kube-sts.svc",
        noon()
    ));
}

#[test]
fn clients_of_another_authority_do_not() {
    let pair = Authority::create("test", days(3652), noon())
        .unwrap()
        .issue(&names(), days(90), noon())
        .unwrap();
    let other = Authority::create("test", days(3652), noon()).unwrap();
    assert!(!accepts(other.bundle(), &pair, NAMES[0], noon()));
}

#[test]
fn tls_006_certificate_is_valid_five_minutes_back_and_ninety_days_ahead() {
    let authority = Authority::create("test", days(3652), noon()).unwrap();
    let pair = authority.issue(&names(), days(90), noon()).unwrap();
    let (_, facts) = pair.parse(noon()).unwrap();
    assert_eq!(facts.not_before, noon() - 5.minutes());
    assert_eq!(facts.not_after, noon() + (24 * 90).hours());
    assert_eq!(facts.dns_names, NAMES);
    assert!(accepts(
        authority.bundle(),
        &pair,
        NAMES[0],
        noon() - 4.minutes()
    ));
    assert!(!accepts(
        authority.bundle(),
        &pair,
        NAMES[0],
        noon() + (24 * 91).hours()
    ));
}

#[test]
fn renewal_is_due_after_two_thirds_of_the_life() {
    let pair = Authority::create("test", days(3652), noon())
        .unwrap()
        .issue(&names(), days(90), noon())
        .unwrap();
    let (_, facts) = pair.parse(noon()).unwrap();
    let due = facts.renew_at();
    assert!(
        due > noon() + (24 * 59).hours() && due < noon() + (24 * 60).hours(),
        "{due}"
    );
}

/// A short life is not over before it begins, though it is dated back.
#[test]
fn renewal_of_a_short_life_is_due_after_two_thirds_too() {
    let lifetime = Duration::from_secs(60);
    let authority = Authority::create("test", days(1), noon()).unwrap();
    let pair = authority.issue(&names(), lifetime, noon()).unwrap();
    let (_, facts) = pair.parse(noon()).unwrap();
    assert_eq!(facts.not_before, noon() - 5.seconds());
    let due = facts.renew_at();
    assert!(
        due > noon() + 35.seconds() && due < noon() + 45.seconds(),
        "{due}"
    );
}

#[test]
fn authority_that_is_read_again_issues_for_the_same_clients() {
    let created = Authority::create("test", days(3652), noon()).unwrap();
    let read = Authority::parse(
        created.bundle().as_pem().as_bytes(),
        &created.expose_key_pem(),
    )
    .unwrap();
    let pair = read.issue(&names(), days(90), noon()).unwrap();
    assert!(accepts(created.bundle(), &pair, NAMES[0], noon()));
}

#[test]
fn authority_is_found_in_a_bundle_of_old_and_new() {
    let (old, new) = (
        Authority::create("test", days(3652), noon()).unwrap(),
        Authority::create("test", days(3652), noon()).unwrap(),
    );
    let both = format!("{}{}", old.bundle().as_pem(), new.bundle().as_pem());
    let read = Authority::parse(both.as_bytes(), &new.expose_key_pem()).unwrap();
    let pair = read.issue(&names(), days(90), noon()).unwrap();
    assert!(accepts(new.bundle(), &pair, NAMES[0], noon()));
    assert_eq!(read.bundle(), new.bundle());
}

#[test]
fn refuses_a_key_that_is_of_no_certificate_of_the_bundle() {
    let (one, other) = (
        Authority::create("test", days(3652), noon()).unwrap(),
        Authority::create("test", days(3652), noon()).unwrap(),
    );
    let mixed = Authority::parse(one.bundle().as_pem().as_bytes(), &other.expose_key_pem());
    assert!(matches!(mixed, Err(AuthorityError::KeyNotOfBundle)));
}

#[test]
fn no_certificate_outlives_its_authority() {
    let authority = Authority::create("test", days(3652), noon()).unwrap();
    let late = authority.not_after() - 24.hours();
    let (_, facts) = authority
        .issue(&names(), days(90), late)
        .unwrap()
        .parse(late)
        .unwrap();
    assert_eq!(facts.not_after, authority.not_after());
    let too_late = authority.issue(&names(), days(90), authority.not_after());
    assert!(matches!(too_late, Err(AuthorityError::Expired { .. })));
}

#[test]
fn refuses_to_issue_without_a_name() {
    let authority = Authority::create("test", days(3652), noon()).unwrap();
    assert!(matches!(
        authority.issue(&[], days(90), noon()),
        Err(AuthorityError::NoName)
    ));
}

#[test]
fn pair_is_refused_outside_of_its_time() {
    let pair = Authority::create("test", days(3652), noon())
        .unwrap()
        .issue(&names(), days(90), noon())
        .unwrap();
    let early = pair.parse(noon() - 1.hour());
    assert!(matches!(early, Err(CertificateError::NotYetValid { .. })));
    let late = pair.parse(noon() + (24 * 91).hours());
    assert!(matches!(late, Err(CertificateError::Expired { .. })));
}

#[test]
fn bundle_never_publishes_a_key() {
    let authority = Authority::create("test", days(3652), noon()).unwrap();
    let mut pem = authority.bundle().as_pem().as_bytes().to_vec();
    pem.extend_from_slice(&authority.expose_key_pem());
    assert!(matches!(
        CaBundle::parse(&pem),
        Err(CertificateError::NotOnlyCertificates)
    ));
}

#[test]
fn bundle_holds_authorities_only() {
    let pair = Authority::create("test", days(3652), noon())
        .unwrap()
        .issue(&names(), days(90), noon())
        .unwrap();
    assert!(matches!(
        CaBundle::parse(pair.chain_pem()),
        Err(CertificateError::NotAnAuthority)
    ));
    assert!(matches!(
        CaBundle::parse(b""),
        Err(CertificateError::NoCertificate)
    ));
}

#[test]
fn debug_shows_no_key() {
    let authority = Authority::create("test", days(3652), noon()).unwrap();
    let pair = authority.issue(&names(), days(90), noon()).unwrap();
    let shown = format!("{authority:?} {pair:?}");
    assert!(
        !shown.contains("PRIVATE") && !shown.contains("MII"),
        "{shown}"
    );
}

/// The CAs of former releases say that no CA may be below them. Of a trust anchor that is not looked at by our clients (RFC 5280 section
/// 6.1 takes a name and a key for one), so that the sidecars that have it follow its successor too.
#[test]
fn a_ca_that_was_for_leaves_alone_gives_its_word_to_clients_of_rustls() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut old = params("test CA", days(3652), noon(), noon() + (24 * 3652).hours()).unwrap();
    old.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    old.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = old.self_signed(&key).unwrap().pem();
    let old = Authority::from_parts(&CaBundle::parse(pem.as_bytes()).unwrap(), key).unwrap();
    let (next, link) = old.create_successor("test", days(3652), noon()).unwrap();
    let pair = next.issue(&names(), days(90), noon()).unwrap();
    assert!(!accepts(old.bundle(), &pair, NAMES[0], noon()));
    let pair = pair.followed_by(&[link]);
    assert!(accepts(old.bundle(), &pair, NAMES[0], noon()));
}
