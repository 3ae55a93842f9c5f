//! What the crypto library alone could do: check one signature and make another, on one thread, with keys that were parsed before.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
};

/// How many of each are measured.
const TIMES: u32 = 5000;

pub(super) struct Ceiling {
    pub(super) verify: Duration,
    pub(super) sign: Duration,
}

enum Signer {
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Ceiling {
    /// Checks a token of the size of `token` under RS256 with 2048 bits, and signs one with `algorithm`. CPU time of this thread is what
    /// counts: others may want the core too.
    pub(super) fn measure(token: &str, algorithm: &str) -> Self {
        let message = token.rsplit_once('.').unwrap().0.as_bytes();
        let issuer = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let random = SystemRandom::new();
        let mut signature = vec![0; issuer.public_modulus_len()];
        issuer
            .sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
            .unwrap();
        let public = issuer.public_key().as_ref();
        let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).unwrap();
        let signer = if algorithm == "ES256" {
            Signer::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
        } else {
            Signer::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
        };
        Self {
            verify: each(|| public.verify_sig(message, &signature).unwrap()),
            sign: each(|| match &signer {
                Signer::Ec(key) => drop(key.sign(&random, message).unwrap()),
                Signer::Rsa(key) => {
                    let mut own = vec![0; key.public_modulus_len()];
                    key.sign(&RSA_PKCS1_SHA256, &random, message, &mut own)
                        .unwrap();
                }
            }),
        }
    }

    pub(super) fn micros(&self) -> f64 {
        (self.verify + self.sign).as_secs_f64() * 1e6
    }

    pub(super) fn per_second(&self) -> f64 {
        1e6 / self.micros()
    }
}

/// The CPU time of one of many.
fn each(work: impl Fn()) -> Duration {
    let begin = thread_cpu();
    for _ in 0..TIMES {
        work();
    }
    thread_cpu().saturating_sub(begin) / TIMES
}

/// The CPU time that this thread has used.
fn thread_cpu() -> Duration {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = spent.split(' ').next().unwrap().parse().unwrap();
    Duration::from_nanos(nanoseconds)
}
