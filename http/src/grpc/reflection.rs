//! `grpc.reflection.v1`: the services and their messages, for clients without `.proto` files.

use super::message::Messages;
use super::reply::reply_stream;
use crate::problem::ApiProblem;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_proto::grpc::reflection::server_reflection_request::MessageRequest;
use tally_proto::grpc::reflection::server_reflection_response::MessageResponse;
use tally_proto::grpc::reflection::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest,
    ServerReflectionResponse, ServiceResponse,
};
use tally_proto::{DESCRIPTORS, DecodeError, Message};
use tokio_util::sync::CancellationToken;

const REQUEST_BYTES_MAX: usize = 4 << 10;
/// `NOT_FOUND`.
const NOT_FOUND: i32 = 5;
/// `INVALID_ARGUMENT`.
const INVALID_ARGUMENT: i32 = 3;

/// The descriptors of this build cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the descriptors of the gRPC services are damaged: {0}")]
pub struct DescriptorError(#[from] DecodeError);

/// What can be asked for.
struct Described {
    services: Vec<&'static str>,
    files: BTreeMap<String, FileDescriptorProto>,
    /// By symbol, the name of its file.
    symbols: BTreeMap<String, String>,
    stopping: CancellationToken,
}

/// Describes `services`, which the process serves. `stopping` ends calls.
pub fn reflection(services: Vec<&'static str>, stopping: CancellationToken) -> Result<Router, DescriptorError> {
    let set = FileDescriptorSet::decode(DESCRIPTORS)?;
    let described = Arc::new(Described::new(services, set, stopping));
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    Ok(Router::new().route(path, post(info)).with_state(described))
}

async fn info(State(described): State<Arc<Described>>, request: Request) -> Result<Response, ApiProblem> {
    let (parts, body) = request.into_parts();
    let mut messages = Messages::of(&parts.headers, body, REQUEST_BYTES_MAX)?;
    Ok(reply_stream(&parts.extensions, async move |replies| {
        loop {
            let request = tokio::select! {
                request = messages.next::<ServerReflectionRequest>(|_| Ok(())) => request?,
                () = replies.left() => return Ok(()),
                () = described.stopping.cancelled() => {
                    return Err(ApiProblem::shutting_down());
                }
            };
            let Some(request) = request else { return Ok(()) };
            if replies.send(&described.answer(request)).await.is_err() {
                return Ok(());
            }
        }
    }))
}

impl Described {
    fn new(services: Vec<&'static str>, set: FileDescriptorSet, stopping: CancellationToken) -> Self {
        let mut symbols = BTreeMap::new();
        for file in &set.file {
            let mut found = Vec::new();
            let package = file.package();
            file.message_type.iter().for_each(|message| message_symbols(package, message, &mut found));
            found.extend(file.enum_type.iter().map(|values| format!("{package}.{}", values.name())));
            for service in &file.service {
                let name = format!("{package}.{}", service.name());
                found.extend(service.method.iter().map(|method| format!("{name}.{}", method.name())));
                found.push(name);
            }
            symbols.extend(found.into_iter().map(|symbol| (symbol, file.name().to_owned())));
        }
        let files = set.file.into_iter().map(|file| (file.name().to_owned(), file)).collect();
        Self { services, files, symbols, stopping }
    }

    fn answer(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let response = match &request.message_request {
            Some(MessageRequest::ListServices(_)) => {
                let service = self.services.iter().map(|name| ServiceResponse { name: (*name).to_owned() }).collect();
                MessageResponse::ListServicesResponse(ListServiceResponse { service })
            }
            Some(MessageRequest::FileByFilename(name)) => self.file(name),
            Some(MessageRequest::FileContainingSymbol(symbol)) => match self.symbols.get(symbol) {
                Some(file) => self.file(file),
                None => refused(NOT_FOUND, format!("no symbol `{symbol}`")),
            },
            Some(MessageRequest::AllExtensionNumbersOfType(name)) if self.symbols.contains_key(name) => {
                let base_type_name = name.clone();
                let extension_number = Vec::new();
                let numbers = ExtensionNumberResponse { base_type_name, extension_number };
                MessageResponse::AllExtensionNumbersResponse(numbers)
            }
            Some(MessageRequest::AllExtensionNumbersOfType(name)) => refused(NOT_FOUND, format!("no type `{name}`")),
            Some(MessageRequest::FileContainingExtension(_)) => refused(NOT_FOUND, "no extensions".to_owned()),
            None => refused(INVALID_ARGUMENT, "`message_request` is missing".to_owned()),
        };
        let valid_host = request.host.clone();
        ServerReflectionResponse { valid_host, original_request: Some(request), message_response: Some(response) }
    }

    /// A file with everything that it imports.
    fn file(&self, name: &str) -> MessageResponse {
        let mut names = vec![name.to_owned()];
        let mut encoded = Vec::new();
        let mut at = 0;
        while let Some(name) = names.get(at) {
            let Some(file) = self.files.get(name) else { return refused(NOT_FOUND, format!("no file `{name}`")) };
            encoded.push(file.encode_to_vec().into());
            for import in &file.dependency {
                if !names.contains(import) {
                    names.push(import.clone());
                }
            }
            at += 1;
        }
        MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto: encoded })
    }
}

fn message_symbols(within: &str, message: &DescriptorProto, found: &mut Vec<String>) {
    let name = format!("{within}.{}", message.name());
    message.nested_type.iter().for_each(|nested| message_symbols(&name, nested, found));
    found.extend(message.enum_type.iter().map(|values| format!("{name}.{}", values.name())));
    found.push(name);
}

fn refused(error_code: i32, error_message: String) -> MessageResponse {
    MessageResponse::ErrorResponse(ErrorResponse { error_code, error_message })
}
