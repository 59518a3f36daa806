//! Compression of answers that are no stream.

use super::body::HttpBody;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::BodyExt;
use std::io::Write;

/// Bytes below which compression is not worth it.
const WORTHWHILE: u64 = 1024;
/// Bytes from which compression would hold up the streams of the same thread.
const LONG: u64 = 64 * 1024;

/// Whether a client takes gzip.
pub(super) fn is_taken(headers: &HeaderMap) -> bool {
    let said = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    said.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0_f32));
        matches!(name.trim(), "gzip" | "*") && !refused
    })
}

/// Compresses an answer that is worth it.
pub(super) async fn compressed(response: Response<HttpBody>) -> Response<HttpBody> {
    let (mut head, body) = response.into_parts();
    let HttpBody::Whole(whole) = body else { return Response::from_parts(head, body) };
    let length = http_body::Body::size_hint(&whole).lower();
    // A version names these very bytes.
    let is_fixed =
        [header::CONTENT_ENCODING, header::ETAG].iter().any(|name| head.headers.contains_key(name));
    if length < WORTHWHILE || is_fixed {
        return Response::from_parts(head, HttpBody::Whole(whole));
    }
    let bytes =
        whole.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_else(|never| match never {});
    let packed = if length < LONG {
        pack(&bytes)
    } else {
        let bytes = bytes.clone();
        tokio::task::spawn_blocking(move || pack(&bytes)).await.ok().flatten()
    };
    let bytes = match packed {
        Some(packed) => {
            head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            packed
        }
        None => bytes,
    };
    Response::from_parts(head, HttpBody::whole(bytes))
}

/// `None`: compression failed, which a buffer in memory gives no reason for.
fn pack(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refuses_gzip_gets_none() {
        let taken = |value: &'static str| {
            is_taken(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert!(taken("gzip") && taken("br, gzip;q=0.5") && taken("*") && !taken("br") && !taken("gzip;q=0"));
        assert!(!is_taken(&HeaderMap::new()));
    }
}
