//! Documents: JSON, lines of it, and forms. What cannot be read field by field is not shown.

use sheer_lens::grpc::{Encoding, decompress};

use super::Part;
use crate::redact::Redactor;

/// Bytes of a name in a form. What is longer is no name.
const LONGEST_NAME: usize = 64;

/// A line of a stream of JSON documents; of server-sent events what stands behind `data:`.
pub(super) fn line_of(line: &[u8], redactor: &Redactor) -> Option<Part> {
    let whole = line.len();
    let line = line.trim_ascii();
    let document = line.strip_prefix(b"data:").unwrap_or(line).trim_ascii();
    if document.is_empty()
        || (line.len() == document.len() && !document.starts_with(b"{") && !document.starts_with(b"["))
    {
        // Names of events, their ids, comments.
        return None;
    }
    let mut part = json(document, redactor).unwrap_or_else(|| hidden(document, "a line that is no JSON", redactor));
    if !part.text.is_empty() {
        part.wire = match line.len() == document.len() {
            true => format!("{}\n", part.text),
            false => format!("data: {}\n\n", part.text),
        }
        .into_bytes();
    }
    part.bytes = document.len();
    part.length = Some(whole as u64);
    Some(part)
}

/// A body that is one document, of this type. `is_cut`: only its beginning is here.
pub(super) fn document(
    bytes: &[u8],
    media: &str,
    encoding: Option<Encoding>,
    is_cut: bool,
    redactor: &Redactor,
) -> Part {
    /// What a compressed document may grow to.
    const OPENED: usize = 1024 * 1024;
    let opened = match encoding {
        Some(Encoding::Identity) => None,
        Some(encoding) => Some(decompress(encoding, bytes, OPENED)),
        None => return hidden(bytes, "compressed in a way that nobody here can open", redactor),
    };
    let is_cut = is_cut || opened.as_ref().is_some_and(|opened| opened.is_cut);
    let plain = opened.as_ref().map_or(bytes, |opened| &opened.bytes);
    let is_json = media == "application/json" || media == "text/json" || media.ends_with("+json");
    let part = match media {
        _ if is_json && is_cut => hidden(bytes, "only the beginning of its JSON is here", redactor),
        _ if is_json => json(plain, redactor).unwrap_or_else(|| hidden(bytes, "it is no JSON", redactor)),
        "application/x-www-form-urlencoded" => form(plain, is_cut, redactor),
        "" => hidden(bytes, "of no declared type", redactor),
        media => hidden(bytes, media, redactor),
    };
    Part {
        bytes: bytes.len(),
        ..part
    }
}

fn hidden(bytes: &[u8], why: &str, redactor: &Redactor) -> Part {
    Part {
        format: "hidden",
        note: format!("not shown ({why}), {}", redactor.hashed(bytes)),
        bytes: bytes.len(),
        ..Part::default()
    }
}

fn json(bytes: &[u8], redactor: &Redactor) -> Option<Part> {
    let mut value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    redactor.document(&mut value);
    Some(Part {
        format: "json",
        text: value.to_string(),
        ..Part::default()
    })
}

/// Names and values of a form; not decoded, so that nothing is misread. What is none may be declared as one: curl does so with any text.
fn form(bytes: &[u8], is_cut: bool, redactor: &Redactor) -> Part {
    let text = match std::str::from_utf8(bytes.trim_ascii()) {
        Ok(text) if text.starts_with(['{', '[']) => {
            let shown = json(bytes, redactor).map(|part| Part {
                note: "declared as a form".to_owned(),
                ..part
            });
            return shown.unwrap_or_else(|| hidden(bytes, "it is no form", redactor));
        }
        Ok(text) if !text.contains(is_of_no_form) => text,
        _ => return hidden(bytes, "it is no form", redactor),
    };
    let mut pairs = text.split('&').filter(|pair| !pair.is_empty()).peekable();
    let each = std::iter::from_fn(|| Some((pairs.next()?, pairs.peek().is_none())));
    let shown = each.map(|(pair, is_last)| match pair.split_once('=') {
        // The last of what is cut is not whole.
        Some((name, value)) if name.len() <= LONGEST_NAME && !(is_cut && is_last) => redactor.pair(name, value),
        // What has no name, nobody can judge.
        _ => redactor.hashed(pair.as_bytes()),
    });
    let shown: Vec<String> = shown.collect();
    let pairs = shown.iter().map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let pairs: Vec<serde_json::Value> = pairs.map(|(name, value)| serde_json::json!({ name: value })).collect();
    Part {
        format: "form",
        text: serde_json::Value::Array(pairs).to_string(),
        wire: shown.join("&").into_bytes(),
        ..Part::default()
    }
}

/// Whether a form has this nowhere, however carelessly it was written by hand.
fn is_of_no_form(letter: char) -> bool {
    letter.is_control() || letter.is_whitespace() || matches!(letter, '"' | '{' | '}' | '<' | '>' | '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form_of(form: &str, is_cut: bool) -> Part {
        let redactor = Redactor::new(&[7; 32], []);
        let media = "application/x-www-form-urlencoded";
        document(form.as_bytes(), media, Some(Encoding::Identity), is_cut, &redactor)
    }

    #[test]
    fn forms_are_shown_without_secrets_and_what_is_none_is_not_shown() {
        let shown = |form: &str| {
            let part = form_of(form, false);
            let wire = String::from_utf8_lossy(&part.wire).into_owned();
            let all = [&part.text, &part.note, &wire];
            assert!(!all.iter().any(|text| text.contains("planted")), "{all:?}");
            (part.format, part.text)
        };
        let (_, text) = shown("user=ada&access_token=planted");
        assert!(text.starts_with(r#"[{"user":"ada"},{"access_token":"hash:"#), "{text}");
        for form in [
            "user=ada&user%5Bpassword%5D=planted",
            "user=ada&p%61ssword=planted",
            "user=ada&payload=%7B%22password%22%3A%22planted%22%7D",
            "user=ada&planted",
            "user=ada&to=https%3A%2F%2Fh%2F%3Ftoken%3Dplanted\r\n",
        ] {
            let (format, text) = shown(form);
            assert!(
                format == "form" && text.contains(r#"{"user":"ada"}"#) && text.contains("hash:"),
                "{text}"
            );
        }
        // What curl sends where nobody says otherwise.
        let (format, text) = shown(r#"{"payer":"ada=&x","password":"planted","nested":{"apiKey":"planted"}}"#);
        assert!(format == "json" && text.contains(r#""payer":"ada=&x""#), "{text}");
        for none in [
            "{\"password\":\"planted",
            "password is planted",
            "<password>planted</password>",
        ] {
            assert_eq!(shown(none), ("hidden", String::new()), "{none}");
        }
    }

    #[test]
    fn the_end_of_a_form_that_is_cut_is_not_shown() {
        let part = form_of("user=ada&note=planted", true);
        assert!(
            part.text.contains(r#"{"user":"ada"}"#) && !part.text.contains("planted"),
            "{}",
            part.text
        );
        assert!(form_of("user=ada&note=fine", false).text.contains("fine"));
    }
}
