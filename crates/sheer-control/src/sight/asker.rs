//! Who asks, and what they may see.
//!
//! Whoever can use the control plane's socket is the mesh's owner and may see everything. A token that the owner made (`sheer token`) is narrower: some
//! rights, on some workloads, for a while. A token is a claim signed with a key of the identity folder (HMAC-SHA-256), so it outlives a restart of the control
//! plane; with a new key all tokens are void. `sheer.dev/sight: disabled` wins over every right.

use std::{path::Path, sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use sheer_api::v1;
use tonic::{Code, Extensions, Status, metadata::MetadataMap};

use super::resolve;
use crate::{
    identity::files::{self, FileError},
    objects::Pod,
    server::Peer,
    store::Snapshot,
};

/// What stands before every token, so that it is known for what it is.
const PREFIX: &str = "sheer1";
const KEY: usize = 32;
const KEY_FILE: &str = "sight.key";
/// Longer ones are none of ours.
const LONGEST: usize = 8 * 1024;
/// A token for longer is no narrow right any more.
const LONGEST_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A right. The names are those of Kubernetes verbs to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Right {
    /// Heads, trailers, timing, connections.
    Tap,
    /// Bodies too.
    Bodies,
    /// Frames, and the table entries in them.
    Frames,
    /// Packets, and the secrets that open them.
    Capture,
    /// Requests of a proxy's own.
    Probe,
}

impl Right {
    const ALL: [Self; 5] = [Self::Tap, Self::Bodies, Self::Frames, Self::Capture, Self::Probe];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Bodies => "bodies",
            Self::Frames => "frames",
            Self::Capture => "capture",
            Self::Probe => "probe",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.name() == name)
    }
}

/// A workload that a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct On {
    workload: String,
    namespace: String,
}

impl On {
    fn words(&self) -> String {
        if self.namespace.is_empty() {
            self.workload.clone()
        } else {
            format!("{} in {}", self.workload, self.namespace)
        }
    }
}

/// Of what a token is to be for: what no pod of runs, as a message each. An error where it could never reach anything.
pub(super) fn missing(snapshot: &Snapshot, on: &[v1::Selection]) -> Result<Vec<String>, Status> {
    let mut missing = Vec::new();
    for of in on {
        match resolve::pods(snapshot, &of.workload, &of.namespace) {
            Ok(_) => {}
            Err(status) if status.code() == Code::NotFound => missing.push(status.message().to_owned()),
            Err(status) => return Err(status),
        }
    }
    Ok(missing)
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// Tells tokens apart in the audit record.
    id: String,
    allow: Vec<Right>,
    on: Vec<On>,
    /// Seconds since the Unix epoch.
    until: u64,
    /// Who made it.
    by: String,
}

/// Signs and checks tokens.
pub(crate) struct Tokens {
    folder: std::path::PathBuf,
    key: RwLock<Arc<hmac::Key>>,
}

