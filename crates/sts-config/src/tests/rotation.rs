//! `key` and `documents` of an endpoint.

use super::*;

#[test]
fn rotations_have_units_and_bounds() {
    let key = |keys: &str| {
        let text = OPENUNISON.replace("  injector:", &format!("  key: {{{keys}}}\n  injector:"));
        Config::parse(&text)
    };
    let config = key("rotateEvery: 90d, clockSkew: 30s, staleAfter: 2m, mostKeys: 5").unwrap();
    let rotation = &config.endpoints[0].rotation;
    assert_eq!(rotation.every, Some(Duration::from_secs(90 * 86_400)));
    assert_eq!(rotation.clock_skew, Duration::from_secs(30));
    assert_eq!(rotation.stale_after, Duration::from_secs(120));
    assert_eq!(rotation.most_keys, 5);
    for (keys, problem) in [
        ("secret: other", "both name a key"),
        ("rotateEvery: often", "is no duration"),
        ("rotateEvery: 0d", "is not between"),
        ("clockSkew: 2h", "is not between 1s and 1h"),
        ("mostKeys: 2", "is no number from 3 to 100"),
    ] {
        let error = key(keys).unwrap_err().to_string();
        assert!(error.contains(problem), "{keys}: {error}");
    }
    assert!(!key("rotateEvery: 1h").unwrap().warnings.is_empty());
}

#[test]
fn documents_are_read_back_from_the_issuer_or_from_where_it_is_reached() {
    let documents = |keys: &str| {
        let text = OPENUNISON.replace(
            "  injector:",
            &format!("  documents: {{{keys}}}\n  injector:"),
        );
        Config::parse(&text).map(|config| config.endpoints[0].documents.clone())
    };
    assert_eq!(
        documents("maxAge: 1h").unwrap().max_age,
        Duration::from_secs(3600)
    );
    assert_eq!(documents("maxAge: 1h").unwrap().read_back, None);
    let issuer = documents("readBack: true").unwrap().read_back.unwrap();
    assert_eq!(issuer.address, None);
    let elsewhere = documents("readBack: https://cdn.svc/")
        .unwrap()
        .read_back
        .unwrap();
    assert_eq!(elsewhere.address.as_deref(), Some("https://cdn.svc"));
    for (keys, problem) in [
        ("readBack: perhaps", "neither true nor false"),
        ("caFile: /ca.crt", "write `readBack: true` too"),
        ("maxAge: 0s", "is not between"),
    ] {
        let error = documents(keys).unwrap_err().to_string();
        assert!(error.contains(problem), "{keys}: {error}");
    }
}
