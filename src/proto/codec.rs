//! tonic's prost codec, except that a message that does not decode is the client's fault: INVALID_ARGUMENT,
//! not INTERNAL.

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType},
};
use std::marker::PhantomData;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

/// The codec of every generated service.
#[derive(Debug, Clone, Copy)]
pub struct StrictProst<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for StrictProst<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec for StrictProst<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(PhantomData)
    }
}

/// Decodes messages.
#[derive(Debug, Clone, Copy)]
pub struct StrictDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(bytes).map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

/// A message of a client's stream. A message that does not decode is an item like any other, and does not end
/// the stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Streamed<M> {
    /// A message.
    Message(M),
    /// Bytes that do not decode.
    Undecodable {
        /// The bytes, as received.
        bytes: Bytes,
        /// What is wrong with them.
        why: String,
    },
}

impl<M> From<M> for Streamed<M> {
    fn from(message: M) -> Self {
        Self::Message(message)
    }
}

impl<M: Default> Default for Streamed<M> {
    fn default() -> Self {
        Self::Message(M::default())
    }
}

impl<M: Message + Default> Message for Streamed<M> {
    fn encode_raw(&self, target: &mut impl BufMut) {
        match self {
            Self::Message(message) => message.encode_raw(target),
            Self::Undecodable { bytes, .. } => target.put_slice(bytes),
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        source: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match self {
            Self::Message(message) => message.merge_field(tag, wire_type, source, context),
            Self::Undecodable { .. } => prost::encoding::skip_field(wire_type, tag, source, context),
        }
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Message(message) => message.encoded_len(),
            Self::Undecodable { bytes, .. } => bytes.len(),
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes all bytes in any case: what follows them in the stream is the next message.
    fn decode(mut source: impl Buf) -> Result<Self, DecodeError> {
        let bytes = source.copy_to_bytes(source.remaining());
        Ok(match M::decode(bytes.clone()) {
            Ok(message) => Self::Message(message),
            Err(error) => Self::Undecodable { bytes, why: error.to_string() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::rh_trex::v1::CreateDinosaurRequest;

    #[test]
    fn what_does_not_decode_is_kept_as_it_came() {
        let decode = |bytes: &'static [u8]| Streamed::<CreateDinosaurRequest>::decode(bytes).unwrap();
        let message = CreateDinosaurRequest { species: "x".into() };
        assert_eq!(decode(b"\x0a\x01x"), Streamed::Message(message));
        for bad in [&b"\x0a\x01\xff"[..], b"\x0a\x05x", b"\xff"] {
            let item = decode(bad);
            assert!(matches!(item, Streamed::Undecodable { .. }), "{item:?}");
            assert_eq!(item.encode_to_vec(), bad);
        }
    }
}
