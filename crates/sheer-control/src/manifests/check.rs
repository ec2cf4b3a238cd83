//! What types alone cannot hold: names, selectors, ports and annotations of one object.

mod access;
mod routes;
mod traffic;

use std::{collections::HashSet, net::IpAddr};

use super::{Severity, annotations, tree::Step};
use crate::objects::{
    AppProtocol, AuthorizationPolicy, Container, FieldRef, Kind, Labels, MeshTlsAuthentication, Object, PodSpec, Probe,
    Server, Service, WorkloadSpec,
};

type Wrong = (Severity, Vec<Step>, String);

/// What is wrong with an object, by field.
pub(super) fn check(object: &Object) -> Vec<Wrong> {
    let mut checker = Checker {
        wrong: Vec::new(),
        path: Vec::new(),
    };
    checker.metadata(object);
    match object {
        Object::Service(service) => checker.within("spec", |c| c.service(service)),
        Object::Pod(pod) => checker.within("spec", |c| c.pod(&pod.spec)),
        Object::Deployment(deployment) => checker.within("spec", |c| c.workload(&deployment.spec)),
        Object::StatefulSet(set) => checker.within("spec", |c| c.workload(&set.spec)),
        Object::Server(server) => checker.within("spec", |c| c.server(server)),
        Object::AuthorizationPolicy(policy) => checker.within("spec", |c| c.authorization(policy)),
        Object::MeshTlsAuthentication(authentication) => checker.within("spec", |c| c.mesh_tls(authentication)),
        Object::NetworkAuthentication(authentication) => checker.within("spec", |c| {
            if authentication.spec.networks.is_empty() {
                c.error("networks", "empty: it would let nobody in; write at least one network");
            }
        }),
        Object::HttpLocalRateLimitPolicy(policy) => checker.within("spec", |c| c.rate_limit(policy)),
        Object::ServerAuthorization(authorization) => checker.within("spec", |c| c.server_authorization(authorization)),
        Object::HttpRoute(route) | Object::PolicyHttpRoute(route) => checker.within("spec", |c| c.http_route(route)),
        Object::GrpcRoute(route) => checker.within("spec", |c| c.grpc_route(route)),
        Object::TlsRoute(route) => checker.within("spec", |c| c.tls_route(route)),
        Object::TcpRoute(route) => {
            checker.within("spec", |c| c.stream_rules(&route.spec.parent_refs, &route.spec.rules))
        }
        Object::ReferenceGrant(grant) => checker.within("spec", |c| c.grant(grant)),
        Object::EgressNetwork(network) => checker.within("spec", |c| c.egress(network)),
        Object::HttpFault(fault) => checker.within("spec", |c| c.fault(fault)),
        Object::ServiceProfile(profile) => checker.profile(profile),
        Object::Namespace(_) | Object::ServiceAccount(_) => {}
    }
    checker.wrong
}

struct Checker {
    wrong: Vec<Wrong>,
    path: Vec<Step>,
}

impl Checker {
    fn within(&mut self, key: &str, check: impl FnOnce(&mut Self)) {
        self.path.push(Step::Key(key.to_owned()));
        check(self);
        self.path.pop();
    }

    fn each<T>(&mut self, key: &str, items: &[T], mut check: impl FnMut(&mut Self, &T)) {
        self.within(key, |c| {
            for (index, item) in items.iter().enumerate() {
                c.path.push(Step::Index(index));
                check(c, item);
                c.path.pop();
            }
        });
    }

    fn push(&mut self, severity: Severity, key: &str, message: impl Into<String>) {
        let mut path = self.path.clone();
        if !key.is_empty() {
            path.push(Step::Key(key.to_owned()));
        }
        self.wrong.push((severity, path, message.into()));
    }

    fn error(&mut self, key: &str, message: impl Into<String>) {
        self.push(Severity::Error, key, message);
    }

    fn warning(&mut self, key: &str, message: impl Into<String>) {
        self.push(Severity::Warning, key, message);
    }

    fn metadata(&mut self, object: &Object) {
        let metadata = object.metadata();
        self.within("metadata", |c| {
            if metadata.name.is_empty() {
                c.error("name", "missing");
            } else if let Err(message) = check_name(&metadata.name) {
                c.error("name", message);
            }
            if let Err(message) = check_name(&metadata.namespace).and_then(|()| check_label(&metadata.namespace)) {
                c.error("namespace", message);
            }
            let is_label = matches!(
                object,
                Object::Namespace(_) | Object::Service(_) | Object::ServiceAccount(_)
            );
            if is_label && let Err(message) = check_label(&metadata.name) {
                c.error("name", message);
            }
            c.annotations(object.kind(), &metadata.annotations);
        });
        self.traffic(object);
    }

