//! A JWKS by its address: `https`, or `http` on this machine.

use bytes::Bytes;
use hyper::header::{ACCEPT, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use std::time::Duration;
use tally_http::{ClientError, ClientLimits, HttpClient};

/// How long a fetch may take, from the name to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A longer document is something else.
const BYTES_MAX: usize = 1 << 20;
const LIMITS: ClientLimits = ClientLimits { connect: None, exchange: TIMEOUT, body_bytes_max: BYTES_MAX };

/// Where a JWKS is published.
#[derive(Clone)]
pub struct JwksUrl {
    uri: Uri,
    client: HttpClient,
}

/// An address that is not fetched.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct JwksUrlError(String);

/// Why there is no document.
#[derive(Debug, PartialEq)]
pub(crate) struct FetchError {
    pub(crate) text: String,
    /// Whether it may be another time.
    pub(crate) heals: bool,
}

impl FetchError {
    fn passing(what: impl std::fmt::Display) -> Self {
        Self { text: what.to_string(), heals: true }
    }

    pub(crate) fn lasting(what: impl std::fmt::Display) -> Self {
        Self { text: what.to_string(), heals: false }
    }
}

impl JwksUrl {
    /// Whether a text is an address, and no file.
    pub fn is_url(text: &str) -> bool {
        ["http://", "https://"]
            .iter()
            .any(|scheme| text.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme)))
    }

    /// Reads an address. `ca` has the CA certificates in PEM that sign the server's certificate, instead of those that
    /// the world trusts. Blocks.
    pub fn parse(text: &str, ca: Option<&Path>) -> Result<Self, JwksUrlError> {
        let wrong = |why: &str| JwksUrlError(why.to_owned());
        let uri: Uri = text.parse().map_err(|_| wrong("is not a URL"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong("is not a URL"));
        };
        if authority.as_str().contains('@') {
            return Err(wrong("user and password are not sent: a JWKS is public"));
        }
        if text.contains('#') {
            return Err(wrong("a fragment (`#…`) is not allowed"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong("has no host"));
        }
        let is_tls = scheme.eq_ignore_ascii_case("https");
        if !is_tls && !is_this_machine(&host) {
            return Err(wrong(
                "without TLS a third party could substitute its own keys: use https, or http on 127.0.0.1, ::1 or localhost",
            ));
        }
        if !is_tls && ca.is_some() {
            return Err(wrong("a file of certificates needs an https URL"));
        }
        let roots = if is_tls { roots(ca)? } else { RootCertStore::empty() };
        let client = HttpClient::with_tls(roots, LIMITS).map_err(|error| JwksUrlError(error.to_string()))?;
        Ok(Self { uri, client })
    }

    /// Fetches the document.
    pub(crate) async fn fetch(&self) -> Result<String, FetchError> {
        let request = Request::get(self.uri.clone())
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, concat!("tally/", env!("CARGO_PKG_VERSION")))
            .body(Bytes::new())
            .map_err(FetchError::lasting)?;
        let response = self.client.send(request).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let text = format!("the response has status {status}; 200 is expected, and redirects are not followed");
            let heals = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            return Err(FetchError { text, heals });
        }
        let body = response.into_body();
        let body =
            body.map_err(|error| FetchError::passing(format!("the body: {error}; at most {BYTES_MAX} bytes")))?;
        String::from_utf8(body.into()).map_err(|_| FetchError::lasting("the body is no UTF-8"))
    }
}

impl From<ClientError> for FetchError {
    fn from(error: ClientError) -> Self {
        match (error.distrust(), &error) {
            (Some(cause), _) => Self { text: cause.to_string(), heals: cause.may_pass() },
            (None, ClientError::Late) => Self::passing(format!("no answer within {} s", TIMEOUT.as_secs())),
            (None, ClientError::Exchange(_)) => Self::passing(error.root_cause()),
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    let is_loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    is_loopback || host.eq_ignore_ascii_case("localhost")
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, JwksUrlError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let wrong = |why: String| JwksUrlError(format!("the certificates in {}: {why}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))? {
                let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
                roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("the file has no PEM certificate".to_owned()));
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    Ok(roots)
}
