//! What every HTTP surface of tally shares: the accept loop that no slow client can hold, errors as
//! `application/problem+json`, metrics per route, request ids, and who is calling. Also the
//! client that calls other servers.
//!
//! A surface builds a [`axum::Router`], [`Edge::wrap`]s it and hands it to [`Server::serve`].

mod bare_answer;
mod body;
mod causes;
mod client;
mod client_stream;
mod coding;
mod connection;
mod edge;
mod etag;
mod files;
#[cfg(feature = "grpc")]
pub mod grpc;
mod head_timer;
#[cfg_attr(not(feature = "grpc"), path = "without_http2.rs")]
mod http2;
mod media;
mod observe;
mod page;
mod peer;
mod probes;
mod problem;
mod request_id;
mod server;
mod well_formed;

pub use body::read_body;
pub use causes::causes;
pub use client::{ClientError, ClientLimits, HttpClient, ServerError};
pub use edge::Edge;
pub use etag::names_tag;
pub use files::{OwnPath, PageFiles, PageFilesError};
pub use media::{MediaType, MediaTypeError};
pub use page::{metrics_page, openapi_page};
pub use peer::{TrustedProxies, TrustedProxyError, peer_of};
pub use probes::{Check, probes};
pub use problem::ApiProblem;
pub use request_id::{REQUEST_ID_HEADER, RequestId};
pub use server::{Server, ServerConfig, Stopped};
