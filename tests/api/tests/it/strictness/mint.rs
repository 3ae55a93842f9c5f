//! Makes tokens by chance: near a good one, and by the cluster's own key.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use test_support::{TestKey, TokenBuilder};

/// What there is in the cluster.
pub(super) struct Scene {
    /// The API server's signing key, PEM.
    pub(super) key: String,
    pub(super) namespace: String,
    pub(super) other_namespace: String,
    /// Names and uids.
    pub(super) pods: Vec<(String, String)>,
    pub(super) gone: (String, String),
    pub(super) accounts: Vec<(String, String)>,
    pub(super) audience: String,
    /// As the API server made it.
    pub(super) token: String,
}

/// A token, and how it was made.
#[derive(Clone)]
pub(super) struct Minted {
    pub(super) token: String,
    /// The time it was made for, and is looked at.
    pub(super) now: u64,
    /// Its class, for counting.
    pub(super) change: &'static str,
    /// What was signed, to find out what is wrong.
    pub(super) text: String,
}

/// xorshift64*: the same tokens in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % limit.max(1)
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

pub(super) struct Mint {
    pub(super) scene: Scene,
    key: TestKey,
    claims: Value,
    random: Random,
}

impl Mint {
    pub(super) fn new(scene: Scene) -> Self {
        let body: String = scene
            .key
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        let payload = scene.token.split('.').nth(1).unwrap();
        let claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap());
        Self {
            key: TestKey::from_pkcs8(&STANDARD.decode(body).unwrap()),
            claims: claims.unwrap(),
            random: Random(0x9e37_79b9_7f4a_7c15),
            scene,
        }
    }

    pub(super) fn next(&mut self) -> Minted {
        let now = now();
        let kind = self.random.below(10);
        if kind == 0 {
            let token = self.scene.token.clone();
            return self.change_text(now, "real token's text", token, String::new());
        }
        let mut header = json!({"alg": "RS256", "kid": self.key.kid()});
        let mut claims = self.claims.clone();
        claims["iat"] = json!(now);
        claims["nbf"] = json!(now);
        claims["exp"] = json!(now + 3607);
        let change = match kind {
            1 | 2 => self.change_header(&mut header),
            3 | 4 => self.change_times(&mut claims, now),
            5 => self.change_audience(&mut claims),
            6 | 7 => self.change_subject(&mut claims),
            _ => self.change_others(&mut claims),
        };
        if self.random.one_in(4) {
            self.change_times(&mut claims, now);
        }
        let mut payload = claims.to_string();
        let mut header = header.to_string();
        if self.random.one_in(4) {
            let text = if self.random.one_in(3) {
                &mut header
            } else {
                &mut payload
            };
            change_json(&mut self.random, text);
        }
        let text = format!("{header} {payload}");
        let token = match self.random.below(20) {
            0 => TokenBuilder::compact(TestKey::other_rsa(), header, payload),
            _ => TokenBuilder::compact(&self.key, header, payload),
        };
        if self.random.one_in(8) {
            return self.change_text(now, "new token's text", token, text);
        }
        Minted {
            token,
            now,
            change,
            text,
        }
    }

    fn change_header(&mut self, header: &mut Value) -> &'static str {
        const NAMES: [&str; 30] = [
            "alg", "kid", "typ", "cty", "crit", "b64", "jku", "jwk", "x5u", "x5c", "x5t",
            "x5t#S256", "zip", "enc", "nonce", "url", "epk", "apu", "apv", "iv", "tag", "p2s",
            "p2c", "iss", "sub", "aud", "foo", "Alg", "KID", "",
        ];
        let values = [
            json!("JWT"),
            json!("RS256"),
            json!("none"),
            json!("ES256"),
            json!("HS256"),
            json!("x"),
            json!(""),
            json!(1),
            json!(null),
            json!(true),
            json!([]),
            json!(["exp"]),
            json!({}),
            json!({"a": [1.5]}),
            json!(TestKey::other_rsa().kid()),
            json!(TestKey::other_rsa().jwk()),
            json!("\u{0}\u{e9}"),
        ];
        for _ in 0..=self.random.below(2) {
            let name = *self.random.pick(&NAMES);
            header[name] = self.random.pick(&values).clone();
        }
        "header"
    }

    fn change_times(&mut self, claims: &mut Value, now: u64) -> &'static str {
        const AHEAD: [u64; 15] = [
            0, 1, 2, 5, 30, 59, 60, 61, 62, 600, 3600, 86_399, 86_400, 86_401, 31_536_000,
        ];
        let claim = *self.random.pick(&["exp", "exp", "iat", "nbf"]);
        let seconds = *self.random.pick(&AHEAD);
        claims[claim] = match self.random.below(10) {
            0 => json!(now.saturating_sub(seconds).to_string()),
            1 => self
                .random
                .pick(&[
                    json!(null),
                    json!(-1),
                    json!(1e10),
                    json!(0.5),
                    json!(u64::MAX),
                ])
                .clone(),
            2..5 => json!(now - seconds),
            _ => json!(now + seconds),
        };
        "times"
    }

    fn change_audience(&mut self, claims: &mut Value) -> &'static str {
        let ours = &self.scene.audience;
        let issuer = claims["iss"].clone();
        let values = [
            json!(ours),
            json!([ours, ours]),
            json!([ours]),
            json!([issuer, ours]),
            json!([ours, issuer]),
            issuer,
            json!([]),
            json!(""),
            json!([""]),
            json!(null),
            json!([ours, 1]),
            json!([[ours]]),
            json!({"a": ours}),
            json!(format!("{ours}/")),
            json!(ours.to_uppercase()),
            json!([ours, "x"]),
            json!(1),
        ];
        claims["aud"] = self.random.pick(&values).clone();
        if self.random.one_in(15) {
            drop(claims.as_object_mut().unwrap().remove("aud"));
        }
        "audience"
    }

    fn change_subject(&mut self, claims: &mut Value) -> &'static str {
        match self.random.below(3) {
            0 => self.change_pod(&mut claims["kubernetes.io"]),
            1 => self.change_account(claims),
            _ => self.change_binding(&mut claims["kubernetes.io"]),
        }
        "subject"
    }

    /// Another pod, one that is gone, one pod's name with another's uid.
    fn change_pod(&mut self, kubernetes: &mut Value) {
        let Self { scene, random, .. } = self;
        let pod = random.pick(&scene.pods);
        let other = random.pick(&scene.pods);
        kubernetes["pod"] = match random.below(6) {
            0..3 => json!({"name": pod.0, "uid": pod.1}),
            3 => json!({"name": pod.0, "uid": other.1}),
            4 => json!({"name": scene.gone.0, "uid": scene.gone.1}),
            _ => json!({"name": pod.0, "uid": pod.1, "x": 1}),
        };
    }

    /// Another ServiceAccount, wholly or by half, or one of another namespace.
    fn change_account(&mut self, claims: &mut Value) {
        let Self { scene, random, .. } = self;
        let (account, uid) = random.pick(&scene.accounts);
        let of = |namespace: &str, name: &str| format!("system:serviceaccount:{namespace}:{name}");
        let ours = &scene.namespace;
        let kubernetes = &mut claims["kubernetes.io"];
        match random.below(8) {
            0..3 => kubernetes["serviceaccount"] = json!({"name": account, "uid": uid}),
            3 => kubernetes["serviceaccount"]["name"] = json!(account),
            4 => kubernetes["serviceaccount"]["uid"] = json!(uid),
            5 => kubernetes["namespace"] = json!(scene.other_namespace),
            6 => {
                let other = of(ours, "app:x");
                claims["sub"] = json!(random.pick(&["system:admin", "app", &other]));
                return;
            }
            _ => {
                claims["sub"] = json!(of(ours, account));
                return;
            }
        }
        let namespace = kubernetes["namespace"].as_str().unwrap();
        let name = kubernetes["serviceaccount"]["name"].as_str().unwrap();
        claims["sub"] = json!(of(namespace, name));
    }

    /// Members of `kubernetes.io` taken away, added, or of another type.
    fn change_binding(&mut self, kubernetes: &mut Value) {
        const MEMBERS: [&str; 9] = [
            "namespace",
            "node",
            "pod",
            "serviceaccount",
            "secret",
            "warnafter",
            "x",
            "Pod",
            "secrets",
        ];
        let Self { scene, random, .. } = self;
        let member = *random.pick(&MEMBERS);
        let odd = [
            json!(null),
            json!(1),
            json!(""),
            json!([]),
            json!({}),
            json!("x"),
            json!(-1),
            json!(i64::MAX),
            json!(0.5),
            json!({"name": "n", "uid": scene.pods[0].1}),
        ];
        if random.one_in(3) {
            drop(kubernetes.as_object_mut().unwrap().remove(member));
        } else {
            kubernetes[member] = random.pick(&odd).clone();
        }
    }

    fn change_others(&mut self, claims: &mut Value) -> &'static str {
        const NAMES: [&str; 14] = [
            "azp",
            "scope",
            "foo",
            "act",
            "Iss",
            "EXP",
            "",
            "jti",
            "jti",
            "iss",
            "sub_jwk",
            "cnf",
            "kubernetes.IO",
            "\u{e9}",
        ];
        let deep = (0..self.random.below(9)).fold(json!(1), |inner, _| json!([inner]));
        let issuer = claims["iss"].as_str().unwrap().to_owned();
        let values = [
            json!("x"),
            json!(""),
            json!(1),
            json!(-0.5),
            json!(1e300),
            json!(null),
            json!(true),
            json!([]),
            json!({}),
            json!({"a": {"b": null}}),
            deep,
            json!("\u{0}\u{1f600}"),
            json!(format!("{issuer}/")),
            json!(issuer),
        ];
        for _ in 0..=self.random.below(3) {
            let name = *self.random.pick(&NAMES);
            claims[name] = self.random.pick(&values).clone();
        }
        if self.random.one_in(10) {
            let name = *self
                .random
                .pick(&["iss", "jti", "sub", "exp", "iat", "nbf"]);
            drop(claims.as_object_mut().unwrap().remove(name));
        }
        "other claims"
    }

    /// A change of the signed text: almost always fatal.
    fn change_text(
        &mut self,
        now: u64,
        change: &'static str,
        token: String,
        text: String,
    ) -> Minted {
        let mut bytes = token.into_bytes();
        let at = self.random.below(bytes.len());
        match self.random.below(6) {
            0 => bytes[at] ^= 1 << self.random.below(7),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, *self.random.pick(b"A-_.= \n")),
            3 => drop(bytes.remove(at)),
            4 => {
                let last = bytes.len() - 1;
                bytes[last] = *self
                    .random
                    .pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
            }
            _ => {}
        }
        Minted {
            token: String::from_utf8_lossy(&bytes).into_owned(),
            now,
            change,
            text,
        }
    }
}

/// Changes that JSON values do not show: white space, escapes, members twice, numbers written in another way.
fn change_json(random: &mut Random, text: &mut String) {
    match random.below(9) {
        0 => *text = format!(" {text}\n"),
        1 => *text = text.replacen(':', " :\t", 1 + random.below(3)),
        2 => *text = text.replacen("\"iss\"", "\"\\u0069ss\"", 1),
        3 => *text = text.replacen("\"a", "\"\\u0061", 1 + random.below(3)),
        4 => *text = text.replacen('{', "{\"sub\":\"x\",", 1),
        5 => *text = text.replacen('{', "{\"foo\":1,\"foo\":2,", 1),
        6 => *text = text.replacen(",\"iat\"", ".0,\"iat\"", 1),
        7 => text.push_str(["x", "{}", "\0", " "][random.below(4)]),
        _ => *text = text.replacen('}', ",}", 1),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the API server reads the real clock, so these tokens are made for it"
)]
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}
