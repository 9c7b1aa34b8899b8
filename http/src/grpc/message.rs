//! The messages of a request: each behind a flag and its length.

use super::call::{GRPC, is_protobuf};
use crate::body::too_large;
use crate::coding::Coding;
use crate::problem::ApiProblem;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use std::time::Duration;
use tally_proto::Message;
use tokio::time::{Instant, timeout, timeout_at};

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// The flag and the length in front of a message.
pub(super) const PREFIX_BYTES: usize = 5;
/// How long a message may take from its first byte to its last, and the message of a unary call from the head of the
/// request: as long as the body of other requests. What has arrived of it is kept in memory for so long.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The messages of a request, in order.
pub struct Messages {
    body: Body,
    /// What has arrived and was not taken.
    arrived: BytesMut,
    coding: Option<Coding>,
    bytes_max: usize,
    /// [`MESSAGE_TIMEOUT`], but for tests.
    message_timeout: Duration,
}

impl Messages {
    /// The messages of a body, each of at most `bytes_max` bytes, compressed or not.
    pub fn of(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Self, ApiProblem> {
        if !is_protobuf(headers) {
            let media = "The content-type is not that of gRPC with protobuf";
            return Err(ApiProblem::unsupported_media_type(media, &[GRPC, "application/grpc+proto"]));
        }
        let coding = match headers.get(ENCODING).map(|coding| coding.as_bytes()) {
            None | Some(b"identity") => None,
            Some(b"gzip") => Some(Coding::Gzip),
            Some(b"zstd") => Some(Coding::Zstd),
            Some(_) => {
                return Err(ApiProblem::unsupported_media_type(
                    "The `grpc-encoding` is not supported",
                    &["identity", "gzip", "zstd"],
                ));
            }
        };
        Ok(Self { body, arrived: BytesMut::new(), coding, bytes_max, message_timeout: MESSAGE_TIMEOUT })
    }

    /// The next message; None after the last. One that has begun and does not end is 408. `admit` is called with numbers of
    /// bytes before they are kept, received or decompressed, and may refuse them. Not to be called again after an error, or after its future was dropped.
    pub async fn next<M: Message + Default>(
        &mut self,
        mut admit: impl FnMut(usize) -> Result<(), ApiProblem>,
    ) -> Result<Option<M>, ApiProblem> {
        let Some(message) = self.next_bytes(&mut admit).await? else { return Ok(None) };
        // Out of a slice, which is read faster than shared bytes.
        let message = M::decode(&*message);
        message.map(Some).map_err(|error| ApiProblem::bad_request(format!("Not a message of this method: {error}.")))
    }

    async fn next_bytes(
        &mut self,
        admit: &mut impl FnMut(usize) -> Result<(), ApiProblem>,
    ) -> Result<Option<Bytes>, ApiProblem> {
        let mut deadline = None;
        loop {
            if let Some((flag, length)) = self.prefix() {
                if length > self.bytes_max {
                    return Err(too_large(self.bytes_max));
                }
                if self.arrived.len() >= PREFIX_BYTES + length {
                    self.arrived.advance(PREFIX_BYTES);
                    let message = self.arrived.split_to(length).freeze();
                    return self.decoded(flag, message, admit).map(Some);
                }
                // Room for the rest of the message at once, but in proportion to what has arrived: its length is only announced.
                let missing = PREFIX_BYTES + length - self.arrived.len();
                self.arrived.reserve(missing.min(8 * self.arrived.len()));
            }
            // A client may wait for as long as it likes before it sends the next message.
            if deadline.is_none() && !self.arrived.is_empty() {
                deadline = Some(Instant::now() + self.message_timeout);
            }
            let frame = match deadline {
                Some(deadline) => {
                    timeout_at(deadline, self.body.frame()).await.map_err(|_| ApiProblem::body_timeout())?
                }
                None => self.body.frame().await,
            };
            match frame {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    admit(data.len())?;
                    self.arrived.extend_from_slice(&data);
                }
                Some(Err(error)) => return Err(ApiProblem::bad_request(format!("The request ended early: {error}."))),
                None if self.arrived.is_empty() => return Ok(None),
                None => return Err(ApiProblem::bad_request("The request ended within a message.")),
            }
        }
    }

    /// The flag and the length of the next message, once they have arrived.
    fn prefix(&self) -> Option<(u8, usize)> {
        let &[flag, a, b, c, d] = self.arrived.first_chunk::<PREFIX_BYTES>()?;
        Some((flag, u32::from_be_bytes([a, b, c, d]) as usize))
    }

    fn decoded(
        &self,
        flag: u8,
        message: Bytes,
        admit: &mut impl FnMut(usize) -> Result<(), ApiProblem>,
    ) -> Result<Bytes, ApiProblem> {
        match (flag, self.coding) {
            (0, _) => Ok(message),
            (1, Some(coding)) => coding.decode(&message, self.bytes_max, admit),
            (1, None) => Err(ApiProblem::bad_request("A message is compressed, and `grpc-encoding` does not say how.")),
            _ => Err(ApiProblem::bad_request("A message begins with an unknown flag.")),
        }
    }
}

