//! How clients that know an old CA alone come to trust the next.

use super::super::super::super::content::CA_LINKS;
use super::*;

/// As a sidecar does whose pod was made before the successor was, and lives on.
#[test]
fn tls_005_who_trusts_the_old_ca_alone_trusts_its_successor_by_its_word() {
    let before = due();
    let old = state(&before).issuing;
    let content = take_over(publish(prepare(before)));
    leaf_is_of(&content, &old, 503);
    let (retired, whys) = settle(content.clone(), &found(&content), at(554));
    assert_eq!(whys, [Why::Retired]);
    leaf_is_of(&retired, &old, 554);
    let (renewed, whys) = settle(retired.clone(), &found(&retired), at(570));
    assert_eq!(whys, [Why::Aged]);
    leaf_is_of(&renewed, &old, 570);
    let stranger = Authority::create("tls", days(1000), noon()).unwrap();
    let leaf = state(&renewed).leaf.unwrap();
    let at = leaf.facts.not_before;
    assert!(!is_accepted(
        &leaf.certified,
        stranger.bundle(),
        &names()[0],
        at
    ));
}

/// Each by the wish of a person, and so soon after one another that no link ends.
#[test]
fn tls_005_a_ca_is_trusted_by_way_of_four_others_and_of_no_more() {
    let mut content = fresh();
    let first = state(&content).issuing;
    for generation in 1..=i64::from(MOST_LINKS) + 1 {
        let day = generation * 160;
        let wish = generation.to_string();
        content.annotations.insert(ROTATE.to_owned(), wish);
        for day in [day, day + 1, day + 102, day + 153] {
            content = settle(content.clone(), &found(&content), at(day)).0;
        }
        let leaf = state(&content).leaf.unwrap();
        let begin = leaf.facts.not_before;
        let accepted = is_accepted(&leaf.certified, first.bundle(), &names()[0], begin);
        assert_eq!(
            accepted,
            generation <= i64::from(MOST_LINKS),
            "{generation}"
        );
        assert!(leaf.certified.cert.len() <= 1 + usize::from(MOST_LINKS));
    }
}

/// What else trusts that CA is not ours to know, and is not to trust ours.
#[test]
fn a_ca_of_the_operators_gives_its_word_for_nobody() {
    let mut content = fresh();
    let foreign = Authority::create("corporate", days(3000), noon()).unwrap();
    put(&mut content, CA_CRT, foreign.bundle().as_pem().as_bytes());
    put(&mut content, CA_KEY, &foreign.expose_key_pem());
    let wish = "please".to_owned();
    content.annotations.insert(ROTATE.to_owned(), wish);
    for day in [1, 2, 103] {
        content = settle(content.clone(), &found(&content), at(day)).0;
    }
    let State { issuing, leaf, .. } = state(&content);
    assert!(issuing.is_ours("tls") && !content.data.contains_key(CA_LINKS));
    let leaf = leaf.unwrap();
    let begin = leaf.facts.not_before;
    assert!(!is_accepted(
        &leaf.certified,
        foreign.bundle(),
        &names()[0],
        begin
    ));
}

/// That is what a leaked key needs: nobody who trusts it is to be led on.
#[test]
fn an_emptied_secret_has_a_ca_that_nobody_gives_his_word_for() {
    let mut content = taken_over();
    let old = state(&content).issuing;
    content.data.clear();
    let (content, whys) = settle(content, &Published::Nowhere, at(504));
    assert_eq!(whys, [Why::Empty]);
    assert!(!content.data.contains_key(CA_LINKS));
    let leaf = state(&content).leaf.unwrap();
    let begin = leaf.facts.not_before;
    assert!(!is_accepted(
        &leaf.certified,
        old.bundle(),
        &names()[0],
        begin
    ));
}

#[test]
fn refuses_links_that_are_none() {
    let of_no_ca = text(&taken_over(), TLS_CRT);
    for damage in ["half a certi", &of_no_ca] {
        let mut content = taken_over();
        put(&mut content, CA_LINKS, damage.as_bytes());
        assert!(matches!(refused(&content), Refusal::Links(_)));
    }
}
