//! Reads what a proxy's `/metrics` says: Prometheus text into samples, samples into [`Traffic`]. Pure: whoever calls it brings
//! the text. `demo` and `check` use it.

mod traffic;

use std::borrow::Cow;

pub(crate) use traffic::{Direction, Traffic};

/// One value of one series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample<'a> {
    /// Name of the series, as `response_total` or `response_latency_ms_bucket`.
    pub(crate) name: &'a str,
    labels: Vec<(&'a str, Cow<'a, str>)>,
    /// The value; may be infinite or not a number.
    pub(crate) value: f64,
}

impl Sample<'_> {
    /// Value of a label; empty where the series has none of that name, which to Prometheus is the same.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels
            .iter()
            .find(|(label, _)| *label == name)
            .map_or("", |(_, value)| value)
    }
}

/// Text that is no Prometheus exposition.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("line {line} of the metrics cannot be read: {reason}")]
pub(crate) struct ScrapeError {
    /// 1-based.
    line: usize,
    reason: &'static str,
}

/// All samples of a Prometheus or OpenMetrics text, in their order. Timestamps and exemplars are left out.
pub(crate) fn parse(text: &str) -> Result<Vec<Sample<'_>>, ScrapeError> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(i, line)| sample(line).map_err(|reason| ScrapeError { line: i + 1, reason }))
        .collect()
}

fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let name_end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(line.len());
    let (name, mut rest) = line.split_at(name_end);
    if name.is_empty() {
        return Err("a series has no name");
    }
    let mut labels = Vec::new();
    if let Some(after) = rest.strip_prefix('{') {
        rest = after.trim_start();
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").ok_or("a label has no value in quotes")?;
            let (value, after) = quoted(after)?;
            labels.push((label.trim(), value));
            rest = after.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
            if rest.is_empty() {
                return Err("the labels do not end");
            }
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next().ok_or("a series has no value")?;
    let value = value.parse().map_err(|_| "a value is no number")?; // takes +Inf and NaN as Prometheus writes them
    Ok(Sample { name, labels, value })
}

/// The text up to the closing quote with its escapes undone, and what follows the quote.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let end = text.find(['"', '\\']).ok_or("a label's value does not end")?;
    if text[end..].starts_with('"') {
        return Ok((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = text[..end].to_owned();
    let mut chars = text[end..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Cow::Owned(value), &text[end + at + 1..])),
            '\\' => match chars.next().ok_or("a label's value does not end")?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            c => value.push(c),
        }
    }
    Err("a label's value does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_with_labels_escapes_and_special_values() {
        let text = "# HELP up Whether it is up.\n# TYPE up gauge\nup 1\n\
            a_total{direction=\"inbound\",path=\"a\\\\b\\\"c\\nd\",} 2.5e3 1700000000\n\
            b_bucket{le=\"+Inf\"} +Inf # {trace=\"x\"} 1\n\n# EOF\n";
        let samples = parse(text).unwrap();
        assert_eq!(samples.len(), 3);
        assert_eq!((samples[0].name, samples[0].value), ("up", 1.0));
        assert_eq!(samples[1].label("path"), "a\\b\"c\nd");
        assert_eq!(samples[1].label("absent"), "");
        assert_eq!(samples[1].value, 2500.0);
        assert_eq!((samples[2].label("le"), samples[2].value), ("+Inf", f64::INFINITY));
    }

    #[test]
    fn what_is_no_metrics_is_an_error_with_its_line() {
        for (text, line) in [
            ("up one", 1),
            ("up 1\na{b=\"c} 1", 2),
            ("a{b} 1", 1),
            ("a{b=\"c\"", 1),
            ("<html>", 1),
            ("up", 1),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text}");
        }
    }
}
