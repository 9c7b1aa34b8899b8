//! Calls by tonic, which needs no generated code for it.

use bytes::{Buf, BufMut};
use tally_proto::Message;
use tally_proto::errors::bad_request::FieldViolation;
use tally_proto::errors::{BadRequest, ErrorInfo, RequestInfo, Status as RichStatus};
use tally_proto::tally::v1::Event;
use tokio_stream::Stream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{AsciiMetadataKey, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// A connection, and what every call sends with it.
pub struct Grpc {
    channel: Channel,
    metadata: MetadataMap,
}

impl Grpc {
    pub async fn connect(listen: &str) -> Self {
        let channel = Endpoint::new(format!("http://{listen}")).unwrap().connect().await.unwrap();
        Self { channel, metadata: MetadataMap::new() }
    }

    /// The same connection with these headers.
    pub fn with(&self, headers: &[(&'static str, &str)]) -> Self {
        let mut metadata = MetadataMap::new();
        for (name, value) in headers {
            metadata.insert(AsciiMetadataKey::from_static(name), value.parse().unwrap());
        }
        Self { channel: self.channel.clone(), metadata }
    }

    pub async fn unary<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut client = self.ready().await;
        let mut request = Request::new(request);
        *request.metadata_mut() = self.metadata.clone();
        let codec = ProstCodec::<Q, A>::default();
        Ok(client.unary(request, path.parse().unwrap(), codec).await?.into_inner())
    }

    /// A call with one encoded message, whose response is only a success or a failure.
    pub async fn encoded(&mut self, path: &'static str, message: Vec<u8>) -> Result<(), Status> {
        let mut client = self.ready().await;
        let request = Request::new(tokio_stream::once(message));
        let mut responses = client.streaming(request, path.parse().unwrap(), Encoded).await?.into_inner();
        responses.message().await.map(drop)
    }

    pub async fn stream<Q, A>(
        &mut self,
        path: &'static str,
        requests: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut client = self.ready().await;
        let mut request = Request::new(requests);
        *request.metadata_mut() = self.metadata.clone();
        let codec = ProstCodec::<Q, A>::default();
        Ok(client.streaming(request, path.parse().unwrap(), codec).await?.into_inner())
    }

    async fn ready(&self) -> tonic::client::Grpc<Channel> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        client
    }
}

/// Messages that are encoded already, and responses that are not read.
struct Encoded;

impl Codec for Encoded {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Encoded {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        message.advance(message.remaining());
        Ok(Some(()))
    }
}

/// The details of a status.
#[derive(Debug, Default)]
pub struct Details {
    pub info: ErrorInfo,
    pub request_id: String,
    pub violations: Vec<FieldViolation>,
}

impl Details {
    pub fn of(status: &Status) -> Self {
        let rich = RichStatus::decode(status.details()).unwrap();
        assert_eq!((rich.code, rich.message.as_str()), (status.code() as i32, status.message()));
        let mut details = Self::default();
        for any in rich.details {
            match any.type_url.strip_prefix("type.googleapis.com/google.rpc.").unwrap() {
                "ErrorInfo" => details.info = ErrorInfo::decode(&*any.value).unwrap(),
                "RequestInfo" => details.request_id = RequestInfo::decode(&*any.value).unwrap().request_id,
                "BadRequest" => details.violations = BadRequest::decode(&*any.value).unwrap().field_violations,
                _ => {}
            }
        }
        details
    }
}

pub fn event(id: &str, event_type: &str, actor: &str) -> Event {
    event_of(id, event_type, actor, "a:1")
}

pub fn event_of(id: &str, event_type: &str, actor: &str, subject: &str) -> Event {
    Event {
        event_id: id.to_owned(),
        r#type: event_type.to_owned(),
        actor_id: Some(actor.to_owned()),
        subject_id: subject.to_owned(),
        ..Event::default()
    }
}
