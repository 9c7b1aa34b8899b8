//! Detects what listens at an address, with a request of its own before any client is created: librdkafka retries
//! forever on a listener that requires TLS or SASL, or that is not Kafka at all, and only reports "Disconnected".

use super::options::KafkaOptions;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// For a connection, and for each answer.
const STEP: Duration = Duration::from_secs(1);
/// For all addresses together. One whose name takes longer to be found may still answer later.
const PATIENCE: Duration = Duration::from_millis(3_500);
/// Correlates the answer with the request.
const CORRELATION: i32 = 0x7461_6c6c;
/// No answer of a broker to this request is longer.
const ANSWER_BYTES_MAX: u32 = 1 << 16;
/// SaslHandshake: a listener without SASL rejects it with this error and keeps the connection.
const SASL_HANDSHAKE: i16 = 17;
const ILLEGAL_SASL_STATE: i16 = 34;

/// The kind of the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Greeting {
    /// A broker, without TLS and SASL.
    Plain,
    /// A broker that wants one of these mechanisms.
    Sasl(Vec<String>),
    Tls,
    /// Something that answers like this.
    Other(String),
}

/// The listener that the options expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Plain,
    Sasl,
    /// With or without SASL: that is negotiated inside TLS, by the client itself.
    Tls,
}

impl Expected {
    fn by(options: &KafkaOptions) -> Self {
        let protocol = options.properties.iter().rev().find(|(name, _)| name == "security.protocol");
        match protocol.map(|(_, protocol)| protocol.to_ascii_lowercase()).as_deref() {
            Some("ssl" | "sasl_ssl") => Self::Tls,
            Some("sasl_plaintext") => Self::Sasl,
            _ => Self::Plain,
        }
    }

    fn is(self, greeting: &Greeting) -> bool {
        matches!(
            (self, greeting),
            (Self::Plain, Greeting::Plain) | (Self::Sasl, Greeting::Sasl(_)) | (Self::Tls, Greeting::Tls)
        )
    }
}

/// Why the cluster can never be reached with these options; None if it may be, or if nothing answers now.
pub(super) fn refusal(options: &KafkaOptions) -> Option<String> {
    let expected = Expected::by(options);
    let addresses: Vec<String> = options.brokers.split(',').map(|broker| with_port(broker.trim())).collect();
    let (tell, told) = mpsc::channel();
    for address in &addresses {
        let (address, tell) = (address.clone(), tell.clone());
        // Left behind where a name is not found in time.
        std::thread::spawn(move || {
            let greeting = greet(&address);
            let _ = tell.send((address, greeting));
        });
    }
    drop(tell);
    let deadline = Instant::now() + PATIENCE;
    let mut refusal = None;
    while let Ok((address, greeting)) = told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        match greeting {
            Ok(Some(greeting)) if expected.is(&greeting) => return None,
            Ok(Some(greeting)) => refusal = refusal.or(Some(explain(&address, &greeting, expected))),
            Ok(None) | Err(_) => {}
        }
    }
    refusal
}

fn with_port(broker: &str) -> String {
    match broker.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => broker.to_owned(),
        _ => format!("{broker}:9092"),
    }
}

fn explain(address: &str, greeting: &Greeting, expected: Expected) -> String {
    match greeting {
        Greeting::Plain | Greeting::Sasl(_) if expected == Expected::Tls => {
            format!("the listener at {address} does not speak TLS: check security.protocol in the client properties")
        }
        Greeting::Plain => {
            format!("the listener at {address} asks for no SASL: take it out of the client properties")
        }
        Greeting::Sasl(mechanisms) => format!(
            "the listener at {address} asks for SASL ({}): name a file with security.protocol, sasl.mechanism, \
             sasl.username and sasl.password by --log-properties",
            mechanisms.join(", ")
        ),
        Greeting::Tls => format!(
            "the listener at {address} speaks TLS: name a file with security.protocol=SSL or SASL_SSL, and \
             ssl.ca.location where its authority is not known everywhere, by --log-properties"
        ),
        Greeting::Other(answer) => {
            format!("what listens at {address} is not Kafka: it answers {answer:?}: check host and port")
        }
    }
}

