//! The messages of the gRPC API, generated from the files in `proto/`. `UPDATE_PROTO=1 cargo test -p tally-proto`
//! generates them after a change; builds use what is checked in, and need no compiler for protobuf.
//!
//! It knows no transport: framing, errors, health and reflection are in `tally-http`, the handlers in `tally-ingest` and
//! `tally-api`.

mod json;

/// The services of tally.
pub mod tally {
    /// Version 1.
    #[allow(missing_docs, clippy::all)]
    pub mod v1 {
        include!("generated/tally.v1.rs");
    }
}

/// What gRPC itself defines.
pub mod grpc {
    /// `grpc.health.v1`.
    #[allow(missing_docs, clippy::all)]
    pub mod health {
        include!("generated/grpc.health.v1.rs");
    }

    /// `grpc.reflection.v1`.
    #[allow(missing_docs, clippy::all)]
    pub mod reflection {
        include!("generated/grpc.reflection.v1.rs");
    }
}

/// Details of errors: `google.rpc`.
#[allow(missing_docs, clippy::all)]
pub mod errors {
    include!("generated/google.rpc.rs");
}

/// The descriptors of all services with everything that they import: a serialized `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

pub use prost::{DecodeError, Message};
