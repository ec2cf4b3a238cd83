//! The settings for people: `docs/settings.md`.

use std::fmt::Write as _;

use super::table::{self, Fallback};

/// `docs/settings.md`, whole. A test holds the file to it.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    for (section, rows) in table::sections() {
        let _ = writeln!(
            page,
            "\n## {section}\n\n| setting | default | allowed | |\n|---|---|---|---|"
        );
        for row in rows {
            let default = match row.default {
                Fallback::Required => "**required**".to_owned(),
                Fallback::Value("") => "empty".to_owned(),
                Fallback::Value(value) => format!("`{value}`"),
                Fallback::Absent(why) => why.to_owned(),
            };
            let _ = writeln!(page, "| `{}` | {default} | {} | {} |", row.name, row.allowed, row.help);
        }
    }
    page.push_str(
        "\n## Accepted without effect\n\nWhat a linkerd2-proxy also knows, so that a manifest moves over as it is.\n\n",
    );
    page.push_str("| setting | why |\n|---|---|\n");
    for (name, why) in table::NOT_HONOURED {
        let _ = writeln!(page, "| `{name}` | {why} |");
    }
    page
}

const INTRODUCTION: &str = "\
# Settings of sheer-proxy

Settings are environment variables: `SHEER_PROXY_` and the name below. Each is also read under Linkerd's prefix, `LINKERD2_PROXY_`, so that
the proxy is a drop-in; where both are set and differ, `SHEER_PROXY_` holds and the log says so. All mistakes are reported at once and the
exit code is 64. A name under `SHEER_PROXY_` that is not below is a mistake; one under `LINKERD2_PROXY_` is not.

This page is made from the table that the proxy reads with: `UPDATE_DOCS=1 cargo test -p sheer-proxy --lib settings` writes it.
";