/// None if the response does not distinguish the cases: a server that is frozen or just starting behaves the same.
fn greet(address: &str) -> io::Result<Option<Greeting>> {
    let mut stream = connect(address)?;
    stream.write_all(&handshake())?;
    let mut head = [0; 8];
    let mut count = read_some(&mut stream, &mut head);
    if count == 0 {
        // A server of lines waits for the end of one. A broker takes this for a length that is too great, and leaves.
        stream = connect(address)?;
        stream.write_all(b"PING\r\n")?;
        count = read_some(&mut stream, &mut head);
    }
    let said = &head[..count];
    if said.is_empty() || is_tls(said) {
        return Ok(speaks_tls(address)?.then_some(Greeting::Tls));
    }
    let number = |from: usize| Some(i32::from_be_bytes(said.get(from..from + 4)?.try_into().ok()?));
    let (length, correlation) = (number(0), number(4));
    let length = length.and_then(|length| u32::try_from(length).ok()).filter(|length| *length <= ANSWER_BYTES_MAX);
    let (Some(length), Some(CORRELATION)) = (length, correlation) else {
        return Ok(Some(Greeting::Other(String::from_utf8_lossy(said).trim().to_owned())));
    };
    let mut body = vec![0; (length as usize).saturating_sub(4)];
    stream.read_exact(&mut body)?;
    Ok(mechanisms(&body))
}

/// The mechanisms in a broker's answer.
fn mechanisms(mut body: &[u8]) -> Option<Greeting> {
    let mut take = |count: usize| {
        let (taken, rest) = body.split_at_checked(count)?;
        body = rest;
        Some(taken)
    };
    if i16::from_be_bytes(take(2)?.try_into().ok()?) == ILLEGAL_SASL_STATE {
        return Some(Greeting::Plain);
    }
    let count = i32::from_be_bytes(take(4)?.try_into().ok()?);
    let mut mechanisms = Vec::new();
    for _ in 0..count {
        let length = i16::from_be_bytes(take(2)?.try_into().ok()?);
        mechanisms.push(String::from_utf8_lossy(take(usize::try_from(length).ok()?)?).into_owned());
    }
    Some(Greeting::Sasl(mechanisms))
}

