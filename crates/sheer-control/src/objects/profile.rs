//! `ServiceProfile` of `linkerd.io/v1alpha2`: what Linkerd had before Gateway API.

use serde::{Deserialize, Serialize};

use super::{Interval, ObjectMeta};

/// Routes of a service that has the profile's name, in the namespace of the client or of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceProfile {
    /// Name (the service's full name), namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// Routes, budget, overrides.
    #[serde(default)]
    pub spec: ServiceProfileSpec,
}

/// Routes, budget, overrides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceProfileSpec {
    /// The first that matches takes a request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<ProfileRoute>,
    /// How much may be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<ProfileBudget>,
    /// Where requests go instead, by weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dst_overrides: Vec<DstOverride>,
    /// Ports that are never inspected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opaque_ports: Vec<String>,
}

/// One route of a [`ServiceProfile`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileRoute {
    /// Name (`rt_route` in metrics).
    pub name: String,
    /// What a request has to be like.
    pub condition: RequestCondition,
    /// Which answers are failures; statuses from 500 where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_classes: Vec<ResponseClass>,
    /// Whether failures are tried again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_retryable: bool,
    /// How long a request may take, every attempt included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Interval>,
}

/// A condition on requests: everything that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestCondition {
    /// All of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<Self>>,
    /// One of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<Self>>,
    /// Not this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<Self>>,
    /// The whole path, by a regular expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// The method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// Some answers, and what they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseClass {
    /// Which.
    pub condition: ResponseCondition,
    /// Whether they are failures.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_failure: bool,
}

/// A condition on answers: everything that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResponseCondition {
    /// All of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<Self>>,
    /// One of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<Self>>,
    /// Not this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<Self>>,
    /// Statuses from `min` to `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusRange>,
}

/// Statuses from one to another, both included; one of them alone is that status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange {
    /// First.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// Last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// How much may be tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileBudget {
    /// Retries for each request.
    pub retry_ratio: f32,
    /// Always allowed, a second.
    pub min_retries_per_second: u32,
    /// How long a request counts.
    pub ttl: Interval,
}

/// Where requests go instead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DstOverride {
    /// `NAME.NAMESPACE.svc.DOMAIN:PORT`.
    pub authority: String,
    /// Share relative to the others.
    pub weight: Quantity,
}

/// A whole number, or thousandths of one (`500m`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity {
    /// Thousandths.
    pub milli: u32,
}

impl Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.milli.is_multiple_of(1000) {
            serializer.serialize_u32(self.milli / 1000)
        } else {
            serializer.collect_str(&format_args!("{}m", self.milli))
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u32),
            Text(String),
        }
        let milli = match Raw::deserialize(deserializer)? {
            Raw::Number(whole) => whole.checked_mul(1000),
            Raw::Text(text) => match text.strip_suffix('m') {
                Some(thousandths) => thousandths.parse().ok(),
                None => text.parse::<u32>().ok().and_then(|whole| whole.checked_mul(1000)),
            },
        };
        let milli = milli.ok_or_else(|| D::Error::custom("must be a whole number, or thousandths of one as 500m"))?;
        Ok(Self { milli })
    }
}
