//! What several commands say alike: objects, places in files, short ages.

use std::{path::Path, time::Duration};

use sheer_api::v1::{ObjectRef, PassedTls};

/// Reads `85us`, `500ms`, `1.5s`, `5m` or `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: write it as 200ms, 1.5s, 5m or 1h");
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let number: f64 = text[..unit].parse().map_err(|_| wrong())?;
    let unit = match &text[unit..] {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())
}

/// The application's own TLS, as far as its handshake was in the clear: what was chosen, or else offered, and the alert that ended it.
pub(crate) fn passed_tls(seen: &PassedTls) -> String {
    let mut words = Vec::new();
    if !seen.version.is_empty() {
        let all = [&seen.version, &seen.cipher, &seen.group, &seen.alpn];
        let known: Vec<&str> = all
            .into_iter()
            .map(String::as_str)
            .filter(|word| !word.is_empty())
            .collect();
        words.push(format!("passes through: {}", known.join(" ")));
    }
    if !seen.offered_versions.is_empty() {
        let protocols = match &*seen.offered_alpn {
            [] => String::new(),
            protocols => format!(" for {}", protocols.join(", ")),
        };
        words.push(format!("offered {}{protocols}", seen.offered_versions.join(", ")));
    }
    if !seen.alert.is_empty() {
        words.push(format!("alert {} by the {}", seen.alert, seen.alert_by));
    }
    words.join("; ")
}

/// `1 pod`, `2 pods`.
pub(crate) fn count(number: impl Into<u64>, what: &str) -> String {
    match number.into() {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// An object as operators write it, `HTTPRoute bank/canary`; empty for none.
pub(crate) fn object(object: Option<&ObjectRef>) -> String {
    let Some(object) = object else {
        return String::new();
    };
    let ObjectRef {
        kind,
        namespace,
        name,
        port,
        ..
    } = object;
    let mut text = format!("{} ", spelt(kind));
    // Made up by the control plane or the proxy: no namespace has it.
    if !namespace.is_empty() && kind != "default" {
        text += namespace;
        text.push('/');
    }
    text += name;
    if *port != 0 {
        text += &format!(":{port}");
    }
    text
}

/// A kind as manifests spell it. Linkerd's labels have these in lower case.
fn spelt(kind: &str) -> &str {
    match kind {
        "server" => "Server",
        "authorizationpolicy" => "AuthorizationPolicy",
        kind => kind,
    }
}

/// A place in a file, as `routes.yaml:12`; `-` for none. Files below the current folder are named from there.
pub(crate) fn place(file: &str, line: u32) -> String {
    if file.is_empty() {
        return "-".to_owned();
    }
    let below = std::env::current_dir().ok().and_then(|folder| {
        let file = Path::new(file).strip_prefix(folder).ok()?;
        Some(file.display().to_string())
    });
    let file = below.unwrap_or_else(|| file.to_owned());
    if line == 0 { file } else { format!("{file}:{line}") }
}

/// An age in milliseconds: `820ms`, `12s`, `3m`, `2h`.
pub(crate) fn age_ms(ms: u64) -> String {
    if ms < 1_000 {
        format!("{ms}ms")
    } else {
        crate::output::age(ms / 1_000)
    }
}

/// An identity as operators know it: the service account and its namespace; `-` for none.
pub(crate) fn identity(name: &str) -> String {
    match name.split_once(".serviceaccount.identity.") {
        Some((short, _)) => format!("{short}…"),
        None if name.is_empty() => "-".to_owned(),
        None => name.to_owned(),
    }
}

/// The text, or `-` where there is none.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for wrong in ["30", "s", "-1s", "1 s", "30sec", ""] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(
            [0_u32, 1, 2].map(|number| count(number, "time")),
            ["0 times", "1 time", "2 times"]
        );
    }

    #[test]
    fn objects_places_and_ages() {
        let server = ObjectRef {
            kind: "server".to_owned(),
            namespace: "bank".to_owned(),
            name: "ledger".to_owned(),
            port: 80,
            ..ObjectRef::default()
        };
        assert_eq!(object(Some(&server)), "Server bank/ledger:80");
        assert_eq!(object(None), "");
        let here = std::env::current_dir().unwrap().join("a/b.yaml");
        assert_eq!(place(&here.display().to_string(), 3), "a/b.yaml:3");
        assert_eq!((place("", 0).as_str(), place("/x.yaml", 0).as_str()), ("-", "/x.yaml"));
        assert_eq!([820, 12_000, 180_000].map(age_ms), ["820ms", "12s", "3m"]);
        assert_eq!(
            identity("web.bank.serviceaccount.identity.sheer.cluster.local"),
            "web.bank…"
        );
    }
}