    fn annotations(&mut self, kind: Kind, annotations: &Labels) {
        self.within("annotations", |c| {
            for (severity, key, message) in annotations::check(kind, annotations) {
                c.push(severity, &key, message);
            }
        });
    }

    fn service(&mut self, service: &Service) {
        self.session_affinity(service);
        for (key, address) in service
            .spec
            .cluster_ip
            .iter()
            .map(|ip| ("clusterIP", ip))
            .chain(service.spec.cluster_ips.iter().map(|ip| ("clusterIPs", ip)))
        {
            if address != "None" && !address.is_empty() && address.parse::<IpAddr>().is_err() {
                self.error(key, format!("{address:?} is neither an address nor \"None\""));
            }
        }
        let mut ports = HashSet::new();
        let several = service.spec.ports.len() > 1;
        self.each("ports", &service.spec.ports, |c, port| {
            if port.port == 0 {
                c.error("port", "0 is not a port");
            }
            if several && port.name.is_none() {
                c.error("name", "missing: a Service with several ports names each of them");
            }
            if !ports.insert((port.port, port.is_tcp())) {
                c.error("port", format!("{} twice in one Service", port.port));
            }
            c.protocol(port.protocol.as_deref());
            if let Some(name) = port
                .app_protocol
                .as_deref()
                .filter(|name| AppProtocol::parse(name).is_none())
            {
                c.warning(
                    "appProtocol",
                    format!(
                        "{name:?} is not known: the port is never inspected (known are http, h2c, grpc, tcp, https)"
                    ),
                );
            }
        });
    }

    fn protocol(&mut self, protocol: Option<&str>) {
        match protocol {
            None | Some("TCP") => {}
            Some("UDP" | "SCTP") => self.warning("protocol", "not carried by the mesh: only TCP is"),
            Some(other) => self.error("protocol", format!("{other:?} is not one of TCP, UDP, SCTP")),
        }
    }

    fn workload(&mut self, spec: &WorkloadSpec) {
        if spec.selector.match_labels.is_empty() && spec.selector.match_expressions.is_empty() {
            self.error("selector", "empty: write the labels of the template");
        } else if !spec.selector.matches(&spec.template.metadata.labels) {
            self.error(
                "selector",
                "does not match spec.template.metadata.labels: the workload would not know its own pods",
            );
        }
        self.within("template", |c| {
            c.within("metadata", |c| {
                c.annotations(Kind::Pod, &spec.template.metadata.annotations)
            });
            c.within("spec", |c| c.pod(&spec.template.spec));
        });
    }

    fn pod(&mut self, spec: &PodSpec) {
        if spec.containers.is_empty() {
            self.error("containers", "empty: a pod runs at least one");
        }
        if let Some(Err(message)) = spec
            .service_account_name
            .as_deref()
            .filter(|name| !name.is_empty())
            .map(|name| check_name(name).and_then(|()| check_label(name)))
        {
            self.error("serviceAccountName", message);
        }
        let mut names = HashSet::new();
        self.each("containers", &spec.containers, |c, container| {
            if !names.insert(container.name.clone()) {
                c.error("name", format!("{:?} twice in one pod", container.name));
            }
            c.container(spec, container);
        });
    }

