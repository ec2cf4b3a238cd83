//! Filters that need more than their route to be understood.

use super::{index::RouteIndex, resolve::BadRef};
use crate::objects::{ExtensionRef, FaultAbort, FaultDelay, FilterType, HttpFault, Kind, RouteFilter};

/// Faults to inject.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// First.
    pub(crate) delay: Option<FaultDelay>,
    /// Then.
    pub(crate) abort: Option<FaultAbort>,
}

/// The faults that an `ExtensionRef` of a namespace names.
pub(crate) fn fault_of(index: &RouteIndex, namespace: &str, reference: &ExtensionRef) -> Result<Fault, BadRef> {
    let ExtensionRef { group, kind, name } = reference;
    if group != "policy.sheer.dev" || kind != Kind::HttpFault.as_str() {
        return Err(BadRef {
            reason: "InvalidKind",
            message: format!(
                "{kind} of group {group:?} is no filter that Sheer knows; it knows HTTPFault of policy.sheer.dev"
            ),
        });
    }
    let HttpFault { spec, .. } = &**index.find_fault(namespace, name).ok_or_else(|| BadRef {
        reason: "FilterNotFound",
        message: format!("there is no HTTPFault {namespace}/{name}"),
    })?;
    Ok(Fault {
        delay: spec.delay.clone(),
        abort: spec.abort.clone(),
    })
}

/// Why a rule cannot be applied because of a filter that Sheer does not have. Gateway API forbids to skip it: the rule answers with 500.
pub(crate) fn unsupported(filters: &[RouteFilter], of_backend: bool) -> Option<String> {
    filters.iter().find_map(|filter| match filter.kind {
        FilterType::Cors => Some("the filter CORS is not supported".to_owned()),
        FilterType::ExternalAuth => Some("the filter ExternalAuth is not supported".to_owned()),
        FilterType::RequestMirror if of_backend => {
            Some("the filter RequestMirror is not supported on a single backend; write it on the rule".to_owned())
        }
        _ => None,
    })
}
