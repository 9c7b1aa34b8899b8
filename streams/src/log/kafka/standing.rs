//! Open transactions of a partition, queried from its leader by Kafka's own protocol (DescribeProducers), which
//! librdkafka 2.12 does not implement. Only over plain connections: TLS and SASL are not reimplemented here, and
//! Kafka's own tools answer the same question.

use super::super::{LogError, TopicPartition};
use super::context::Quiet;
use super::options::KafkaOptions;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// The request's number in the protocol.
const DESCRIBE_PRODUCERS: i16 = 61;
/// How long each step may take.
const STEP: Duration = Duration::from_secs(3);
/// No answer about one partition is longer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A transaction that is open in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i32,
    /// The epoch of the coordinator that wrote the last marker; -1 without a marker.
    pub coordinator_epoch: i32,
    /// The offset of its first record.
    pub start_offset: u64,
}

/// The transactions that are open in a partition, by its leader.
pub fn open_transactions(options: &KafkaOptions, of: &TopicPartition) -> Result<Vec<OpenTransaction>, LogError> {
    let failed = |what: &dyn std::fmt::Display| LogError::Unavailable(format!("the producers of {of}: {what}"));
    if options.properties.iter().any(|(name, _)| name == "security.protocol") {
        return Err(failed(&"not asked over TLS or SASL; `kafka-transactions.sh describe-producers` shows them"));
    }
    let leader = leader(options, of).map_err(|error| failed(&error))?;
    let answer = ask(&leader, &request(of)).map_err(|error| failed(&error))?;
    read(&answer).ok_or_else(|| failed(&"the leader's answer cannot be read"))?.map_err(|code| failed(&code))
}

/// `host:port` of the partition's leader.
fn leader(options: &KafkaOptions, of: &TopicPartition) -> Result<String, String> {
    let client = options.reader(false).create_with_context::<_, BaseConsumer<Quiet>>(Quiet::default());
    let client = client.map_err(|error| error.to_string())?;
    let metadata = client.fetch_metadata(Some(&of.topic), STEP).map_err(|error| error.to_string())?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == &*of.topic);
    let partition = topic.and_then(|topic| topic.partitions().iter().find(|p| p.id() == of.partition as i32));
    let leader = partition.and_then(|p| metadata.brokers().iter().find(|broker| broker.id() == p.leader()));
    leader.map(|broker| format!("{}:{}", broker.host(), broker.port())).ok_or_else(|| "it has no leader".to_owned())
}

/// Version 0 of the request, with its length in front.
fn request(of: &TopicPartition) -> Vec<u8> {
    let client_id = b"tally";
    let mut body = Vec::new();
    body.extend(DESCRIBE_PRODUCERS.to_be_bytes());
    body.extend(0_i16.to_be_bytes());
    // Correlates the answer; there is one alone.
    body.extend(1_i32.to_be_bytes());
    body.extend((client_id.len() as i16).to_be_bytes());
    body.extend(client_id);
    // No tagged fields; one topic, whose name is shorter than 126 bytes or takes two bytes for its length.
    body.push(0);
    body.push(2);
    unsigned(of.topic.len() as u32 + 1, &mut body);
    body.extend(of.topic.as_bytes());
    body.push(2);
    body.extend((of.partition as i32).to_be_bytes());
    body.extend([0, 0]);
    let mut framed = (body.len() as u32).to_be_bytes().to_vec();
    framed.append(&mut body);
    framed
}

fn unsigned(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn ask(leader: &str, request: &[u8]) -> io::Result<Vec<u8>> {
    let address = leader.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("its leader has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, STEP)?;
    stream.set_read_timeout(Some(STEP))?;
    stream.set_write_timeout(Some(STEP))?;
    stream.write_all(request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > ANSWER_BYTES_MAX {
        return Err(io::Error::other(format!("an answer of {length} bytes")));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The open transactions in an answer about one partition, or the error that it holds.
fn read(mut answer: &[u8]) -> Option<Result<Vec<OpenTransaction>, String>> {
    let answer = &mut answer;
    // Correlation, tagged fields, throttling.
    take(answer, 4)?;
    tags(answer)?;
    take(answer, 4)?;
    if length(answer)? != 1 {
        return None;
    }
    let name = length(answer)?;
    take(answer, name)?;
    if length(answer)? != 1 {
        return None;
    }
    take(answer, 4)?;
    let code = i16::from_be_bytes(take(answer, 2)?.try_into().ok()?);
    let message = length(answer)?;
    let message = String::from_utf8_lossy(take(answer, message)?).into_owned();
    if code != 0 {
        return Some(Err(format!("error {code} {message}")));
    }
    let producers = length(answer)?;
    let mut open = Vec::new();
    for _ in 0..producers {
        let producer_id = i64::from_be_bytes(take(answer, 8)?.try_into().ok()?);
        let producer_epoch = i32::from_be_bytes(take(answer, 4)?.try_into().ok()?);
        // Last sequence and time.
        take(answer, 12)?;
        let coordinator_epoch = i32::from_be_bytes(take(answer, 4)?.try_into().ok()?);
        let start_offset = i64::from_be_bytes(take(answer, 8)?.try_into().ok()?);
        tags(answer)?;
        // -1: nothing is open.
        if let Ok(start_offset) = u64::try_from(start_offset) {
            open.push(OpenTransaction { producer_id, producer_epoch, coordinator_epoch, start_offset });
        }
    }
    Some(Ok(open))
}

fn take<'a>(from: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(count)?;
    *from = rest;
    Some(taken)
}

/// A length: one more than it is; none and zero are the same here.
fn length(from: &mut &[u8]) -> Option<usize> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let byte = take(from, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(value.saturating_sub(1)).ok();
        }
    }
    None
}

/// Passes over tagged fields.
fn tags(from: &mut &[u8]) -> Option<()> {
    // Their number is written as it is.
    let mut count = 0_u32;
    for shift in (0..35).step_by(7) {
        let byte = take(from, 1)?[0];
        count |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            break;
        }
    }
    // A broker of this version sends none; fields of other versions are not understood.
    (count == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_framed_and_names_one_partition() {
        let request = request(&TopicPartition::new("t".repeat(200), 3));
        assert_eq!(request.len(), 4 + u32::from_be_bytes(request[..4].try_into().unwrap()) as usize);
        assert_eq!(request[4..8], [0, 61, 0, 0]);
        // 201 as a length of two bytes.
        assert_eq!(request[19..23], [0, 2, 0xc9, 1]);
        assert_eq!(request[request.len() - 7..], [2, 0, 0, 0, 3, 0, 0]);
    }

    #[test]
    fn an_answer_cut_anywhere_is_refused_and_a_whole_one_read() {
        let mut answer = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 2, b't', 2, 0, 0, 0, 3, 0, 0, 0, 3];
        for (id, start) in [(7_i64, 42_i64), (8, -1)] {
            answer.extend(id.to_be_bytes());
            answer.extend(5_i32.to_be_bytes());
            answer.extend([0; 12]);
            answer.extend((-1_i32).to_be_bytes());
            answer.extend(start.to_be_bytes());
            answer.push(0);
        }
        let open = OpenTransaction { producer_id: 7, producer_epoch: 5, coordinator_epoch: -1, start_offset: 42 };
        assert_eq!(read(&answer), Some(Ok(vec![open])));
        assert!((0..answer.len()).all(|end| read(&answer[..end]).is_none()));
        let refused = [0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 2, b't', 2, 0, 0, 0, 3, 0, 29, 3, b'n', b'o', 1];
        assert_eq!(read(&refused), Some(Err("error 29 no".to_owned())));
    }
}
