//! Which kinds Sheer honours, and what it means that it does not honour another.

use crate::objects::Kind;

/// What becomes of a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It is read.
    Honoured(Kind),
    /// Its items are read.
    List,
    /// Known, or not, and left out: what that means.
    Unhonoured(String),
    /// A known kind under a wrong version or group.
    Wrong(String),
}

/// Kind, the groups and versions that are read.
const HONOURED: &[(Kind, &[&str])] = &[
    (Kind::Namespace, &["v1"]),
    (Kind::ServiceAccount, &["v1"]),
    (Kind::Service, &["v1"]),
    (Kind::Pod, &["v1"]),
    (Kind::Deployment, &["apps/v1"]),
    (Kind::StatefulSet, &["apps/v1"]),
    (
        Kind::Server,
        &[
            "policy.sheer.dev/v1beta3",
            "policy.linkerd.io/v1beta3",
            "policy.linkerd.io/v1beta2",
            "policy.linkerd.io/v1beta1",
        ],
    ),
    (
        Kind::AuthorizationPolicy,
        &["policy.sheer.dev/v1alpha1", "policy.linkerd.io/v1alpha1"],
    ),
    (
        Kind::MeshTlsAuthentication,
        &["policy.sheer.dev/v1alpha1", "policy.linkerd.io/v1alpha1"],
    ),
    (
        Kind::NetworkAuthentication,
        &["policy.sheer.dev/v1alpha1", "policy.linkerd.io/v1alpha1"],
    ),
    (
        Kind::HttpLocalRateLimitPolicy,
        &["policy.sheer.dev/v1alpha1", "policy.linkerd.io/v1alpha1"],
    ),
    (
        Kind::ServerAuthorization,
        &[
            "policy.sheer.dev/v1beta1",
            "policy.linkerd.io/v1beta1",
            "policy.linkerd.io/v1alpha1",
        ],
    ),
    (
        Kind::HttpRoute,
        &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"],
    ),
    (
        Kind::PolicyHttpRoute,
        &[
            "policy.sheer.dev/v1beta3",
            "policy.linkerd.io/v1beta3",
            "policy.linkerd.io/v1beta2",
            "policy.linkerd.io/v1beta1",
        ],
    ),
    (Kind::GrpcRoute, &["gateway.networking.k8s.io/v1"]),
    (
        Kind::TlsRoute,
        &[
            "gateway.networking.k8s.io/v1alpha2",
            "gateway.networking.k8s.io/v1alpha3",
            "gateway.networking.k8s.io/v1",
        ],
    ),
    (
        Kind::TcpRoute,
        &[
            "gateway.networking.k8s.io/v1alpha2",
            "gateway.networking.k8s.io/v1alpha3",
        ],
    ),
    (
        Kind::ReferenceGrant,
        &[
            "gateway.networking.k8s.io/v1beta1",
            "gateway.networking.k8s.io/v1alpha2",
            "gateway.networking.k8s.io/v1",
        ],
    ),
    (
        Kind::EgressNetwork,
        &["policy.sheer.dev/v1alpha1", "policy.linkerd.io/v1alpha1"],
    ),
    (Kind::HttpFault, &["policy.sheer.dev/v1alpha1"]),
    (Kind::ServiceProfile, &["linkerd.io/v1alpha2"]),
];

/// Kinds that are known and not honoured, and what that means.
const UNHONOURED: &[(&str, &str)] = &[
    (
        "ConfigMap",
        "not honoured: nothing is mounted, and no variable is set from it",
    ),
    (
        "Secret",
        "not honoured: nothing is mounted, and no variable is set from it",
    ),
    (
        "DaemonSet",
        "not honoured: nothing is started from it; write a Deployment",
    ),
    (
        "ReplicaSet",
        "not honoured: nothing is started from it; write a Deployment",
    ),
    ("Job", "not honoured: nothing is started from it"),
    ("CronJob", "not honoured: nothing is started from it"),
    (
        "Ingress",
        "not honoured: nothing comes in by it; publish a port with the annotation sheer.dev/publish",
    ),
    (
        "Gateway",
        "not honoured: nothing comes in by it; publish a port with the annotation sheer.dev/publish",
    ),
    (
        "ExternalWorkload",
        "not honoured yet: it is not an endpoint of any Service",
    ),
    (
        "Endpoints",
        "not honoured: the endpoints of a Service are the ready pods that it selects",
    ),
    (
        "EndpointSlice",
        "not honoured: the endpoints of a Service are the ready pods that it selects",
    ),
    (
        "NetworkPolicy",
        "not honoured: it blocks nothing; write a Server and an AuthorizationPolicy",
    ),
    (
        "HorizontalPodAutoscaler",
        "not honoured: replicas stay as the workload has them",
    ),
    ("PodDisruptionBudget", "not honoured: restarts do not look at it"),
    ("PersistentVolume", "not honoured: nothing is mounted"),
    ("PersistentVolumeClaim", "not honoured: nothing is mounted"),
    (
        "CustomResourceDefinition",
        "not honoured: there is no API server to extend",
    ),
    ("Role", "not honoured: there is no API server to guard"),
    ("RoleBinding", "not honoured: there is no API server to guard"),
    ("ClusterRole", "not honoured: there is no API server to guard"),
    ("ClusterRoleBinding", "not honoured: there is no API server to guard"),
    ("LimitRange", "not honoured: resources are not limited by it"),
    ("ResourceQuota", "not honoured: resources are not limited by it"),
    (
        "Kustomization",
        "not honoured: give Sheer what `kustomize build` prints",
    ),
];

/// What becomes of a document of this type.
pub(super) fn treatment(api_version: &str, kind: &str) -> Treatment {
    if kind == "List" && api_version == "v1" {
        return Treatment::List;
    }
    // HTTPRoute is the kind of two groups.
    let honoured = HONOURED.iter().filter(|(known, _)| known.as_str() == kind);
    if let Some((known, _)) = honoured.clone().find(|(_, versions)| versions.contains(&api_version)) {
        return Treatment::Honoured(*known);
    }
    let versions: Vec<&str> = honoured.flat_map(|(_, versions)| *versions).copied().collect();
    if !versions.is_empty() {
        // A kind of another project may share a name (Istio's AuthorizationPolicy): only a group that is ours can be a mistake.
        let group = |version: &str| version.rsplit_once('/').map(|(group, _)| group.to_owned());
        if versions.iter().any(|version| group(version) == group(api_version)) || !api_version.contains('.') {
            return Treatment::Wrong(format!(
                "{kind} is read as {}, not as {api_version}",
                versions.join(" or ")
            ));
        }
    } else if let Some((_, meaning)) = UNHONOURED.iter().find(|(known, _)| *known == kind) {
        return Treatment::Unhonoured((*meaning).to_owned());
    }
    Treatment::Unhonoured(format!("{api_version} {kind} is not a type that Sheer knows: left out"))
}
