//! What no single object shows: references that lead nowhere, selectors that match nothing.
//!
//! All of it is a warning: objects may come in any order, and the missing one may follow.

mod access;

use std::collections::HashMap;

use super::{Finding, Manifest};
use crate::{
    objects::{IntOrString, Kind, LabelSelector, Labels, Object, ObjectId, PodSpec, Service},
    routes::{self, Route},
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
            Object::MeshTlsAuthentication(authentication) => checker.mesh_tls(manifest, authentication),
            Object::ServerAuthorization(authorization) => checker.server_authorization(manifest, authorization),
            Object::HttpLocalRateLimitPolicy(policy) => checker.rate_limit(manifest, policy),
            other => {
                if let Some(route) = Route::of(other) {
                    checker.server_route(manifest, &route);
                }
            }
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
}
