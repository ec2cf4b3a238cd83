//! The policy of a port that the control plane has not spoken of.

use std::sync::Arc;

use super::{Authentication, Authorization, InboundPolicy, ObjectRef, ProtocolPlan};
use crate::settings::{DefaultPolicy, Inbound};

/// The policy of a port that the control plane has not spoken of.
pub(super) fn default_policy(settings: &Inbound, port: u16) -> InboundPolicy {
    let (name, authorizations) = match &settings.default_policy {
        DefaultPolicy::Deny => ("deny", Vec::new()),
        DefaultPolicy::Allow {
            name,
            networks,
            authenticated,
        } => {
            let authentication = if *authenticated {
                every_identity()
            } else {
                Authentication::Unauthenticated
            };
            let networks = networks.iter().map(|network| (*network, Vec::new())).collect();
            (
                *name,
                vec![Authorization {
                    networks,
                    authentication,
                    policy: ObjectRef::default_of(name),
                }],
            )
        }
    };
    let protocol = if settings.opaque_ports.contains(&port) {
        ProtocolPlan::Opaque
    } else {
        ProtocolPlan::Detect {
            timeout: settings.detect_timeout,
        }
    };
    InboundPolicy {
        protocol,
        authorizations,
        server: ObjectRef::default_of(name),
        routes: Arc::default(),
        rate_limit: None,
    }
}

fn every_identity() -> Authentication {
    Authentication::MeshTls {
        identities: Vec::new(),
        suffixes: vec![Vec::new()],
    }
}
