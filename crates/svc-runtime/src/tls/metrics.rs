//! What an operator must know of a certificate before its clients do.

use std::fmt;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;

use super::ServingCertificate;

/// Reads the certificate presented at each scrape.
#[derive(Debug)]
pub(super) struct Expiry(pub(super) ServingCertificate);

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Self(certificate) = self;
        let current = certificate.current.load();
        let current = current.as_ref();
        let refused = i64::from(certificate.refused.load(Ordering::Relaxed));
        let leaf = current.map(|serving| serving.facts.not_after);
        let authority = current.and_then(|serving| serving.authority_not_after);
        let gauges = [
            (
                "tls_certificate_not_after_seconds",
                "Last second of the serving certificate, Unix time",
                leaf.map(Timestamp::as_second),
            ),
            (
                "tls_ca_not_after_seconds",
                "Last second of the CA that we issue it from, Unix time",
                authority.map(Timestamp::as_second),
            ),
            (
                "tls_certificate_refused",
                "Whether the newest certificate there is could not be used and the one before it stays: 1 or 0",
                Some(refused),
            ),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::clock;
    use crate::tls::ephemeral;

    #[test]
    fn tls_006_the_last_second_of_certificate_and_ca_is_shown() {
        let certificate = ServingCertificate::empty();
        let mut registry = Registry::default();
        certificate.register_metrics(&mut registry);
        let shown = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        let before = shown();
        assert!(!before.contains("not_after_seconds "), "{before}");
        let (pair, _) = ephemeral(&["a.test".to_owned()], clock::now()).unwrap();
        let authority = Timestamp::from_second(4_000_000_000).unwrap();
        let facts = certificate.present(&pair, Some(authority)).unwrap();
        let after = shown();
        let leaf = facts.not_after.as_second();
        for line in [
            format!("tls_certificate_not_after_seconds {leaf}\n"),
            "tls_ca_not_after_seconds 4000000000\n".to_owned(),
            "tls_certificate_refused 0\n".to_owned(),
        ] {
            assert!(after.contains(&line), "{line} of {after}");
        }
    }
}
