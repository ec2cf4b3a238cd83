//! How many requests each rule took, read from what the metrics page shows.

use sheer_policy::ObjectRef;

use crate::metrics::{LabelSet, Registry, family};

/// What was counted so far.
pub(super) struct Counts {
    outbound: Vec<(LabelSet, u64)>,
    inbound: Vec<(LabelSet, u64)>,
}

impl Counts {
    pub(super) fn read(registry: &Registry) -> Self {
        Self {
            outbound: registry.counted(&[
                &family::OUTBOUND_HTTP_ROUTE_REQUEST_STATUSES_TOTAL,
                &family::OUTBOUND_GRPC_ROUTE_REQUEST_STATUSES_TOTAL,
                &family::OUTBOUND_TCP_ROUTE_OPEN_TOTAL,
                &family::OUTBOUND_TLS_ROUTE_OPEN_TOTAL,
            ]),
            inbound: registry.counted(&[
                &family::INBOUND_HTTP_AUTHZ_ALLOW_TOTAL,
                &family::INBOUND_HTTP_AUTHZ_DENY_TOTAL,
            ]),
        }
    }

    /// Of a rule for requests; of a rule for connections where it has no index.
    pub(super) fn of_rule(&self, parent: &ObjectRef, route: &ObjectRef, index: Option<usize>) -> u64 {
        let labels = LabelSet::builder().object("parent_", parent).object("route_", route);
        let labels = match index {
            Some(index) => labels.label("route_rule", &index.to_string()),
            None => labels,
        };
        let labels = labels.build();
        let (start, whole) = (format!("{},", labels.as_str()), labels.as_str());
        let is_it = |text: &str| match index {
            Some(_) => text.starts_with(&start),
            None => text == whole,
        };
        sum(&self.outbound, is_it)
    }

    /// Of all rules of a route of a port.
    pub(super) fn of_inbound(&self, port: u16, route: &ObjectRef) -> u64 {
        let route = LabelSet::builder().object("route_", route).build();
        let port = format!("target_port=\"{port}\",");
        sum(&self.inbound, |text| text.contains(&port) && has(text, route.as_str()))
    }
}

fn sum(counts: &[(LabelSet, u64)], is_meant: impl Fn(&str) -> bool) -> u64 {
    let meant = counts.iter().filter(|(labels, _)| is_meant(labels.as_str()));
    meant.map(|(_, count)| count).sum()
}

/// Whether labels are among others, and not only the beginning of some.
fn has(text: &str, labels: &str) -> bool {
    text.split(labels)
        .zip(text.split(labels).skip(1))
        .any(|(before, after)| before.ends_with(',') && !after.starts_with(",route_"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn route(name: &str, section: &str) -> ObjectRef {
        ObjectRef {
            kind: "HTTPRoute".to_owned(),
            name: name.to_owned(),
            section: section.to_owned(),
            ..ObjectRef::default()
        }
    }

    #[test]
    fn rules_and_routes_are_counted_apart() {
        let registry = Registry::new(Duration::from_secs(60));
        let (one, two) = (registry.shard(), registry.shard());
        let parent = ObjectRef {
            kind: "Service".to_owned(),
            ..ObjectRef::default()
        };
        let of = |index: &str, status: &str| {
            LabelSet::builder()
                .object("parent_", &parent)
                .object("route_", &route("a", ""))
                .label("route_rule", index)
                .label("http_status", status)
                .build()
        };
        let family = &family::OUTBOUND_HTTP_ROUTE_REQUEST_STATUSES_TOTAL;
        for (shard, index, status, times) in [(&one, "1", "200", 3), (&two, "1", "500", 2), (&one, "10", "200", 7)] {
            shard.counter(family, &of(index, status)).add(times);
        }
        let inbound = |route: &ObjectRef| {
            LabelSet::builder()
                .label("target_port", "80")
                .label("srv_name", "web")
                .object("route_", route)
                .label("authz_name", "x")
                .build()
        };
        let allowed = &family::INBOUND_HTTP_AUTHZ_ALLOW_TOTAL;
        one.counter(allowed, &inbound(&route("a", ""))).add(4);
        one.counter(allowed, &inbound(&route("a", "part"))).add(9);
        let counts = Counts::read(&registry);
        assert_eq!(counts.of_rule(&parent, &route("a", ""), Some(1)), 5);
        assert_eq!(counts.of_rule(&parent, &route("a", ""), Some(10)), 7);
        assert_eq!(counts.of_rule(&parent, &route("b", ""), Some(1)), 0);
        assert_eq!(counts.of_inbound(80, &route("a", "")), 4);
        assert_eq!(counts.of_inbound(80, &route("a", "part")), 9);
        assert_eq!(counts.of_inbound(8080, &route("a", "")), 0);
    }
}
