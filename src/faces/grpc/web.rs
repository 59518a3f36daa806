//! gRPC-Web: gRPC for clients that cannot read trailers, such as browsers, over HTTP/1.1 too. Messages are
//! framed as ever, in base64 if the client wants text; what gRPC says in trailers comes as a last frame
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>).

use super::face::{GrpcBody, GrpcFace};
use crate::{
    call::Call,
    error::Error,
    server::{Endable, Method, Service},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use std::{
    error,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

/// Says of a frame that it holds trailers.
const TRAILERS: u8 = 0x80;

/// How a client wants the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Binary,
    Text,
}

impl Form {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let media = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.to_ascii_lowercase();
        let media = media.split(';').next().unwrap_or_default().trim();
        match media.strip_suffix("+proto").unwrap_or(media) {
            "application/grpc-web" => Some(Self::Binary),
            "application/grpc-web-text" => Some(Self::Text),
            _ => None,
        }
    }

    fn media(self) -> &'static str {
        match self {
            Self::Binary => "application/grpc-web+proto",
            Self::Text => "application/grpc-web-text+proto",
        }
    }
}

/// Whether a request is one of gRPC-Web.
pub fn is_web(headers: &HeaderMap) -> bool {
    Form::of(headers).is_some()
}

impl GrpcFace {
    /// The method of a path; `None`: there is none.
    pub fn known(&self, path: &str) -> Option<Method> {
        // What is not known goes by a name that is no path.
        Some(self.found(path)).filter(|method| path.starts_with('/') && method.name == path)
    }

    /// How long a client of gRPC-Web waits.
    pub fn web_patience(&self, headers: &HeaderMap) -> Option<Duration> {
        self.patience(headers).filter(|_| is_web(headers))
    }

    /// Answers a request of gRPC-Web.
    pub async fn answer_web<B>(&self, call: &Call, mut request: Request<B>) -> Response<WebBody>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn error::Error + Send + Sync>>,
    {
        let headers = request.headers_mut();
        let form = Form::of(headers).unwrap_or(Form::Binary);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        // Of the text, not of the messages.
        headers.remove(header::CONTENT_LENGTH);
        let response = match form {
            Form::Binary => self.dispatch(call, request).await,
            Form::Text => self.dispatch(call, request.map(Decoded::new)).await,
        };
        web(response, form)
    }

    /// The answer to a call that failed outside of the services.
    pub fn refuse_web(&self, call: &Call, method: Method, error: Error) -> Response<WebBody> {
        web(self.refuse(call, method, error), Form::Binary)
    }
}

fn web(mut response: Response<GrpcBody>, form: Form) -> Response<WebBody> {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(form.media()));
    response.map(|inner| WebBody { inner: Some(inner), form })
}

/// The body of an answer.
pub struct WebBody {
    /// `None`: the trailers have been sent.
    inner: Option<GrpcBody>,
    form: Form,
}

impl WebBody {
    fn frame(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                self.inner = None;
                last_frame(&frame.into_trailers().unwrap_or_default())
            }
        };
        Frame::data(match self.form {
            Form::Binary => data,
            Form::Text => STANDARD.encode(&data).into(),
        })
    }
}

fn last_frame(trailers: &HeaderMap) -> Bytes {
    let mut text = BytesMut::new();
    for (name, value) in trailers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    let mut frame = BytesMut::with_capacity(5 + text.len());
    frame.put_u8(TRAILERS);
    frame.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&text);
    frame.freeze()
}

impl Endable for WebBody {
    fn end(&mut self, error: Error) -> Option<Frame<Bytes>> {
        let last = self.inner.as_mut()?.end(error)?;
        Some(self.frame(last))
    }
}

impl Body for WebBody {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, anyhow::Error>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        Poll::Ready(match ready!(Pin::new(inner).poll_frame(cx)) {
            Some(Ok(frame)) => Some(Ok(self.frame(frame))),
            Some(Err(status)) => Some(Err(status.into())),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // What is sent is longer than what is told of.
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

/// A body in base64, as the bytes that it stands for. Each message may be padded for itself, so four
/// characters are read at a time.
struct Decoded<B> {
    inner: B,
    /// Fewer than four characters.
    rest: Vec<u8>,
}

impl<B> Decoded<B> {
    fn new(inner: B) -> Self {
        Self { inner, rest: Vec::new() }
    }

    fn decode(&mut self, text: &[u8]) -> Result<Bytes, base64::DecodeSliceError> {
        self.rest.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()));
        let whole = self.rest.len() / 4 * 4;
        let mut bytes = BytesMut::with_capacity(whole / 4 * 3);
        for group in self.rest.drain(..whole).as_slice().chunks(4) {
            let mut three = [0; 3];
            let length = STANDARD.decode_slice(group, &mut three)?;
            bytes.extend_from_slice(three.get(..length).unwrap_or_default());
        }
        Ok(bytes.freeze())
    }
}

impl<B> Body for Decoded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(text) => Some(self.decode(&text).map(Frame::data).map_err(Into::into)),
                Err(trailers) => Some(Ok(trailers)),
            },
            Some(Err(error)) => Some(Err(error.into())),
            None if self.rest.is_empty() => None,
            None => Some(Err("the text ends within four characters".into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_however_it_is_cut() {
        let text = [STANDARD.encode(b"a message"), STANDARD.encode(b"of two!!")].concat();
        for size in [1, 3, 4, 7, 100] {
            let mut decoded = Decoded::new(());
            let parts = text.as_bytes().chunks(size).map(|part| decoded.decode(part).unwrap());
            assert_eq!(parts.collect::<Vec<_>>().concat(), b"a messageof two!!");
            assert!(decoded.rest.is_empty());
        }
        assert!(Decoded::new(()).decode(b"@@@@").is_err());
    }

    #[test]
    fn trailers_are_the_last_frame() {
        let trailers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static("7"))]);
        assert_eq!(last_frame(&trailers), b"\x80\0\0\0\x10retry-after: 7\r\n".as_slice());
    }
}
