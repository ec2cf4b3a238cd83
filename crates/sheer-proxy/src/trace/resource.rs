//! What spans say of this workload: OpenTelemetry's resource, made once.

use sheer_api::v1::{Attribute, attribute::Value};

use crate::settings::{Settings, trace::pairs};

/// The attributes of this workload, `service.name` first.
pub(super) async fn attributes(settings: &Settings) -> Vec<Attribute> {
    let resource = &settings.trace.resource;
    let name = match resource.service_name.as_str() {
        "" => first_label(&settings.identity.name),
        name => name,
    };
    let mut attributes = vec![
        text("service.name", name),
        text("service.version", ""),
        text("telemetry.sdk.name", "sheer-proxy"),
        text("telemetry.sdk.language", "rust"),
        text("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        text("sheer.identity", &*settings.identity.name),
    ];
    for (key, value) in &resource.attributes {
        set(&mut attributes, key, value);
    }
    if let Some(file) = &resource.attributes_file {
        match tokio::fs::read_to_string(file).await {
            Ok(content) => pairs(&content).for_each(|(key, value)| set(&mut attributes, &key, &value)),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the attributes of the workload cannot be read: spans go without them");
            }
        }
    }
    attributes.retain(|attribute| attribute.value != Some(Value::Text(String::new())));
    attributes
}

fn set(attributes: &mut Vec<Attribute>, key: &str, value: &str) {
    attributes.retain(|attribute| attribute.key != key);
    attributes.push(text(key, value));
}

/// `ledger` of `ledger.bank.serviceaccount.identity.…`; of a SPIFFE URI the last part.
fn first_label(identity: &str) -> &str {
    match identity.strip_prefix("spiffe://") {
        Some(path) => path.rsplit('/').next().unwrap_or(path),
        None => identity.split('.').next().unwrap_or(identity),
    }
}

pub(super) fn text(key: &str, value: impl Into<String>) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Some(Value::Text(value.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_without_a_name_is_called_by_its_identity() {
        assert_eq!(
            first_label("ledger.bank.serviceaccount.identity.sheer.cluster.local"),
            "ledger"
        );
        assert_eq!(first_label("spiffe://cluster.local/ns/bank/sa/ledger"), "ledger");
    }
}
