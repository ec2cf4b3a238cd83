//! What a container finds around it: `hosts`, `resolv.conf`, environment. Pure.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use sheer_api::names::CLUSTER_DOMAIN;
use sheer_control::objects::{Container, EnvVar, Labels};

/// Kubernetes' bound of a host name.
const LONGEST_HOSTNAME: usize = 63;

/// What a container's environment may refer to.
#[derive(Clone, Debug)]
pub(crate) struct PodFacts {
    /// Name.
    pub(crate) name: String,
    /// Namespace.
    pub(crate) namespace: String,
    /// Uid.
    pub(crate) uid: String,
    /// Service account.
    pub(crate) service_account: String,
    /// Labels.
    pub(crate) labels: Labels,
    /// Annotations.
    pub(crate) annotations: Labels,
    /// Addresses, IPv4 first.
    pub(crate) ips: Vec<IpAddr>,
    /// Address of the bridge.
    pub(crate) host_ip: IpAddr,
}

impl PodFacts {
    /// The host name: the pod's, cut as Kubernetes cuts it where it is too long for one (the kernel takes 64 bytes).
    pub(crate) fn hostname(&self) -> &str {
        match self.name.get(..LONGEST_HOSTNAME) {
            Some(cut) => cut.trim_end_matches(['-', '.']),
            None => &self.name,
        }
    }
}

/// `/etc/hosts`, as Kubernetes writes it.
pub(crate) fn hosts(pod: &PodFacts) -> String {
    let mut text = String::from("# Written by sheer for this pod.\n127.0.0.1\tlocalhost\n");
    text += "::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nfe00::\tip6-mcastprefix\n";
    text += "fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
    for ip in &pod.ips {
        let _ = writeln!(text, "{ip}\t{}", pod.hostname());
    }
    text
}

/// `/etc/resolv.conf`, as Kubernetes writes it.
pub(crate) fn resolv_conf(pod: &PodFacts) -> String {
    format!(
        "search {}.svc.{CLUSTER_DOMAIN} svc.{CLUSTER_DOMAIN} {CLUSTER_DOMAIN}\nnameserver {}\noptions ndots:5\n",
        pod.namespace, pod.host_ip
    )
}

/// The environment of a container: what every pod has, then the manifest's, in which later entries may refer to earlier ones.
pub(crate) fn environment(
    container: &Container,
    pod: &PodFacts,
    base: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut env = base.clone();
    env.insert("HOSTNAME".to_owned(), pod.hostname().to_owned());
    for variable in &container.env {
        // What has no value here stays as it was: the manifest reader said so.
        if let Some(value) = value(variable, pod, &env) {
            env.insert(variable.name.clone(), value);
        }
    }
    env
}

fn value(variable: &EnvVar, pod: &PodFacts, env: &BTreeMap<String, String>) -> Option<String> {
    match (&variable.value, &variable.value_from) {
        (Some(value), _) => Some(expand(value, env)),
        (None, Some(from)) => field(&from.field_ref.as_ref()?.field_path, pod),
        (None, None) => Some(String::new()),
    }
}

/// A field of the pod; `None` where it is not known here.
fn field(path: &str, pod: &PodFacts) -> Option<String> {
    Some(match path {
        "metadata.name" => pod.name.clone(),
        "metadata.namespace" => pod.namespace.clone(),
        "metadata.uid" => pod.uid.clone(),
        "spec.serviceAccountName" => pod.service_account.clone(),
        "status.podIP" => pod.ips.first().map(ToString::to_string).unwrap_or_default(),
        "status.hostIP" => pod.host_ip.to_string(),
        _ => {
            let (map, key) = path.split_once("['")?;
            let map = match map {
                "metadata.labels" => &pod.labels,
                "metadata.annotations" => &pod.annotations,
                _ => return None,
            };
            // One that the pod does not have is empty, as in Kubernetes.
            map.get(key.strip_suffix("']")?).cloned().unwrap_or_default()
        }
    })
}

/// `$(NAME)` becomes the variable's value; `$$(NAME)` becomes `$(NAME)`; what is not defined stays as it is. Kubernetes' rules.
pub(crate) fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix("$(").and_then(|inner| inner.split_once(')')) {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[..rest.len() - after.len()]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> PodFacts {
        PodFacts {
            name: "web-6d9f4-0".into(),
            namespace: "bank".into(),
            uid: "u".into(),
            service_account: "web".into(),
            labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
            annotations: BTreeMap::from([("bank.example/owner".to_owned(), "red".to_owned())]),
            ips: vec!["10.77.0.2".parse().expect("ip"), "fd77::2".parse().expect("ip")],
            host_ip: "10.77.0.1".parse().expect("ip"),
        }
    }

    #[test]
    fn names_resolve_as_in_kubernetes() {
        insta::assert_snapshot!(resolv_conf(&pod()), @r"
        search bank.svc.cluster.local svc.cluster.local cluster.local
        nameserver 10.77.0.1
        options ndots:5
        ");
        assert!(hosts(&pod()).ends_with("10.77.0.2\tweb-6d9f4-0\nfd77::2\tweb-6d9f4-0\n"));
    }

    #[test]
    fn variables_refer_to_the_pod_and_to_each_other() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "app",
            "env": [
                { "name": "NS", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
                { "name": "URL", "value": "http://ledger.$(NS):80/$$(NS)/$(MISSING)/$1$" },
                { "name": "PATH", "value": "/opt:$(PATH)" },
                { "name": "APP", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['app']" } } },
                { "name": "OWNER", "valueFrom": { "fieldRef": { "fieldPath": "metadata.annotations['bank.example/owner']" } } },
                { "name": "NO_SUCH_LABEL", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['tier']" } } },
                { "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
                { "name": "SECRET", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } },
                { "name": "EMPTY" },
            ]
        }))
        .expect("a container");
        let env = environment(
            &container,
            &pod(),
            &BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]),
        );
        assert_eq!(env["URL"], "http://ledger.bank:80/$(NS)/$(MISSING)/$1$");
        assert_eq!(
            (env["PATH"].as_str(), env["HOSTNAME"].as_str()),
            ("/opt:/bin", "web-6d9f4-0")
        );
        assert_eq!(
            [&env["APP"], &env["OWNER"], &env["NO_SUCH_LABEL"], &env["EMPTY"]],
            ["web", "red", "", ""]
        );
        assert!(!env.contains_key("NODE") && !env.contains_key("SECRET"), "{env:?}");
    }

    #[test]
    fn a_host_name_is_cut_as_in_kubernetes() {
        let named = |name: String| PodFacts { name, ..pod() };
        assert_eq!(named("a".repeat(63)).hostname(), "a".repeat(63));
        assert_eq!(
            named("a".repeat(62) + "-b0").hostname(),
            "a".repeat(62),
            "it must not end with a dash"
        );
        let long = named("a".repeat(71) + "-6d9f4-0");
        assert_eq!(long.hostname().len(), 63);
        assert!(hosts(&long).ends_with(&format!("\t{}\n", long.hostname())));
    }
}