impl Tokens {
    /// With the key of the folder, which is made where there is none.
    pub(crate) fn open(folder: &Path) -> Result<Self, FileError> {
        files::make_folder(folder)?;
        let path = folder.join(KEY_FILE);
        if files::read_private(&path)?.is_none() {
            files::create(&path, &random::<KEY>(&path)?, 0o600)?;
        }
        let bytes =
            files::read_private(&path)?.ok_or_else(|| FileError::content(&path, "vanished while it was made"))?;
        if bytes.len() != KEY {
            return Err(FileError::content(
                &path,
                "is no key for tokens: remove it, and a new one is made",
            ));
        }
        Ok(Self {
            folder: folder.to_owned(),
            key: RwLock::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes).into()),
        })
    }

    /// Makes every token void.
    pub(crate) fn revoke(&self) -> Result<(), FileError> {
        let path = self.folder.join(KEY_FILE);
        let bytes = random::<KEY>(&path)?;
        files::replace(&path, &bytes, 0o600)?;
        *self.key.write() = hmac::Key::new(hmac::HMAC_SHA256, &bytes).into();
        Ok(())
    }

    /// Makes a token of what is asked for.
    pub(crate) fn issue(&self, asked: &v1::IssueTokenRequest, by: &str) -> Result<v1::IssueTokenResponse, Status> {
        let unknown = |name: &String| {
            Status::invalid_argument(format!("{name:?} is no right: tap, bodies, frames, capture or probe"))
        };
        let allow = asked
            .allow
            .iter()
            .map(|name| Right::parse(name).ok_or_else(|| unknown(name)));
        let allow = allow.collect::<Result<Vec<_>, _>>()?;
        if allow.is_empty() || asked.on.is_empty() {
            return Err(Status::invalid_argument("a token needs a right and a workload"));
        }
        let life = Duration::from_secs(asked.for_seconds);
        if life.is_zero() || life > LONGEST_LIFE {
            return Err(Status::invalid_argument(
                "a token lives for a second or more, and 30 days at most",
            ));
        }
        let id: [u8; 6] = random(&self.folder).map_err(|error| Status::internal(error.to_string()))?;
        let on = asked.on.iter().map(|of| On {
            workload: of.workload.clone(),
            namespace: of.namespace.clone(),
        });
        let grant = Grant {
            id: BASE64_URL_SAFE_NO_PAD.encode(id),
            allow,
            on: on.collect(),
            until: files::seconds(files::now()) + life.as_secs(),
            by: by.to_owned(),
        };
        tracing::info!(target: "audit", caller = by, token = grant.id, rights = ?grant.allow, on = ?grant.on, until = grant.until, "audit: a token for sight is made");
        Ok(v1::IssueTokenResponse {
            token: self.sign(&grant),
            id: grant.id,
            until_s: grant.until,
            missing: Vec::new(),
        })
    }

    fn sign(&self, grant: &Grant) -> String {
        let claim = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(grant).unwrap_or_default());
        let signed = format!("{PREFIX}.{claim}");
        let tag = hmac::sign(&self.key.read(), signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    /// What a token allows. Errors never hold any part of it.
    fn check(&self, token: &str) -> Result<Grant, Status> {
        let wrong = || {
            Status::unauthenticated(
                "the token is none that this mesh made, or its owner has revoked it: ask for a new one (`sheer token`)",
            )
        };
        if token.len() > LONGEST {
            return Err(wrong());
        }
        let (signed, tag) = token.rsplit_once('.').ok_or_else(wrong)?;
        let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).map_err(|_| wrong())?;
        hmac::verify(&self.key.read(), signed.as_bytes(), &tag).map_err(|_| wrong())?;
        let claim = signed
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix('.'))
            .ok_or_else(wrong)?;
        let claim = BASE64_URL_SAFE_NO_PAD.decode(claim).map_err(|_| wrong())?;
        let grant: Grant = serde_json::from_slice(&claim).map_err(|_| wrong())?;
        if grant.left().is_zero() {
            let ago = files::seconds(files::now()).saturating_sub(grant.until);
            return Err(Status::unauthenticated(format!(
                "the token expired {ago} s ago: ask the mesh's owner for a new one (`sheer token`)"
            )));
        }
        Ok(grant)
    }
}

fn random<const BYTES: usize>(path: &Path) -> Result<[u8; BYTES], FileError> {
    let mut bytes = [0; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| FileError::content(path, "the system gives no random bytes"))?;
    Ok(bytes)
}

impl Grant {
    fn left(&self) -> Duration {
        Duration::from_secs(self.until.saturating_sub(files::seconds(files::now())))
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    caller: String,
    /// None of the owner, who may see everything.
    grant: Option<Arc<Grant>>,
}

impl Asker {
    /// By what came with a request.
    pub(crate) fn of(metadata: &MetadataMap, extensions: &Extensions, tokens: &Tokens) -> Result<Self, Status> {
        let user = extensions.get::<Peer>().and_then(|peer| peer.user);
        let user = user.map_or_else(|| "unknown".to_owned(), |user| format!("uid {user}"));
        let Some(token) = metadata.get("authorization") else {
            return Ok(Self {
                caller: user,
                grant: None,
            });
        };
        let token = token.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
        let grant = tokens.check(token.unwrap_or(""))?;
        Ok(Self {
            caller: format!("{user}, token {}", grant.id),
            grant: Some(Arc::new(grant)),
        })
    }

    /// For the audit record: the user at the other end of the socket, as the kernel says, and the token.
    pub(crate) fn caller(&self) -> &str {
        &self.caller
    }

    /// How long from now the caller may see something; none of the owner.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.grant.as_ref().map(|grant| grant.left())
    }

    /// What only the owner may do.
    pub(crate) fn must_own(&self, what: &str) -> Result<(), Status> {
        match self.grant {
            None => Ok(()),
            Some(_) => Err(Status::permission_denied(format!(
                "a token does not allow {what}: only the mesh's owner may"
            ))),
        }
    }

    /// Whether the caller may see this of a pod.
    pub(crate) fn may(&self, snapshot: &Snapshot, pod: &Pod, right: Right) -> bool {
        self.refusal(snapshot, pod, right).is_none()
    }

    /// The same, as an error.
    pub(crate) fn must(&self, snapshot: &Snapshot, pod: &Pod, right: Right) -> Result<(), Status> {
        self.refusal(snapshot, pod, right)
            .map_or(Ok(()), |why| Err(Status::permission_denied(why)))
    }

