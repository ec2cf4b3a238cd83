//! What a container finds around it: `hosts`, `resolv.conf`, environment. Pure.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use sheer_api::names::CLUSTER_DOMAIN;
use sheer_control::objects::{Container, EnvVar};

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
    /// Addresses, IPv4 first.
    pub(crate) ips: Vec<IpAddr>,
    /// Address of the bridge.
    pub(crate) host_ip: IpAddr,
}

/// `/etc/hosts`, as Kubernetes writes it.
pub(crate) fn hosts(pod: &PodFacts) -> String {
    let mut text = String::from("# Written by sheer for this pod.\n127.0.0.1\tlocalhost\n");
    text += "::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nfe00::\tip6-mcastprefix\n";
    text += "fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
    for ip in &pod.ips {
        let _ = writeln!(text, "{ip}\t{}", pod.name);
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
    env.insert("HOSTNAME".to_owned(), pod.name.clone());
    for variable in &container.env {
        let value = value(variable, pod, &env);
        env.insert(variable.name.clone(), value);
    }
    env
}

fn value(variable: &EnvVar, pod: &PodFacts, env: &BTreeMap<String, String>) -> String {
    if let Some(value) = &variable.value {
        return expand(value, env);
    }
    let field = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
    match field.map(|field| field.field_path.as_str()) {
        Some("metadata.name") => pod.name.clone(),
        Some("metadata.namespace") => pod.namespace.clone(),
        Some("metadata.uid") => pod.uid.clone(),
        Some("spec.serviceAccountName") => pod.service_account.clone(),
        Some("status.podIP") => pod.ips.first().map(ToString::to_string).unwrap_or_default(),
        Some("status.hostIP") => pod.host_ip.to_string(),
        // The manifest reader refused every other path.
        _ => String::new(),
    }
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
    }
}
