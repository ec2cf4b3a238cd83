//! What no single object shows: references that lead nowhere, selectors that match nothing.
//!
//! All of it is a warning: objects may come in any order, and the missing one may follow.

use std::collections::HashMap;

use super::{Finding, Manifest};
use crate::{
    objects::{
        AuthorizationPolicy, IntOrString, Kind, LabelSelector, Labels, Object, ObjectId, PodSpec, Server, Service,
    },
    routes,
};

/// What is wrong between objects.
pub(crate) fn crosscheck(manifests: &[Manifest]) -> Vec<Finding> {
    let mut checker = Checker {
        pods: pods(manifests),
        ids: ids(manifests),
        findings: Vec::new(),
    };
    let mut addresses = HashMap::new();
    for manifest in manifests {
        match &manifest.object {
            Object::Service(service) => {
                checker.service(manifest, service);
                for address in service.addresses() {
                    if let Some(other) = addresses.insert(address, manifest) {
                        let message = format!(
                            "{address} is the address of {} too ({}:{}): only one of them is reached",
                            other.object.id(),
                            other.file.display(),
                            other.line
                        );
                        checker.warn(manifest, "spec.clusterIP", message);
                    }
                }
            }
            Object::Server(server) => checker.server(manifest, server),
            Object::AuthorizationPolicy(policy) => checker.policy(manifest, policy),
            _ => {}
        }
    }
    checker.findings.extend(routes::findings(manifests));
    checker.findings
}

/// Pods that will run: namespace, labels, containers.
type Pods<'a> = Vec<(&'a str, &'a Labels, &'a PodSpec)>;

fn pods(manifests: &[Manifest]) -> Pods<'_> {
    manifests.iter().filter_map(pod).collect()
}

fn pod(manifest: &Manifest) -> Option<(&str, &Labels, &PodSpec)> {
    let namespace = manifest.object.metadata().namespace.as_str();
    let template = match &manifest.object {
        Object::Deployment(o) => &o.spec.template,
        Object::StatefulSet(o) => &o.spec.template,
        Object::Pod(o) => return Some((namespace, &o.metadata.labels, &o.spec)),
        _ => return None,
    };
    Some((namespace, &template.metadata.labels, &template.spec))
}

fn ids(manifests: &[Manifest]) -> HashMap<ObjectId, &Manifest> {
    manifests
        .iter()
        .map(|manifest| (manifest.object.id(), manifest))
        .collect()
}

struct Checker<'a> {
    pods: Pods<'a>,
    ids: HashMap<ObjectId, &'a Manifest>,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn warn(&mut self, manifest: &Manifest, field: impl Into<String>, message: impl Into<String>) {
        let finding = Finding::warning(&manifest.file, manifest.line, message);
        self.findings.push(finding.on(&manifest.object.id()).at(field));
    }

    fn exists(&self, kind: Kind, namespace: &str, name: &str) -> bool {
        self.ids.contains_key(&ObjectId {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    fn selected(&self, namespace: &str, selector: &LabelSelector) -> Vec<&PodSpec> {
        let selected = self
            .pods
            .iter()
            .filter(|(in_namespace, labels, _)| *in_namespace == namespace && selector.matches(labels));
        selected.map(|(.., spec)| *spec).collect()
    }

    fn service(&mut self, manifest: &Manifest, service: &Service) {
        // Without a selector it is told nothing wrong: its endpoints are someone else's.
        if service.spec.selector.is_empty() {
            return;
        }
        let selector = LabelSelector {
            match_labels: service.spec.selector.clone(),
            ..LabelSelector::default()
        };
        let selected = self.selected(&service.metadata.namespace, &selector);
        if selected.is_empty() {
            let message = format!(
                "matches no workload of namespace {}: the Service has no endpoints",
                service.metadata.namespace
            );
            return self.warn(manifest, "spec.selector", message);
        }
        let nowhere = |target: &IntOrString| selected.iter().all(|spec| spec.find_port(target).is_none());
        let missing: Vec<_> = service
            .spec
            .ports
            .iter()
            .enumerate()
            .filter(|(_, port)| nowhere(&port.target()))
            .collect();
        let missing: Vec<_> = missing
            .into_iter()
            .map(|(index, port)| (index, port.target()))
            .collect();
        for (index, target) in missing {
            let field = format!("spec.ports[{index}].targetPort");
            self.warn(
                manifest,
                field,
                format!("no container that the Service selects has a port named {target}: this port has no endpoints"),
            );
        }
    }

    fn server(&mut self, manifest: &Manifest, server: &Server) {
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
        }
    }

    fn policy(&mut self, manifest: &Manifest, policy: &AuthorizationPolicy) {
        let (namespace, target) = (&policy.metadata.namespace, &policy.spec.target_ref);
        if target.kind == "Server" && !self.exists(Kind::Server, namespace, &target.name) {
            let message = format!(
                "there is no Server {namespace}/{}: the policy has no effect",
                target.name
            );
            self.warn(manifest, "spec.targetRef", message);
        }
        if target.kind == "Namespace" && target.name != *namespace {
            self.warn(
                manifest,
                "spec.targetRef",
                format!("a policy can be attached to its own namespace ({namespace}) only: it has no effect"),
            );
        }
        let (mut identities, mut networks) = (0, 0);
        for (index, reference) in policy.spec.required_authentication_refs.iter().enumerate() {
            let of = reference.namespace.as_ref().unwrap_or(namespace);
            let kind = match reference.kind.as_str() {
                "NetworkAuthentication" => Kind::NetworkAuthentication,
                "MeshTLSAuthentication" => Kind::MeshTlsAuthentication,
                _ => Kind::ServiceAccount,
            };
            *if kind == Kind::NetworkAuthentication {
                &mut networks
            } else {
                &mut identities
            } += 1;
            // A service account is an identity whether or not it is declared.
            if kind != Kind::ServiceAccount && !self.exists(kind, of, &reference.name) {
                let message = format!("there is no {kind} {of}/{}: the policy lets nobody in", reference.name);
                self.warn(manifest, format!("spec.requiredAuthenticationRefs[{index}]"), message);
            }
        }
        if identities > 1 || networks > 1 {
            let message = "at most one NetworkAuthentication and one of MeshTLSAuthentication and ServiceAccount: with more the policy lets nobody in";
            self.warn(manifest, "spec.requiredAuthenticationRefs", message);
        }
    }
}
