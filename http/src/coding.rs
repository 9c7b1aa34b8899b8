//! Compressed request bodies (RFC 9110, section 8.4).

use crate::body::too_large;
use crate::problem::ApiProblem;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use std::io::{self, Read};

/// `Accept-Encoding` of the response to another coding.
const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip, zstd");
/// RFC 9659: a window of 8 MiB must suffice for every client. The memory need that the frame declares is not trusted.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// A body is decompressed in pieces of this, and no further than it is admitted.
const PIECE_BYTES: usize = 64 << 10;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Zstd,
}

impl Coding {
    /// The coding of a request's body by its headers; None for an uncoded one. 415 with `Accept-Encoding` for
    /// unsupported codings.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiProblem> {
        let lines = headers.get_all(header::CONTENT_ENCODING).iter();
        let codings = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        let mut codings = codings.filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"));
        let (coding, more) = (codings.next(), codings.next());
        if more.is_some() {
            return Err(unsupported("The body has several content codings; only one is supported"));
        }
        let Some(coding) = coding else { return Ok(None) };
        match () {
            () if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") => {
                Ok(Some(Self::Gzip))
            }
            () if coding.eq_ignore_ascii_case(b"zstd") => Ok(Some(Self::Zstd)),
            () => Err(unsupported("The body's content-encoding is not supported")),
        }
    }

    /// The body decompressed, up to `bytes_max`: a bomb ends there. `admit` is called with numbers of bytes before they
    /// are kept.
    pub(crate) fn decode(
        self,
        sent: &[u8],
        bytes_max: usize,
        mut admit: impl FnMut(usize) -> Result<(), ApiProblem>,
    ) -> Result<Bytes, ApiProblem> {
        let broken = |error: io::Error| {
            let name = if self == Self::Gzip { "gzip" } else { "zstd" };
            ApiProblem::bad_request(format!(
                "The body is not valid {name}, although its content-encoding says so: {error}."
            ))
        };
        let mut decoder: Box<dyn Read + '_> = match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(sent)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(sent).map_err(broken)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
                Box::new(decoder)
            }
        };
        let mut whole = Vec::new();
        loop {
            let kept = whole.len();
            whole.resize(kept + PIECE_BYTES, 0);
            let read = decoder.read(&mut whole[kept..]).map_err(broken)?;
            whole.truncate(kept + read);
            match read {
                0 => return Ok(whole.into()),
                _ if whole.len() > bytes_max => return Err(too_large(bytes_max)),
                _ => admit(read)?,
            }
        }
    }
}

fn unsupported(reason: &str) -> ApiProblem {
    let detail = format!("{reason}; accepted: gzip, zstd, or none.");
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    ApiProblem::new(status, "unsupported-content-encoding", "Unsupported content encoding", detail)
        .header(header::ACCEPT_ENCODING, ACCEPTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn decode(coding: Coding, sent: &[u8], bytes_max: usize) -> Result<Vec<u8>, u16> {
        let decoded = coding.decode(sent, bytes_max, |_| Ok(()));
        decoded.map(|bytes| bytes.to_vec()).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn what_headers_name_is_taken_once_or_refused() {
        let of = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONTENT_ENCODING, line.parse().unwrap());
            }
            Coding::of(&headers).map_err(|problem| problem.status().as_u16())
        };
        for none in [&[][..], &["identity"], &[""], &["Identity, identity"]] {
            assert_eq!(of(none), Ok(None), "{none:?}");
        }
        for one in ["gzip", "GZIP", "x-gzip", "identity, gzip", " gzip ,"] {
            assert_eq!(of(&[one]), Ok(Some(Coding::Gzip)), "{one}");
        }
        assert_eq!(of(&["zstd"]), Ok(Some(Coding::Zstd)));
        for wrong in [&["br"][..], &["deflate"], &["gzip, gzip"], &["gzip", "zstd"], &["zstd, br"], &["gzipp"], &["*"]]
        {
            assert_eq!(of(wrong), Err(415), "{wrong:?}");
        }
    }

    #[test]
    fn bodies_come_out_as_they_went_in() {
        let text = b"0123456789".repeat(20_000);
        for (coding, compress) in [(Coding::Gzip, gzip as fn(&[u8]) -> Vec<u8>), (Coding::Zstd, zstd)] {
            let whole = compress(&text);
            assert_eq!(decode(coding, &whole, text.len()), Ok(text.clone()), "{coding:?}");
            assert_eq!(decode(coding, &whole, text.len() - 1), Err(413), "{coding:?}");
            assert_eq!(decode(coding, &compress(b""), 10), Ok(Vec::new()), "{coding:?}");
            // Members and frames may follow one another.
            let two = [compress(b"01234"), compress(b""), compress(b"56789")].concat();
            assert_eq!(decode(coding, &two, 10), Ok(b"0123456789".to_vec()), "{coding:?}");
            for wrong in [&whole[..whole.len() - 1], &whole[1..], b"plain", &[whole.clone(), b"x".to_vec()].concat()] {
                assert_eq!(decode(coding, wrong, 1 << 20), Err(400), "{coding:?}");
            }
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        // At most 100 KiB and one more piece of a gigabyte of zeros are decompressed.
        let member = gzip(&vec![0; 16 << 20]);
        let mut made = 0;
        let admit = |bytes| {
            made += bytes;
            Ok(())
        };
        let answer = Coding::Gzip.decode(&member.repeat(64), 100 << 10, admit);
        assert_eq!(answer.unwrap_err().status(), 413);
        assert!(made <= 100 << 10, "{made}");
        // Nor is memory allocated because a frame declares a window of 2 GiB.
        let huge_window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
        assert_eq!(decode(Coding::Zstd, &huge_window, 10), Err(400));
    }

    #[test]
    fn what_is_not_admitted_ends_it() {
        let refuse = |_| Err(ApiProblem::too_many_requests("full", 1));
        assert_eq!(Coding::Gzip.decode(&gzip(b"a"), 10, refuse).unwrap_err().status(), 429);
    }
}
