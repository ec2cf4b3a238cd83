//! Rate limits and ServerAuthorizations.

use super::Checker;
use crate::objects::{HttpLocalRateLimitPolicy, RequestRate, ServerAuthorization};

impl Checker {
    pub(super) fn rate_limit(&mut self, policy: &HttpLocalRateLimitPolicy) {
        let spec = &policy.spec;
        if spec.target_ref.kind != "Server" {
            let kind = &spec.target_ref.kind;
            self.within("targetRef", |c| {
                c.error(
                    "kind",
                    format!("{kind:?} is not Server: a rate is limited for a Server"),
                );
            });
        }
        if spec.total.is_none() && spec.identity.is_none() && spec.overrides.is_empty() {
            self.warning("", "neither total nor identity nor overrides: nothing is limited");
        }
        let total = spec.total.map(|rate| rate.requests_per_second);
        for (key, rate) in [("total", spec.total), ("identity", spec.identity)] {
            if let Some(RequestRate { requests_per_second }) = rate {
                self.within(key, |c| c.rate(requests_per_second, total));
            }
        }
        self.each("overrides", &spec.overrides, |c, over| {
            c.rate(over.requests_per_second, total);
            if over.client_refs.is_empty() {
                c.error("clientRefs", "empty: write the ServiceAccounts that it is for");
            }
            c.each("clientRefs", &over.client_refs, |c, client| {
                if client.kind != "ServiceAccount" {
                    c.error("kind", format!("{:?} is not ServiceAccount", client.kind));
                }
            });
        });
    }

    fn rate(&mut self, requests_per_second: u32, total: Option<u32>) {
        if requests_per_second == 0 {
            self.error("requestsPerSecond", "0 would let nobody in: write a number above 0");
        } else if let Some(total) = total.filter(|total| requests_per_second > *total) {
            let message = format!("more than the total of {total}: the total refuses requests before this does");
            self.warning("requestsPerSecond", message);
        }
    }

    pub(super) fn server_authorization(&mut self, authorization: &ServerAuthorization) {
        let server = &authorization.spec.server;
        if server.name.is_some() == server.selector.is_some() {
            self.error("server", "exactly one of name and selector must be given");
        }
        let client = &authorization.spec.client;
        self.within("client", |c| {
            if client.unauthenticated == client.mesh_tls.is_some() {
                c.error("", "exactly one of unauthenticated: true and meshTLS must be given");
            }
            let Some(mesh) = &client.mesh_tls else { return };
            c.within("meshTLS", |c| {
                let named = !mesh.identities.is_empty() || !mesh.service_accounts.is_empty();
                if mesh.unauthenticated_tls == named {
                    c.error(
                        "",
                        "either unauthenticatedTLS: true, or identities and serviceAccounts must be given: \"*\" means every identity",
                    );
                }
            });
        });
    }
}
