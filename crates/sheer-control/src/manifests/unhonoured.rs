//! Fields that Kubernetes has and Sheer does not honour: which of them matter, and what it means.
//!
//! The one list of what is accepted without effect stands here ([`ACCEPTED`]): fields that have no meaning on one machine, and those
//! that only describe. Everything else that is not read is named to the user.

use super::tree::{Node, Step};
use crate::objects::Kind;

/// Fields without effect that need no word. `pod:` stands for a pod's spec wherever it is, `workload:` for a Deployment's or
/// StatefulSet's own, `*:` for every object.
const ACCEPTED: &[&str] = &[
    "*:apiVersion",
    "*:kind",
    "*:status",
    "*:metadata.creationTimestamp",
    "*:metadata.generation",
    "*:metadata.resourceVersion",
    "*:metadata.managedFields",
    "*:metadata.selfLink",
    "*:metadata.ownerReferences",
    "*:metadata.finalizers",
    // No image is pulled; resources are the machine's.
    "pod:containers[].image",
    "pod:containers[].imagePullPolicy",
    "pod:containers[].resources",
    "pod:containers[].resizePolicy",
    "pod:containers[].terminationMessagePath",
    "pod:containers[].terminationMessagePolicy",
    "pod:containers[].stdin",
    "pod:containers[].tty",
    "pod:containers[].ports[].hostIP",
    "pod:containers[].env[].valueFrom.fieldRef.apiVersion",
    "pod:imagePullSecrets",
    "pod:serviceAccount",
    "pod:automountServiceAccountToken",
    "pod:enableServiceLinks",
    // There is one machine to run on.
    "pod:nodeName",
    "pod:nodeSelector",
    "pod:affinity",
    "pod:tolerations",
    "pod:topologySpreadConstraints",
    "pod:schedulerName",
    "pod:priorityClassName",
    "pod:priority",
    "pod:preemptionPolicy",
    "pod:runtimeClassName",
    "pod:os",
    "workload:metadata.name",
    "workload:metadata.namespace",
    "workload:metadata.creationTimestamp",
    "workload:revisionHistoryLimit",
    "workload:progressDeadlineSeconds",
    "workload:serviceName",
    "workload:persistentVolumeClaimRetentionPolicy",
    "Namespace:spec",
    "ServiceAccount:secrets",
    "ServiceAccount:imagePullSecrets",
    "ServiceAccount:automountServiceAccountToken",
    "Service:spec.ipFamilies",
    "Service:spec.ipFamilyPolicy",
    "Service:spec.internalTrafficPolicy",
    "Service:spec.externalTrafficPolicy",
    "Service:spec.allocateLoadBalancerNodePorts",
];

/// Fields that Sheer honours in some values only: the field, the entry below it where it is a mapping, those values, and what happens with
/// any other.
const BY_VALUE: &[(&str, &[&str], &[&str], &str)] = &[
    (
        "pod:restartPolicy",
        &[],
        &["Always"],
        "treated as Always: a program that ends is started again, however it ended",
    ),
    (
        "pod:dnsPolicy",
        &[],
        &["ClusterFirst", "ClusterFirstWithHostNet"],
        "not honoured: the pod uses the mesh's DNS",
    ),
    (
        "workload:strategy",
        &["type"],
        &["RollingUpdate"],
        "treated as RollingUpdate: a new pod is ready before an old one ends, so both run for a while",
    ),
    (
        "workload:updateStrategy",
        &["type"],
        &["RollingUpdate"],
        "treated as RollingUpdate: a change replaces pods at once",
    ),
    (
        "workload:updateStrategy",
        &["rollingUpdate", "partition"],
        &["0"],
        "partition is not honoured: a change replaces every pod",
    ),
    (
        "workload:minReadySeconds",
        &[],
        &["0"],
        "not honoured: a pod counts as soon as it is ready",
    ),
    (
        "workload:podManagementPolicy",
        &[],
        &["OrderedReady"],
        "treated as OrderedReady: replicas start and end one after the other",
    ),
];

