//! Files of a built page. They are read once, at the start: other files cannot be requested, whatever the path.

use crate::etag::names_tag;
use axum::Router;
use axum::body::Body;
use axum::extract::Path as PathParameter;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// A directory with more than this is not a built page.
const SIZE_BYTES_MAX: u64 = 64 << 20;
/// How deep folders go.
const DEPTH_MAX: usize = 4;
/// The folder of the build's files with a hash in their names.
const HASHED: &str = "assets/";
/// The page loads only its own files and connects only to its own server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files of a built page, by their path below its directory.
#[derive(Clone, Debug)]
pub struct PageFiles(Arc<BTreeMap<String, PageFile>>);

#[derive(Debug)]
struct PageFile {
    bytes: Bytes,
    content_type: &'static str,
    cache_control: &'static str,
    /// Quoted, as the header has it.
    etag: String,
}

/// A path that the page interprets itself, with one parameter; and the check whether the parameter is valid.
pub type OwnPath = (&'static str, fn(&str) -> bool);

/// Why a directory has no built page.
#[derive(Debug, thiserror::Error)]
pub enum PageFilesError {
    /// It cannot be read.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// It has no `index.html`.
    #[error("{0} has no index.html: build the page, or name the directory that has it")]
    NoIndex(PathBuf),
    /// It has far too much in it.
    #[error("{0} holds more than 64 MiB: this is not a built page")]
    TooLarge(PathBuf),
}

impl PageFiles {
    /// Reads a directory. What begins with a dot, and symbolic links, are left out.
    pub fn read(directory: &Path) -> Result<Self, PageFilesError> {
        let mut files = BTreeMap::new();
        let mut left_bytes = SIZE_BYTES_MAX;
        let mut folders = vec![(directory.to_owned(), String::new(), 0)];
        while let Some((folder, prefix, depth)) = folders.pop() {
            let failed = |e| PageFilesError::Io(folder.clone(), e);
            for entry in std::fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let kind = entry.file_type().map_err(failed)?;
                let Some(name) = entry.file_name().to_str().filter(|name| !name.starts_with('.')).map(str::to_owned)
                else {
                    continue;
                };
                if kind.is_dir() && depth < DEPTH_MAX {
                    folders.push((entry.path(), format!("{prefix}{name}/"), depth + 1));
                } else if kind.is_file() {
                    let length = entry.metadata().map_err(failed)?.len();
                    left_bytes =
                        left_bytes.checked_sub(length).ok_or_else(|| PageFilesError::TooLarge(directory.to_owned()))?;
                    let bytes = std::fs::read(entry.path()).map_err(|e| PageFilesError::Io(entry.path(), e))?;
                    files.insert(format!("{prefix}{name}"), PageFile::new(&prefix, &name, bytes));
                }
            }
        }
        if !files.contains_key("index.html") {
            return Err(PageFilesError::NoIndex(directory.to_owned()));
        }
        Ok(Self(Arc::new(files)))
    }

    /// The page at `/` and at its own paths, the console at `/console/`, and every file at its place. Where there can be
    /// no such thing, the page comes with status 404.
    pub fn router(&self, own_paths: &[OwnPath]) -> Router {
        let mut router = Router::new()
            .route("/", self.one("index.html"))
            .route("/console/", self.one("console/index.html"))
            .route("/console", get(async || Redirect::permanent("/console/")));
        for (path, can_be) in own_paths.iter().copied() {
            let files = self.clone();
            let page = async move |PathParameter(name): PathParameter<String>, headers: HeaderMap| match can_be(&name) {
                true => files.answer("index.html", &headers),
                false => files.missing(),
            };
            router = router.route(path, get(page));
        }
        let files = self.clone();
        let asset = async move |PathParameter(name): PathParameter<String>, headers: HeaderMap| {
            files.answer(&format!("{HASHED}{name}"), &headers)
        };
        router = router.route("/assets/{file}", get(asset));
        // Icons and the like. A name that the router would read as a pattern is no file of a page.
        let is_plain = |path: &&String| !path.contains(['/', '{', '}', ':', '*']) && !path.ends_with(".html");
        for path in self.0.keys().filter(is_plain) {
            router = router.route(&format!("/{path}"), self.one(path));
        }
        router
    }

    fn one<S: Clone + Send + Sync + 'static>(&self, path: &str) -> axum::routing::MethodRouter<S> {
        let (files, path) = (self.clone(), path.to_owned());
        get(async move |headers: HeaderMap| files.answer(&path, &headers))
    }

    fn answer(&self, path: &str, headers: &HeaderMap) -> Response {
        let Some(file) = self.0.get(path) else {
            return crate::ApiProblem::not_found("No such file.").into_response();
        };
        let known = headers.get(header::IF_NONE_MATCH).is_some_and(|listed| names_tag(listed, &file.etag));
        let (status, body) =
            if known { (StatusCode::NOT_MODIFIED, Body::empty()) } else { (StatusCode::OK, file.bytes.clone().into()) };
        let headers: [(HeaderName, &str); 6] = [
            (header::CONTENT_TYPE, file.content_type),
            (header::CACHE_CONTROL, file.cache_control),
            (header::ETAG, &file.etag),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "same-origin"),
        ];
        (status, headers.map(|(name, value)| (name, value.to_owned())), body).into_response()
    }

    /// The page for an unknown path.
    fn missing(&self) -> Response {
        let mut response = self.answer("index.html", &HeaderMap::new());
        *response.status_mut() = StatusCode::NOT_FOUND;
        response.headers_mut().remove(header::ETAG);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl PageFile {
    fn new(prefix: &str, name: &str, bytes: Vec<u8>) -> Self {
        let cache_control = match prefix == HASHED {
            true => "public, max-age=31536000, immutable",
            false => "no-cache",
        };
        let etag = format!("\"{:032x}\"", xxh3_128(&bytes));
        Self { bytes: bytes.into(), content_type: content_type(name), cache_control, etag }
    }
}

/// By the extension of the name; browsers must not guess (`nosniff`).
fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