/// Reads the only message of a unary call, of at most `bytes_max` bytes; longer is 413, slower than 10 s is 408. For
/// `admit` see [`Messages::next`].
pub async fn read_message<M: Message + Default>(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    mut admit: impl FnMut(usize) -> Result<(), ApiProblem>,
) -> Result<M, ApiProblem> {
    let mut messages = Messages::of(headers, body, bytes_max)?;
    let read = async {
        let message = messages.next(&mut admit).await?;
        let message = message.ok_or_else(|| ApiProblem::bad_request("The request has no message."))?;
        match messages.next_bytes(&mut admit).await? {
            None => Ok(message),
            Some(_) => Err(ApiProblem::bad_request("The request has more than one message.")),
        }
    };
    timeout(MESSAGE_TIMEOUT, read).await.map_err(|_| ApiProblem::body_timeout())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::reply::Produced;
    use axum::http::header::CONTENT_TYPE;
    use hyper::body::Frame;
    use tally_proto::grpc::health::HealthCheckRequest;
    use tokio::sync::mpsc;

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![flag];
        bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
        bytes.extend_from_slice(message);
        bytes
    }

    fn of_grpc() -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, GRPC.parse().unwrap())])
    }

    fn named(service: &str) -> Vec<u8> {
        HealthCheckRequest { service: service.to_owned() }.encode_to_vec()
    }

    async fn read(body: Vec<u8>, encoding: Option<&'static str>) -> Result<String, u16> {
        let mut headers = of_grpc();
        headers.extend(encoding.map(|coding| (ENCODING, coding.parse().unwrap())));
        let read = read_message::<HealthCheckRequest>(&headers, body.into(), 100, |_| Ok(())).await;
        read.map(|message| message.service).map_err(|problem| problem.status().as_u16())
    }

    #[tokio::test]
    async fn a_unary_call_has_one_message() {
        assert_eq!(read(framed(0, &named("a")), None).await, Ok("a".to_owned()));
        assert_eq!(read(framed(0, &[]), None).await, Ok(String::new()));
        let two = [framed(0, &named("a")), framed(0, &named("b"))].concat();
        let broken = [&framed(0, &named("abc"))[..], b"\0\0"].concat();
        for wrong in [Vec::new(), two, broken, framed(0, &named("a"))[..6].to_vec(), framed(2, &named("a"))] {
            assert_eq!(read(wrong.clone(), None).await, Err(400), "{wrong:?}");
        }
        assert_eq!(read(framed(0, b"\x08\x01\xff"), None).await, Err(400));
    }

    #[tokio::test]
    async fn a_message_has_a_limit_compressed_or_not() {
        assert_eq!(read(framed(0, &named(&"x".repeat(98))), None).await, Ok("x".repeat(98)));
        assert_eq!(read(framed(0, &named(&"x".repeat(99))), None).await, Err(413));
        let compressed = |length: usize| {
            let packed = zstd::encode_all(&*named(&"x".repeat(length)), 1).unwrap();
            framed(1, &packed)
        };
        assert_eq!(read(compressed(98), Some("zstd")).await, Ok("x".repeat(98)));
        assert_eq!(read(compressed(99), Some("zstd")).await, Err(413));
        assert_eq!(read(compressed(9), None).await, Err(400));
        assert_eq!(read(framed(0, &named("a")), Some("zstd")).await, Ok("a".to_owned()));
        assert_eq!(read(framed(0, &named("a")), Some("snappy")).await, Err(415));
    }

    #[tokio::test]
    async fn a_stream_may_be_idle_but_not_within_a_message() {
        let (sender, sent) = mpsc::channel(1);
        let mut messages = Messages::of(&of_grpc(), Body::new(Produced(sent)), 100).unwrap();
        messages.message_timeout = Duration::ZERO;
        let mut admit = |_| Ok(());
        let late = tokio::spawn(async move {
            tokio::task::yield_now().await;
            sender.send(Frame::data(framed(0, &named("a")).into())).await.unwrap();
            sender.send(Frame::data(framed(0, &named("b"))[..6].to_vec().into())).await.unwrap();
            sender
        });
        let first = messages.next::<HealthCheckRequest>(&mut admit).await.unwrap().unwrap();
        assert_eq!(first.service, "a");
        let cut = messages.next::<HealthCheckRequest>(&mut admit).await.unwrap_err();
        assert_eq!(cut.status(), 408);
        drop(late.await.unwrap());
    }

    #[tokio::test]
    async fn messages_of_a_stream_come_in_order() {
        let body: Vec<u8> = ["a", "b", "c"].iter().flat_map(|name| framed(0, &named(name))).collect();
        assert_eq!(
            Messages::of(&HeaderMap::new(), Body::empty(), 100).err().map(|problem| problem.status().as_u16()),
            Some(415)
        );
        let mut messages = Messages::of(&of_grpc(), body.into(), 100).unwrap();
        let mut bytes = 0;
        let mut seen = Vec::new();
        let mut admit = |arrived| {
            bytes += arrived;
            Ok(())
        };
        while let Some(message) = messages.next::<HealthCheckRequest>(&mut admit).await.unwrap() {
            seen.push(message.service);
        }
        assert_eq!((seen.concat(), bytes), ("abc".to_owned(), 3 * (PREFIX_BYTES + 3)));
    }
}
