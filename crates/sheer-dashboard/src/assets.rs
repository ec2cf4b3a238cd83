//! The files of the page, which are within this program.

use std::path::PathBuf;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};

/// One file.
struct Asset {
    /// Below `assets/`.
    path: &'static str,
    /// Of these bytes.
    etag: &'static str,
    bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Where the files come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assets {
    /// Read anew for each request, for those who work on the page; within this program where absent.
    pub(crate) folder: Option<PathBuf>,
}

impl Assets {
    /// A file; nothing changed where the browser has it already.
    pub(crate) async fn file(&self, path: &str, asked: &HeaderMap) -> Response {
        let Some(asset) = FILES.iter().find(|asset| asset.path == path) else {
            return self.fresh(path).await;
        };
        if self.folder.is_some() {
            return self.fresh(path).await;
        }
        // Revalidated each time: over loopback that is free, and a new version is never half an old one.
        let fields = [(header::CACHE_CONTROL, "no-cache"), (header::ETAG, asset.etag)];
        let known = asked.get(header::IF_NONE_MATCH).and_then(|etag| etag.to_str().ok());
        if known.is_some_and(|known| known.split(',').any(|known| known.trim() == asset.etag)) {
            return (StatusCode::NOT_MODIFIED, fields).into_response();
        }
        let kind = [(header::CONTENT_TYPE, media_type(path))];
        (fields, kind, Body::from(asset.bytes)).into_response()
    }

    /// A file of the folder.
    async fn fresh(&self, path: &str) -> Response {
        let inside = path.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        let file = self.folder.as_ref().filter(|_| inside).map(|folder| folder.join(path));
        match file {
            Some(file) => match tokio::fs::read(file).await {
                Ok(bytes) => ([(header::CONTENT_TYPE, media_type(path))], bytes).into_response(),
                Err(_) => not_found(),
            },
            None => not_found(),
        }
    }
}

pub(crate) fn not_found() -> Response {
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (StatusCode::NOT_FOUND, plain, "There is no such page.\n").into_response()
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `index.html` and modules name must be there: without a build step nothing else would say so.
    #[test]
    fn every_file_that_another_names_is_there() {
        let mut named = 0;
        for asset in FILES.iter().filter(|asset| !asset.path.starts_with("vendor/")) {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            let folder = asset.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            for quoted in text
                .split(['"', '\''])
                .filter(|quoted| quoted.contains('.') && !quoted.contains(' '))
            {
                let Some(path) = resolve(folder, quoted) else { continue };
                named += 1;
                assert!(
                    FILES.iter().any(|asset| asset.path == path),
                    "{} names {path}",
                    asset.path
                );
            }
        }
        assert!(named > 40, "{named} names were found");
    }

    /// The path below `assets/` that a relative import or an absolute address means.
    fn resolve(folder: &str, quoted: &str) -> Option<String> {
        if let Some(path) = quoted.strip_prefix("/assets/") {
            return Some(path.to_owned());
        }
        if !quoted.starts_with("./") && !quoted.starts_with("../") {
            return None;
        }
        let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
        for part in quoted.split('/') {
            match part {
                "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        Some(parts.join("/"))
    }

    #[test]
    fn every_library_has_its_licence_beside_it() {
        let vendored = FILES.iter().filter(|asset| asset.path.starts_with("vendor/"));
        // Folders: `versions.txt` lies beside them.
        let folders = vendored.filter_map(|asset| asset.path.rsplit_once('/')?.0.split('/').nth(1));
        let mut libraries: Vec<&str> = folders.collect();
        libraries.dedup();
        assert!(libraries.len() >= 4, "{libraries:?}");
        for library in libraries {
            let licence = format!("vendor/{library}/LICENSE");
            assert!(FILES.iter().any(|asset| asset.path == licence), "{licence} lacks");
        }
    }

    #[tokio::test]
    async fn a_file_that_the_browser_has_is_not_sent_again() {
        let assets = Assets::default();
        let first = assets.file("index.html", &HeaderMap::new()).await;
        assert_eq!(first.status(), StatusCode::OK);
        let etag = first.headers()[header::ETAG].clone();
        let again = HeaderMap::from_iter([(header::IF_NONE_MATCH, etag)]);
        assert_eq!(
            assets.file("index.html", &again).await.status(),
            StatusCode::NOT_MODIFIED
        );
        for absent in ["../Cargo.toml", "no.js", ""] {
            assert_eq!(
                assets.file(absent, &HeaderMap::new()).await.status(),
                StatusCode::NOT_FOUND
            );
        }
    }
}
