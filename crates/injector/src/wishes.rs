//! What a pod may wish of its sidecar, by OpenUnison's annotations: whom it runs as, and whose volume it writes to. Nothing else of it
//! can be chosen by a pod.

use crate::plan::{SidecarUser, TokensVolume};
use crate::pod::{PodView, SpecView};
use crate::refusal::Refusal;
use crate::review::PodName;

/// A pod's wishes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wishes {
    user: Option<i64>,
    group: Option<i64>,
    pub(crate) volume: TokensVolume,
}

impl Wishes {
    pub(crate) fn parse(name: &PodName, pod: &PodView<'_>) -> Result<Self, Refusal> {
        let refuse = |key: &'static str, expected| Refusal::Wish {
            pod: name.clone(),
            key,
            expected,
        };
        let number = |key: &'static str| match pod.annotation(key) {
            None => Ok(None),
            // OpenUnison means by 0 that nobody is named.
            Some(text) => match parse_id(text) {
                Some(id) => Ok(Some(id).filter(|id| *id != 0)),
                None => Err(refuse(key, A_NUMBER)),
            },
        };
        let flag = |key: &'static str| match pod.annotation(key) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(refuse(key, A_FLAG)),
        };
        // Either way it does not run as root: that is not the pod's to choose.
        let _non_root: Option<bool> = flag(NON_ROOT)?;
        let volume = match flag(CREATE_VOLUME)? {
            Some(false) => TokensVolume::Brought,
            Some(true) | None => TokensVolume::Added,
        };
        Ok(Self {
            user: number(USER)?,
            group: number(GROUP)?,
            volume,
        })
    }

    /// Whom the sidecar runs as. In a pod that runs as root, which `runAsNonRoot` refuses, its image's user is said explicitly.
    pub(crate) fn user(self, spec: &SpecView<'_>) -> SidecarUser {
        let context = spec.security_context.as_ref();
        let is_root = context.and_then(|context| context.run_as_user) == Some(0);
        SidecarUser {
            user: self.user.or(if is_root { Some(IMAGE_USER) } else { None }),
            group: self.group,
        }
    }
}

fn parse_id(text: &str) -> Option<i64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text.parse().ok();
    id.filter(|id| is_number && *id <= LARGEST_ID)
}

/// OpenUnison's names of them.
pub(crate) const KEYS: [&str; 4] = [USER, GROUP, NON_ROOT, CREATE_VOLUME];
pub(crate) const USER: &str = "tremolo.io/user";
pub(crate) const GROUP: &str = "tremolo.io/group";
pub(crate) const NON_ROOT: &str = "tremolo.io/non-root";
pub(crate) const CREATE_VOLUME: &str = "tremolo.io/create-volume";
/// What a user is told to write.
pub(crate) const A_NUMBER: &str = "a number such as \"1000\"";
pub(crate) const A_FLAG: &str = "\"true\" or \"false\"";
/// `USER` of the refresher's image.
pub(crate) const IMAGE_USER: i64 = 65532;
/// Kubernetes takes 0 to 2^31 - 1.
pub(crate) const LARGEST_ID: i64 = 2_147_483_647;