/// A SaslHandshake of version 1 for a mechanism that does not exist.
fn handshake() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(SASL_HANDSHAKE.to_be_bytes());
    body.extend(1_i16.to_be_bytes());
    body.extend(CORRELATION.to_be_bytes());
    for text in ["tally", "NONE"] {
        body.extend((text.len() as i16).to_be_bytes());
        body.extend(text.as_bytes());
    }
    let mut framed = (body.len() as u32).to_be_bytes().to_vec();
    framed.append(&mut body);
    framed
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other("no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, STEP) {
            Ok(stream) => {
                stream.set_read_timeout(Some(STEP))?;
                stream.set_write_timeout(Some(STEP))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Reads until the buffer is full, the time is over or the connection is closed; returns the length.
fn read_some(stream: &mut TcpStream, into: &mut [u8]) -> usize {
    let mut count = 0;
    while count < into.len() {
        match stream.read(&mut into[count..]) {
            Ok(0) | Err(_) => break,
            Ok(more) => count += more,
        }
    }
    count
}

/// A handshake or an alert of TLS.
fn is_tls(said: &[u8]) -> bool {
    matches!(said, [0x15 | 0x16, 3, ..])
}

/// Whether a ClientHello is answered as TLS does: with another hello, or with an alert.
fn speaks_tls(address: &str) -> io::Result<bool> {
    let mut stream = connect(address)?;
    stream.write_all(&client_hello())?;
    let mut head = [0; 3];
    let count = read_some(&mut stream, &mut head);
    Ok(is_tls(&head[..count]))
}

fn client_hello() -> Vec<u8> {
    // supported_groups, ec_point_formats, signature_algorithms.
    let extensions: &[&[u8]] =
        &[&[0, 10, 0, 6, 0, 4, 0, 29, 0, 23], &[0, 11, 0, 2, 1, 0], &[0, 13, 0, 10, 0, 8, 4, 3, 8, 4, 4, 1, 2, 1]];
    let extensions = extensions.concat();
    let mut hello = vec![3, 3];
    // Not random: no secret is made of it.
    hello.extend([0x5a; 32]);
    // No session; suites of TLS 1.2 that every server has; no compression.
    hello.extend([0, 0, 8, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x30, 0, 0x9c, 1, 0]);
    hello.extend((extensions.len() as u16).to_be_bytes());
    hello.extend(extensions);
    let mut record = vec![0x16, 3, 1];
    record.extend((hello.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((hello.len() as u16).to_be_bytes());
    record.extend(hello);
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn of(answer: &'static [u8]) -> Option<String> {
        with("", answer)
    }

    /// What is made of a server that reads something and answers this, again and again.
    fn with(properties: &str, answer: &'static [u8]) -> Option<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let options = KafkaOptions::new(listener.local_addr().unwrap().to_string());
        let options = options.with_properties(properties).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer);
            }
        });
        refusal(&options)
    }

    #[test]
    fn what_listens_is_told_apart() {
        let framed =
            |rest: &[u8]| [&(rest.len() as u32 + 4).to_be_bytes()[..], b"tall", rest].concat().leak() as &[u8];
        assert_eq!(of(framed(&[0, 34, 0, 0, 0, 0])), None, "a broker without SASL");
        let sasl = of(framed(&[0, 33, 0, 0, 0, 1, 0, 5, b'P', b'L', b'A', b'I', b'N'])).unwrap();
        assert!(sasl.contains("asks for SASL (PLAIN): name a file"), "{sasl}");
        for alert in [&[0x15, 3, 3, 0, 2, 2, 80][..], &[0x16, 3, 3, 0, 122]] {
            let tls = of(alert).unwrap();
            assert!(tls.contains("speaks TLS: name a file"), "{tls}");
        }
        for (other, shown) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], "it answers \"HTTP/1.1\""),
            (b"-ERR unknown command", "it answers \"-ERR unk\""),
            (b"SSH-2.0-OpenSSH", "it answers \"SSH-2.0-\""),
        ] {
            let other = of(other).unwrap();
            assert!(other.contains("is not Kafka") && other.contains(shown), "{other}");
        }
        // It may be starting.
        assert_eq!(of(b""), None);
        for (protocol, answer, words) in [
            ("SSL", framed(&[0, 34, 0, 0, 0, 0]), "does not speak TLS"),
            ("SASL_SSL", framed(&[0, 33, 0, 0, 0, 0]), "does not speak TLS"),
            ("SASL_PLAINTEXT", framed(&[0, 34, 0, 0, 0, 0]), "asks for no SASL"),
            ("SASL_PLAINTEXT", &[0x16, 3, 3, 0, 122], "speaks TLS"),
        ] {
            let refused = with(&format!("security.protocol={protocol}"), answer).unwrap();
            assert!(refused.contains(words), "{protocol}: {refused}");
        }
        assert_eq!(with("security.protocol=SSL", &[0x16, 3, 3, 0, 122]), None);
        assert_eq!(with("security.protocol=SASL_PLAINTEXT", framed(&[0, 33, 0, 0, 0, 0])), None);
    }

    #[test]
    fn no_broker_is_asked_twice_and_one_answer_is_enough() {
        assert_eq!(refusal(&KafkaOptions::new("127.0.0.1:1,host.invalid")), None);
        let secure = KafkaOptions::new("127.0.0.1:1").with_properties("security.protocol=SASL_SSL").unwrap();
        assert_eq!(refusal(&secure), None);
        assert_eq!(with_port("[::1]"), "[::1]:9092");
        assert_eq!(with_port("host:1"), "host:1");
    }
}
