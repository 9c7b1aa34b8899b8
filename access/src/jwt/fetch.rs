//! A JWKS by its address: `https`, or `http` on this machine.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::rt::{Read, Write};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a fetch may take, from the name to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A longer document is something else.
const BYTES_MAX: usize = 1 << 20;

/// Where a JWKS is published.
#[derive(Clone)]
pub struct JwksUrl {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
}

/// An address that is not asked.
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

    /// Reads an address. `ca` has the certificates, in PEM, of who vouches for the server, instead of those that the world
    /// trusts. Blocks.
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
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tls = if is_tls { Some(connector(ca)?) } else { None };
        Ok(Self { uri, host, port, tls })
    }

    /// Fetches the document.
    pub(crate) async fn fetch(&self) -> Result<String, FetchError> {
        let late = |_| FetchError::passing(format!("no answer within {} s", TIMEOUT.as_secs()));
        tokio::time::timeout(TIMEOUT, self.ask()).await.map_err(late)?
    }

    async fn ask(&self) -> Result<String, FetchError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(FetchError::passing)?;
        let is_remote = stream.peer_addr().is_ok_and(|peer| !peer.ip().to_canonical().is_loopback());
        match &self.tls {
            Some(connector) => {
                let name = ServerName::try_from(self.host.clone()).map_err(FetchError::lasting)?;
                let stream = connector.connect(name, stream).await.map_err(|error| {
                    // A certificate does not become another's by waiting.
                    let heals = error.get_ref().is_none_or(|cause| !cause.is::<rustls::Error>());
                    FetchError { text: format!("TLS: {error}"), heals }
                })?;
                self.exchange(TokioIo::new(stream)).await
            }
            None if is_remote => Err(FetchError::lasting(format!("`{}` is not this machine: use https", self.host))),
            None => self.exchange(TokioIo::new(stream)).await,
        }
    }

    async fn exchange<T: Read + Write + Unpin + Send + 'static>(&self, io: T) -> Result<String, FetchError> {
        let (mut sender, connection) = http1::handshake(io).await.map_err(FetchError::passing)?;
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(HOST, self.uri.authority().map_or("", |authority| authority.as_str()))
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, concat!("tally/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(FetchError::lasting)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(FetchError::passing)?;
            let status = response.status();
            if status != StatusCode::OK {
                let text = format!("the response has status {status}; 200 is expected, and redirects are not followed");
                let heals = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                return Err(FetchError { text, heals });
            }
            let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
            let body =
                body.map_err(|error| FetchError::passing(format!("the body: {error}; at most {BYTES_MAX} bytes")))?;
            String::from_utf8(body.to_bytes().into()).map_err(|_| FetchError::lasting("the body is no UTF-8"))
        };
        // Either ends both: without the connection nothing comes, and without the request nobody needs it.
        tokio::pin!(connection, answer);
        tokio::select! {
            outcome = &mut answer => outcome,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(FetchError::passing(error)),
            },
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    let is_loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    is_loopback || host.eq_ignore_ascii_case("localhost")
}

fn connector(ca: Option<&Path>) -> Result<TlsConnector, JwksUrlError> {
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
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| JwksUrlError(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