/// Fields whose absence a user would notice.
const MISSED: &[(&str, &str)] = &[
    (
        "pod:initContainers",
        "not honoured: these are not run before the pod starts",
    ),
    ("pod:ephemeralContainers", "not honoured: these are not run"),
    (
        "pod:volumes",
        "not honoured: nothing is mounted, the program sees this machine's files",
    ),
    (
        "pod:containers[].volumeMounts",
        "not honoured: nothing is mounted, the program sees this machine's files",
    ),
    ("pod:containers[].volumeDevices", "not honoured: no device is attached"),
    (
        "pod:securityContext",
        "not honoured: the program runs as the user that the mesh runs as",
    ),
    (
        "pod:containers[].securityContext",
        "not honoured: the program runs as the user that the mesh runs as",
    ),
    (
        "pod:containers[].envFrom",
        "not honoured: these variables are not set; write them as env",
    ),
    (
        "pod:containers[].env[].valueFrom.configMapKeyRef",
        "not honoured: the variable is not set; write its value",
    ),
    (
        "pod:containers[].env[].valueFrom.secretKeyRef",
        "not honoured: the variable is not set; write its value",
    ),
    (
        "pod:containers[].env[].valueFrom.resourceFieldRef",
        "not honoured: the variable is not set; write its value",
    ),
    ("pod:containers[].lifecycle", "not honoured: no hook is run"),
    (
        "pod:containers[].restartPolicy",
        "not honoured: a program that ends is started again",
    ),
    (
        "pod:containers[].ports[].hostPort",
        "not honoured: publish a port with the annotation sheer.dev/publish",
    ),
    ("pod:hostNetwork", "not honoured: the pod has a network of its own"),
    ("pod:hostPID", "not honoured"),
    ("pod:hostIPC", "not honoured"),
    ("pod:hostUsers", "not honoured"),
    ("pod:shareProcessNamespace", "not honoured"),
    (
        "pod:hostAliases",
        "not honoured: these names are not known to the pod; write a Service",
    ),
    ("pod:hostname", "not honoured: the host name is the pod's name"),
    ("pod:subdomain", "not honoured: the pod gets no name of its own"),
    ("pod:dnsConfig", "not honoured: the pod uses the mesh's DNS"),
    ("pod:activeDeadlineSeconds", "not honoured: the pod is not ended by it"),
    ("pod:readinessGates", "not honoured: the pod is ready without them"),
    ("workload:paused", "not honoured: changes take effect at once"),
    ("workload:volumeClaimTemplates", "not honoured: nothing is mounted"),
    ("workload:ordinals", "not honoured: the first replica is number 0"),
    (
        "Service:spec.externalName",
        "not honoured: the name leads nowhere; callers must use the external name itself",
    ),
    (
        "Service:spec.externalIPs",
        "not honoured: the service is not reachable at these addresses",
    ),
    (
        "Service:spec.loadBalancerIP",
        "not honoured: publish a port with the annotation sheer.dev/publish",
    ),
    (
        "Service:spec.loadBalancerClass",
        "not honoured: publish a port with the annotation sheer.dev/publish",
    ),
    (
        "Service:spec.loadBalancerSourceRanges",
        "not honoured: publish a port with the annotation sheer.dev/publish",
    ),
    ("Service:spec.healthCheckNodePort", "not honoured"),
    (
        "Service:spec.ports[].nodePort",
        "not honoured: no port of this machine is opened; use the annotation sheer.dev/publish",
    ),
    (
        "Service:spec.sessionAffinityConfig",
        "not honoured: affinity lasts while the set of endpoints does",
    ),
    (
        "HTTPRoute:spec.useDefaultGateways",
        "not honoured: there is no Gateway here; name a Service or an EgressNetwork in parentRefs",
    ),
    (
        "GRPCRoute:spec.useDefaultGateways",
        "not honoured: there is no Gateway here; name a Service or an EgressNetwork in parentRefs",
    ),
    (
        "HTTPRoute:spec.rules[].filters[].cors",
        "not honoured: the rule answers every request with 500",
    ),
    (
        "HTTPRoute:spec.rules[].filters[].externalAuth",
        "not honoured: the rule answers every request with 500",
    ),
    (
        "HTTPRoute:spec.rules[].sessionPersistence.absoluteTimeout",
        "not honoured: the mesh sets no cookie, so none of its making ends",
    ),
    (
        "HTTPRoute:spec.rules[].sessionPersistence.idleTimeout",
        "not honoured: the mesh sets no cookie, so none of its making ends",
    ),
    (
        "HTTPRoute:spec.rules[].sessionPersistence.cookieConfig",
        "not honoured: the mesh sets no cookie; the application's own is used",
    ),
    (
        "Server:spec.externalWorkloadSelector",
        "not honoured: external workloads are not in this mesh",
    ),
];

/// What to tell of a field that is not read; `None` where it does not matter.
pub(super) fn explain(kind: Kind, path: &[Step], node: &Node) -> Option<String> {
    let names = names(kind, path);
    if names.iter().any(|name| ACCEPTED.contains(&name.as_str())) {
        return None;
    }
    let honoured = BY_VALUE
        .iter()
        .filter(|(field, ..)| names.iter().any(|name| name == field));
    let mut seen = honoured.clone().map(|(_, entries, values, meaning)| {
        let value = entries.iter().try_fold(node, |node, entry| node.entry(entry));
        let taken = value.is_none_or(|value| values.contains(&value.plain().as_str()));
        (!taken).then(|| (*meaning).to_owned())
    });
    if honoured.clone().count() > 0 {
        return seen.find_map(|wrong| wrong);
    }
    // These matter or not by their value.
    match (names.last()?.as_str(), node.as_str()) {
        ("Service:spec.type", Some("ClusterIP")) => return None,
        ("Service:spec.type", _) => {
            return Some("treated as ClusterIP: reach it from outside by the annotation sheer.dev/publish".to_owned());
        }
        _ => {}
    }
    let missed = MISSED.iter().find(|(field, _)| names.iter().any(|name| name == field));
    Some(match missed {
        Some((_, meaning)) => (*meaning).to_owned(),
        None => "not a field that Sheer knows: left out; is it spelt and indented right?".to_owned(),
    })
}

/// The names under which a path may stand in the lists, the object's own last.
fn names(kind: Kind, path: &[Step]) -> Vec<String> {
    let mut plain = String::new();
    for step in path {
        match step {
            Step::Key(key) if plain.is_empty() => plain.push_str(key),
            Step::Key(key) => plain.push_str(&format!(".{key}")),
            Step::Index(_) => plain.push_str("[]"),
        }
    }
    let mut names = vec![format!("*:{plain}")];
    match kind {
        Kind::Deployment | Kind::StatefulSet => {
            if let Some(rest) = plain.strip_prefix("spec.template.spec.") {
                names.push(format!("pod:{rest}"));
            } else if let Some(rest) = plain
                .strip_prefix("spec.template.")
                .or_else(|| plain.strip_prefix("spec."))
            {
                names.push(format!("workload:{rest}"));
            }
        }
        Kind::Pod => names.extend(plain.strip_prefix("spec.").map(|rest| format!("pod:{rest}"))),
        _ => {}
    }
    names.push(format!("{kind}:{plain}"));
    names
}
