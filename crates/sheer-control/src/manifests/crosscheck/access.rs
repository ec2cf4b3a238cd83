//! Who may come in: references that lead nowhere, rules that nobody can fulfil, objects that take each other's effect. Each says what it does to
//! traffic.

use super::{Checker, Manifest};
use crate::{
    objects::{
        AuthenticationRef, AuthorizationPolicy, HttpLocalRateLimitPolicy, Kind, MeshTlsAuthentication, Object,
        ObjectId, ProxyProtocol, Server, ServerAuthorization,
    },
    policy::cannot_be_applied,
    routes::{ParentKey, ParentKind, Route},
};

impl Checker<'_> {
    pub(super) fn server(&mut self, manifest: &Manifest, server: &Server) {
        let selected = self.selected(&server.metadata.namespace, &server.spec.pod_selector);
        if selected.is_empty() {
            let message = format!(
                "matches no workload of namespace {}: the Server guards nothing",
                server.metadata.namespace
            );
            self.warn(manifest, "spec.podSelector", message);
        } else if selected.iter().all(|spec| spec.find_port(&server.spec.port).is_none()) {
            let message = format!(
                "no container that the Server selects has a port named {}: it guards nothing",
                server.spec.port
            );
            self.warn(manifest, "spec.port", message);
        } else if let Some(first) = self.shadowing(server) {
            let message = format!(
                "Server {}/{first} is for port {} of the same pods and comes first by name: this one has no effect there",
                server.metadata.namespace, server.spec.port
            );
            self.warn(manifest, "spec.port", message);
        }
    }

    /// A Server that takes a port of a pod from this one.
    fn shadowing(&self, server: &Server) -> Option<String> {
        let namespace = &server.metadata.namespace;
        let ports = |of: &Server| {
            let pods = self.pods.iter().enumerate();
            let pods = pods.filter(|(_, (pods, labels, _))| pods == namespace && of.spec.pod_selector.matches(labels));
            let ports = pods.filter_map(|(pod, (.., spec))| Some((pod, spec.find_port(&of.spec.port)?)));
            ports.collect::<Vec<_>>()
        };
        let own = ports(server);
        let others = self
            .servers(namespace)
            .filter(|other| other.metadata.name < server.metadata.name);
        let mut names: Vec<_> = others
            .filter(|other| ports(other).iter().any(|port| own.contains(port)))
            .map(|other| other.metadata.name.clone())
            .collect();
        names.sort();
        names.into_iter().next()
    }

    fn servers<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Server> {
        let objects = self.ids.values().map(|manifest| &manifest.object);
        objects.filter_map(move |object| match object {
            Object::Server(server) if server.metadata.namespace == namespace => Some(&**server),
            _ => None,
        })
    }

    fn find_server(&self, namespace: &str, name: &str) -> Option<&Server> {
        let id = ObjectId {
            kind: Kind::Server,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        match &self.ids.get(&id)?.object {
            Object::Server(server) => Some(server),
            _ => None,
        }
    }

    pub(super) fn policy(&mut self, manifest: &Manifest, policy: &AuthorizationPolicy) {
        self.target(manifest, policy);
        let namespace = &policy.metadata.namespace;
        for (index, reference) in policy.spec.required_authentication_refs.iter().enumerate() {
            let field = format!("spec.requiredAuthenticationRefs[{index}]");
            if let Some(missing) = self.missing(namespace, reference) {
                let effect = self.effect(policy);
                self.warn(
                    manifest,
                    field,
                    format!("there is no {missing}: nobody is let in by this policy{effect}"),
                );
            } else if reference.kind == "ServiceAccount" {
                self.account(
                    manifest,
                    field,
                    reference.namespace.as_ref().unwrap_or(namespace),
                    &reference.name,
                );
            }
        }
        if has_too_many(policy) {
            let effect = self.effect(policy);
            let message = format!(
                "at most one NetworkAuthentication and one of MeshTLSAuthentication and ServiceAccount can be fulfilled: nobody is let in by \
                 this policy{effect}"
            );
            self.warn(manifest, "spec.requiredAuthenticationRefs", message);
        }
    }

    fn target(&mut self, manifest: &Manifest, policy: &AuthorizationPolicy) {
        let (namespace, target) = (&policy.metadata.namespace, &policy.spec.target_ref);
        let name = &target.name;
        if target.kind == "Server" && self.find_server(namespace, name).is_none() {
            let message = format!("there is no Server {namespace}/{name}: the policy has no effect");
            return self.warn(manifest, "spec.targetRef", message);
        }
        if target.kind == "Namespace" && name != namespace {
            let message = format!("a policy can be attached to its own namespace ({namespace}) only: it has no effect");
            return self.warn(manifest, "spec.targetRef", message);
        }
        let Some(kind) = target.route_kind() else { return };
        let Some(route) = self.find_route(kind, namespace, name) else {
            let message = format!("there is no {kind} {namespace}/{name}: the policy has no effect");
            return self.warn(manifest, "spec.targetRef", message);
        };
        if servers_of(&route).next().is_none() {
            let message = format!(
                "{kind} {namespace}/{name} is not attached to a Server: the policy has no effect; it can say who may send what comes in, not \
                 what goes out"
            );
            self.warn(manifest, "spec.targetRef", message);
        }
    }

    fn find_route(&self, kind: Kind, namespace: &str, name: &str) -> Option<Route> {
        let routes = self.ids.values().filter_map(|manifest| Route::of(&manifest.object));
        routes.into_iter().find(|route| {
            let metadata = route.metadata();
            route.kind() == kind && metadata.namespace == namespace && metadata.name == name
        })
    }

    /// The object that a reference names and that does not exist. A service account is an identity whether or not it is declared.
    fn missing(&self, namespace: &str, reference: &AuthenticationRef) -> Option<String> {
        let kind = match reference.kind.as_str() {
            "NetworkAuthentication" => Kind::NetworkAuthentication,
            "MeshTLSAuthentication" => Kind::MeshTlsAuthentication,
            _ => return None,
        };
        let (of, name) = (reference.namespace.as_deref().unwrap_or(namespace), &reference.name);
        (!self.exists(kind, of, name)).then(|| format!("{kind} {of}/{name}"))
    }

    /// Whether somebody can be let in by a policy.
    fn can_be_fulfilled(&self, policy: &AuthorizationPolicy) -> bool {
        let mut references = policy.spec.required_authentication_refs.iter();
        !has_too_many(policy)
            && references.all(|reference| self.missing(&policy.metadata.namespace, reference).is_none())
    }

    /// What it means that nobody is let in by a policy: continues a sentence.
    fn effect(&self, policy: &AuthorizationPolicy) -> String {
        let (namespace, target) = (&policy.metadata.namespace, &policy.spec.target_ref);
        match target.kind.as_str() {
            "Server" => match self.find_server(namespace, &target.name) {
                Some(server) if self.lets_somebody_in(server) => {
                    format!(
                        "; others still are, by another rule of Server {namespace}/{}",
                        target.name
                    )
                }
                Some(server) => format!(", so that all clients of port {} are denied", server.spec.port),
                None => String::new(),
            },
            "Namespace" => {
                let shut = self.servers(namespace).filter(|server| !self.lets_somebody_in(server));
                let mut ports: Vec<_> = shut
                    .map(|server| format!("{} ({})", server.spec.port, server.metadata.name))
                    .collect();
                ports.sort();
                if ports.is_empty() {
                    String::new()
                } else {
                    format!(
                        ", so that all clients of these ports (Servers) are denied: {}",
                        ports.join(", ")
                    )
                }
            }
            _ => ", so that only whom the Server lets in may send these requests".to_owned(),
        }
    }

    /// Whether any rule of a Server can let somebody in.
    fn lets_somebody_in(&self, server: &Server) -> bool {
        let (namespace, name) = (&server.metadata.namespace, &server.metadata.name);
        let by_default = server
            .spec
            .access_policy
            .as_deref()
            .is_some_and(|policy| policy != "deny");
        by_default
            || self.ids.values().any(|manifest| match &manifest.object {
                Object::AuthorizationPolicy(policy) => {
                    let target = &policy.spec.target_ref;
                    let targets = match target.kind.as_str() {
                        "Server" => target.name == *name,
                        "Namespace" => target.name == *namespace,
                        _ => false,
                    };
                    policy.metadata.namespace == *namespace && targets && self.can_be_fulfilled(policy)
                }
                Object::ServerAuthorization(older) => {
                    older.metadata.namespace == *namespace && older.spec.server.means(&server.metadata)
                }
                _ => false,
            })
    }

    /// An identity that nobody has, as far as these manifests know its namespace.
    fn account(&mut self, manifest: &Manifest, field: String, namespace: &str, name: &str) {
        let runs = |as_name: Option<&str>| as_name.filter(|name| !name.is_empty()).unwrap_or("default") == name;
        let workloads = || self.pods.iter().filter(|(of, ..)| *of == namespace);
        let known = self.exists(Kind::ServiceAccount, namespace, name)
            || workloads().any(|(.., spec)| runs(spec.service_account_name.as_deref()));
        if !known && workloads().next().is_some() {
            let message = format!(
                "there is no ServiceAccount {namespace}/{name}, and no workload runs as it: nobody has this identity"
            );
            self.warn(manifest, field, message);
        }
    }

    pub(super) fn mesh_tls(&mut self, manifest: &Manifest, authentication: &MeshTlsAuthentication) {
        let own = &authentication.metadata.namespace;
        for (index, reference) in authentication.spec.identity_refs.iter().enumerate() {
            if reference.kind == "ServiceAccount" {
                let field = format!("spec.identityRefs[{index}]");
                let namespace = reference.namespace.as_ref().unwrap_or(own);
                self.account(manifest, field, namespace, &reference.name);
            }
        }
    }

    pub(super) fn server_authorization(&mut self, manifest: &Manifest, authorization: &ServerAuthorization) {
        let namespace = &authorization.metadata.namespace;
        let reference = &authorization.spec.server;
        if !self.servers(namespace).any(|server| reference.means(&server.metadata)) {
            let which = match &reference.name {
                Some(name) => format!("there is no Server {namespace}/{name}"),
                None => format!("no Server of namespace {namespace} has these labels"),
            };
            self.warn(manifest, "spec.server", format!("{which}: it lets nobody in anywhere"));
        }
        let accounts = authorization
            .spec
            .client
            .mesh_tls
            .iter()
            .flat_map(|mesh| &mesh.service_accounts);
        for (index, account) in accounts.enumerate() {
            let field = format!("spec.client.meshTLS.serviceAccounts[{index}]");
            let of = account.namespace.as_ref().unwrap_or(namespace);
            self.account(manifest, field, of, &account.name);
        }
    }

    pub(super) fn rate_limit(&mut self, manifest: &Manifest, policy: &HttpLocalRateLimitPolicy) {
        let (namespace, name) = (&policy.metadata.namespace, &policy.spec.target_ref.name);
        let message = match self.find_server(namespace, name) {
            None => Some(format!(
                "there is no Server {namespace}/{name}: no rate is limited by it"
            )),
            Some(server) if sees_no_requests(server) => Some(format!(
                "Server {namespace}/{name} does not look at requests (proxyProtocol): no rate is limited by it"
            )),
            Some(_) => self.limiting(policy).map(|first| {
                format!("{first} limits the same Server and comes first by name: no rate is limited by this one")
            }),
        };
        if let Some(message) = message {
            self.warn(manifest, "spec.targetRef", message);
        }
        for (over, entry) in policy.spec.overrides.iter().enumerate() {
            for (index, client) in entry.client_refs.iter().enumerate() {
                let field = format!("spec.overrides[{over}].clientRefs[{index}]");
                self.account(
                    manifest,
                    field,
                    client.namespace.as_ref().unwrap_or(namespace),
                    &client.name,
                );
            }
        }
    }

    /// The limit that counts in the place of this one.
    fn limiting(&self, policy: &HttpLocalRateLimitPolicy) -> Option<String> {
        let others = self.ids.iter().filter_map(|(id, manifest)| match &manifest.object {
            Object::HttpLocalRateLimitPolicy(other) => Some((id, other)),
            _ => None,
        });
        let first = others.filter(|(_, other)| {
            other.metadata.namespace == policy.metadata.namespace
                && other.spec.target_ref.name == policy.spec.target_ref.name
                && other.metadata.name < policy.metadata.name
        });
        first.map(|(id, _)| id.to_string()).min()
    }

    /// A route of what comes in.
    pub(super) fn server_route(&mut self, manifest: &Manifest, route: &Route) {
        let namespace = route.metadata().namespace.clone();
        let parents: Vec<_> = servers_of(route).collect();
        for (index, parent) in &parents {
            let field = format!("spec.parentRefs[{index}]");
            if parent.namespace != namespace {
                let message = format!(
                    "a route says who may come in at Servers of its own namespace ({namespace}) only: it has no effect"
                );
                self.warn(manifest, field, message);
            } else if self.find_server(&namespace, &parent.name).is_some_and(sees_no_requests) {
                let message = format!(
                    "Server {namespace}/{} does not look at requests (proxyProtocol): the route has no effect",
                    parent.name
                );
                self.warn(manifest, field, message);
            }
        }
        if parents.is_empty() {
            return;
        }
        let rules: Vec<_> = match route {
            Route::Http(_, route) => route.spec.rules.iter().map(|rule| &rule.filters).collect(),
            Route::Grpc(route) => route.spec.rules.iter().map(|rule| &rule.filters).collect(),
            Route::Tls(_) | Route::Tcp(_) => Vec::new(),
        };
        for (index, filters) in rules.into_iter().enumerate() {
            if let Some(why) = cannot_be_applied(filters) {
                let message = format!("{why}; what this rule takes is answered with an error");
                self.warn(manifest, format!("spec.rules[{index}].filters"), message);
            }
        }
    }
}

/// The Servers that a route names, by the place of the reference.
fn servers_of(route: &Route) -> impl Iterator<Item = (usize, ParentKey)> {
    let parents = route.parents().iter().enumerate();
    parents.filter_map(|(index, reference)| {
        let parent = ParentKey::of(reference, &route.metadata().namespace)?;
        (parent.kind == ParentKind::Server).then_some((index, parent))
    })
}

/// Whether a policy requires what nobody can prove at once.
fn has_too_many(policy: &AuthorizationPolicy) -> bool {
    let references = &policy.spec.required_authentication_refs;
    let networks = references
        .iter()
        .filter(|reference| reference.kind == "NetworkAuthentication")
        .count();
    networks > 1 || references.len() - networks > 1
}

fn sees_no_requests(server: &Server) -> bool {
    matches!(server.spec.proxy_protocol, ProxyProtocol::Opaque | ProxyProtocol::Tls)
}

#[cfg(test)]
mod tests;