    fn container(&mut self, pod: &PodSpec, container: &Container) {
        if let Err(message) = check_name(&container.name) {
            self.error("name", message);
        }
        self.each("ports", &container.ports, |c, port| {
            if port.container_port == 0 {
                c.error("containerPort", "0 is not a port");
            }
            c.protocol(port.protocol.as_deref());
        });
        self.each("env", &container.env, |c, variable| {
            if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
                c.error("name", format!("{:?} cannot be the name of a variable", variable.name));
            }
            if variable.value.is_some() && variable.value_from.is_some() {
                c.error("valueFrom", "value is given too: only one of them can hold");
            }
            let field = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
            if let Some(field) = field.filter(|field| !is_field(&field.field_path)) {
                let message = format!("{:?} is not known here: the variable is not set; known are {}, metadata.labels['…'] and metadata.annotations['…']", field.field_path, FieldRef::PATHS.join(", "));
                c.warning("valueFrom", message);
            }
        });
        if let Some(probe) = &container.readiness_probe {
            self.within("readinessProbe", |c| c.probe(pod, probe));
        }
        for (key, probe) in [
            ("livenessProbe", &container.liveness_probe),
            ("startupProbe", &container.startup_probe),
        ] {
            if probe.is_some() {
                self.warning(
                    key,
                    "not run: a program that ends is started again, one that hangs is not",
                );
            }
        }
    }

    fn probe(&mut self, pod: &PodSpec, probe: &Probe) {
        let kinds = [
            probe.http_get.is_some(),
            probe.tcp_socket.is_some(),
            probe.grpc.is_some(),
            probe.exec.is_some(),
        ];
        if kinds.into_iter().filter(|given| *given).count() != 1 {
            self.error("", "exactly one of httpGet, tcpSocket, grpc and exec must be given");
        }
        let http = probe.http_get.as_ref().map(|action| ("httpGet", &action.port));
        let tcp = probe.tcp_socket.as_ref().map(|action| ("tcpSocket", &action.port));
        for (key, port) in [http, tcp].into_iter().flatten() {
            if pod.find_port(port).is_none() {
                self.within(key, |c| {
                    c.error("port", format!("no container has a port named {port}"))
                });
            }
        }
    }

    fn server(&mut self, server: &Server) {
        if let Some(policy) = &server.spec.access_policy
            && !annotations::INBOUND_POLICIES.contains(&policy.as_str())
        {
            self.error(
                "accessPolicy",
                format!("{policy:?} is not one of {}", annotations::INBOUND_POLICIES.join(", ")),
            );
        }
    }

    fn authorization(&mut self, policy: &AuthorizationPolicy) {
        match policy.spec.target_ref.kind.as_str() {
            "Server" | "Namespace" | "HTTPRoute" | "GRPCRoute" => {}
            other => self.within("targetRef", |c| {
                c.warning(
                    "kind",
                    format!(
                        "{other} is not honoured: the policy lets nobody in; attach it to a Server, an HTTPRoute, a GRPCRoute or a \
                         Namespace"
                    ),
                );
            }),
        }
        self.each(
            "requiredAuthenticationRefs",
            &policy.spec.required_authentication_refs,
            |c, authentication| {
                if !matches!(
                    authentication.kind.as_str(),
                    "MeshTLSAuthentication" | "NetworkAuthentication" | "ServiceAccount"
                ) {
                    let kind = &authentication.kind;
                    c.error(
                        "kind",
                        format!("{kind:?} is not one of MeshTLSAuthentication, NetworkAuthentication, ServiceAccount"),
                    );
                }
            },
        );
    }

    fn mesh_tls(&mut self, authentication: &MeshTlsAuthentication) {
        if authentication.spec.identities.is_empty() && authentication.spec.identity_refs.is_empty() {
            self.error(
                "identities",
                "empty, and so is identityRefs: nobody would be meant; \"*\" means every identity of the mesh",
            );
        }
        self.each("identities", &authentication.spec.identities, |c, identity| {
            if identity.is_empty() || identity.trim_start_matches("*.").contains('*') && identity != "*" {
                c.error(
                    "",
                    format!("{identity:?} is neither a name, nor \"*\", nor \"*.SUFFIX\""),
                );
            }
        });
        self.each("identityRefs", &authentication.spec.identity_refs, |c, reference| {
            if !matches!(reference.kind.as_str(), "ServiceAccount" | "Namespace") {
                c.error(
                    "kind",
                    format!("{:?} is not one of ServiceAccount, Namespace", reference.kind),
                );
            }
        });
    }
}

fn is_field(path: &str) -> bool {
    let keyed = |name: &str| {
        path.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with("['") && rest.ends_with("']"))
    };
    FieldRef::PATHS.contains(&path) || keyed("metadata.labels") || keyed("metadata.annotations")
}

/// Names of namespaces, services and service accounts are parts of DNS names (RFC 1035: 63 bytes each), and of identities, which are such.
fn check_label(name: &str) -> Result<(), String> {
    match name.len() {
        0..=63 => Ok(()),
        length => Err(format!(
            "{length} characters: a part of a DNS name, which it is or becomes, has 63 at most"
        )),
    }
}

/// Names become file names, host names and parts of identities: RFC 1123 labels, with dots where Kubernetes has them.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = name.as_bytes();
    if bytes.len() <= 253
        && bytes.iter().all(|byte| inner(*byte))
        && edge(bytes.first())
        && edge(bytes.last())
        && !name.contains("..")
    {
        return Ok(());
    }
    Err(format!(
        "{name:?} is not a name: lower-case letters, digits, '-' and '.', no more than 253 of them"
    ))
}
