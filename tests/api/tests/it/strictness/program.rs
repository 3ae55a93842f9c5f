//! The program itself, with a watch of the API server.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::super::install::Install;
use super::super::process::Process;
use super::{Accepted, Minted};

pub(super) struct Program {
    pub(super) client: Client,
    _process: Process,
}

#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
}

impl Program {
    pub(super) async fn start(install: &Install) -> Self {
        let mut process = Process::server_with(install, |config| {
            config["endpoints"][0]["verification"] = json!("watch");
        });
        process.becomes_ready().await;
        let client = Client {
            http: process.client(install).await,
            url: process.url(install, "/aws/token"),
        };
        Self {
            client,
            _process: process,
        }
    }
}

impl Client {
    /// What the issued token says of its subject; `None` if none is issued. In a form, which carries any text.
    pub(super) async fn exchange(&self, minted: Minted) -> Option<Accepted> {
        let form = [
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("subject_token", &minted.token),
        ];
        let answer = self.http.post(&self.url).form(&form).send().await.unwrap();
        match answer.status().as_u16() {
            200 => {}
            400 => return None,
            other => panic!("{other} for {}", minted.text),
        }
        let answer: Value = answer.json().await.unwrap();
        let issued = answer["access_token"].as_str().unwrap();
        let payload = issued.split('.').nth(1).unwrap();
        let claims: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        let text = |claim: &Value| claim.as_str().unwrap().to_owned();
        Some(Accepted {
            minted,
            username: text(&claims["sub"]),
            pod_uid: text(&claims["kubernetes.io"]["pod"]["uid"]),
        })
    }
}