    fn refusal(&self, snapshot: &Snapshot, pod: &Pod, right: Right) -> Option<String> {
        let grant = self.grant.as_ref()?;
        if !grant.allow.contains(&right) {
            let allowed: Vec<_> = grant.allow.iter().map(|right| right.name()).collect();
            return Some(format!(
                "the token does not allow `{}`, only {}",
                right.name(),
                allowed.join(", ")
            ));
        }
        let reaches = |on: &On| {
            let pods = resolve::pods(snapshot, &on.workload, &on.namespace).unwrap_or_default();
            pods.iter().any(|one| {
                (&one.metadata.namespace, &one.metadata.name) == (&pod.metadata.namespace, &pod.metadata.name)
            })
        };
        if grant.on.iter().any(reaches) {
            return None;
        }
        let on: Vec<_> = grant.on.iter().map(On::words).collect();
        Some(format!(
            "the token is for {}, not for {}",
            on.join(", "),
            super::watch::name(pod)
        ))
    }

    /// Rights for the proxy of a pod.
    pub(crate) fn rights(&self, redaction: v1::Redaction) -> v1::Rights {
        let has = |right| self.grant.as_ref().is_none_or(|grant| grant.allow.contains(&right));
        v1::Rights {
            tap: has(Right::Tap),
            bodies: has(Right::Bodies),
            frames: has(Right::Frames),
            capture: has(Right::Capture),
            probe: has(Right::Probe),
            caller: self.caller.clone(),
            redaction: Some(redaction),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(allow: &[&str], seconds: u64) -> v1::IssueTokenRequest {
        v1::IssueTokenRequest {
            allow: allow.iter().map(|name| (*name).to_owned()).collect(),
            on: vec![v1::Selection {
                workload: "deploy/web".to_owned(),
                namespace: "bank".to_owned(),
            }],
            for_seconds: seconds,
        }
    }

    fn asker(tokens: &Tokens, token: &str) -> Result<Asker, Status> {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", format!("Bearer {token}").parse().expect("a value"));
        Asker::of(&metadata, &Extensions::new(), tokens)
    }

    #[test]
    fn a_token_says_what_it_was_made_for_and_outlives_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = Tokens::open(folder.path()).expect("a key");
        let token = tokens
            .issue(&asked(&["tap", "frames"], 60), "uid 7")
            .expect("a token")
            .token;
        let again = Tokens::open(folder.path()).expect("the key");
        let asker = asker(&again, &token).expect("a caller");
        let rights = asker.rights(v1::Redaction::default());
        assert!(rights.tap && rights.frames && !rights.bodies && !rights.capture && !rights.probe);
        assert!(asker.must_own("to make tokens").is_err());
        assert!(
            asker
                .left()
                .is_some_and(|left| left <= Duration::from_secs(60) && !left.is_zero())
        );
        // Nobody can widen it.
        let (signed, tag) = token.rsplit_once('.').expect("parts");
        let forged = signed.replace(PREFIX, "sheer2");
        for wrong in [
            format!("{forged}.{tag}"),
            format!("{signed}.AAAA"),
            "sheer1".to_owned(),
            String::new(),
        ] {
            assert!(super::tests::asker(&again, &wrong).is_err(), "{wrong}");
        }
        again.revoke().expect("a new key");
        let refused = super::tests::asker(&again, &token).expect_err("void");
        assert!(!refused.message().contains(tag), "{refused}");
        assert!(super::tests::asker(&Tokens::open(folder.path()).expect("the key"), &token).is_err());
    }

    #[test]
    fn what_is_no_right_is_refused_and_the_owner_has_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = Tokens::open(folder.path()).expect("a key");
        for wrong in [
            asked(&["everything"], 60),
            asked(&[], 60),
            asked(&["tap"], 0),
            asked(&["tap"], 1 << 40),
        ] {
            assert!(tokens.issue(&wrong, "").is_err(), "{wrong:?}");
        }
        let expired = Grant {
            id: "x".to_owned(),
            allow: vec![Right::Tap],
            on: Vec::new(),
            until: 1,
            by: String::new(),
        };
        let refused = asker(&tokens, &tokens.sign(&expired)).expect_err("expired");
        assert!(refused.message().contains("expired"), "{refused}");
        let owner = Asker::of(&MetadataMap::new(), &Extensions::new(), &tokens).expect("the owner");
        let rights = owner.rights(v1::Redaction::default());
        assert!(rights.tap && rights.bodies && rights.frames && rights.capture && rights.probe);
        assert!(owner.must_own("anything").is_ok() && owner.left().is_none());
    }
}
