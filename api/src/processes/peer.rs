//! Another process: where its metrics are, and what came of asking for them.

use super::ProcessItem;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use std::time::Duration;
use tally_http::{ClientError, ClientLimits, HttpClient, causes};

/// How long a process may take: the console looks every 2 s.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Metrics are some 100 KiB; more is something else.
const ANSWER_BYTES_MAX: usize = 8 << 20;
const LIMITS: ClientLimits = ClientLimits { connect: None, exchange: PATIENCE, body_bytes_max: ANSWER_BYTES_MAX };
/// Every process of ours has metrics that begin so.
const OURS: &str = "tally_";

/// Another process.
pub struct Peer {
    /// As it was given.
    address: String,
    metrics: Uri,
    authorization: Option<HeaderValue>,
    client: HttpClient,
}

/// Why there is no such process.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PeerError {
    /// The address is none.
    #[error("{0}: needs the form http://host:port")]
    Address(String),
    /// The key is none.
    #[error("the key contains characters that a header cannot carry")]
    Key,
}

impl Peer {
    /// `address` is `http://host:port`, perhaps with a path in front of `/metrics`; `key` may read its metrics.
    pub fn new(address: &str, key: Option<&str>) -> Result<Self, PeerError> {
        // What may hold a password is not shown.
        let wrong = || PeerError::Address(if address.contains('@') { "…".to_owned() } else { address.to_owned() });
        let base = address.trim_end_matches('/');
        // Otherwise the path would be taken for the host.
        if !base.starts_with("http://") || base.len() <= "http://".len() {
            return Err(wrong());
        }
        let metrics: Uri = format!("{base}/metrics").parse().map_err(|_| wrong())?;
        // The address is shown, so it holds no user and no password.
        let is_plain = metrics.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        if metrics.host().is_none_or(str::is_empty) || metrics.query().is_some() || !is_plain {
            return Err(wrong());
        }
        let authorization = key.map(|key| HeaderValue::try_from(format!("Bearer {key}")));
        let mut authorization = authorization.transpose().map_err(|_| PeerError::Key)?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Self { address: address.to_owned(), metrics, authorization, client: HttpClient::plain(LIMITS) })
    }

    /// Its metrics now.
    pub async fn look(&self) -> ProcessItem {
        let (metrics, error) = match self.ask().await {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(error)),
        };
        ProcessItem { address: Some(self.address.clone()), metrics, error }
    }

    async fn ask(&self) -> Result<String, String> {
        let mut request = Request::get(self.metrics.clone());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Bytes::new()).map_err(|error| error.to_string())?;
        let response = self.client.send(request).await.map_err(|error| match error {
            ClientError::Late => format!("did not respond within {PATIENCE:?}"),
            ClientError::Exchange(error) => causes(&error),
        })?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let status = response.status().as_u16();
                return Err(format!("responds with {status}: pass a key that may read its metrics with --peer-key"));
            }
            status => return Err(format!("responds with {}", status.as_u16())),
        }
        let body = response.into_body().map_err(|error| causes(&*error))?;
        let text = String::from_utf8(body.into()).unwrap_or_default();
        match text.lines().any(|line| line.starts_with(OURS)) {
            true => Ok(text),
            false => Err("is not a tally process: its /metrics has no tally metrics".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_plain_http_without_a_password() {
        for (address, metrics) in [
            ("http://127.0.0.1:8081", "http://127.0.0.1:8081/metrics"),
            ("http://process-1:8081/", "http://process-1:8081/metrics"),
            ("http://[::1]:80/tally", "http://[::1]:80/tally/metrics"),
        ] {
            assert_eq!(Peer::new(address, Some("tally_x")).unwrap().metrics.to_string(), metrics);
        }
        for address in ["", "process-1:8081", "https://x", "http://", "http://a b", "http://x?y=1"] {
            assert_eq!(Peer::new(address, None).err(), Some(PeerError::Address(address.into())), "{address}");
        }
        assert_eq!(Peer::new("http://u:p@x", None).err(), Some(PeerError::Address("…".into())));
        assert_eq!(Peer::new("http://x", Some("a\nb")).err(), Some(PeerError::Key));
    }
}
