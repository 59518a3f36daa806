//! gRPC message frames: one byte that says "not compressed", the message's length as four bytes big-endian,
//! the message (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, Length-Prefixed-Message).
//!
//! Protobuf merges concatenated messages field by field, so a per-stream addition is appended to an event's
//! bytes under a new header.

/// Bytes of a frame's header.
pub const HEADER: usize = 5;

/// Appends a frame whose message `write` appends; returns what `write` returns.
pub fn write<R>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    let result = write(out);
    set_length(out, start);
    result
}

/// Appends a framed message again, with an addition to it: fields that merge into the message.
pub fn write_extended(out: &mut Vec<u8>, framed: &[u8], additions: &[&[u8]]) {
    write(out, |out| {
        out.extend_from_slice(framed.get(HEADER..).unwrap_or_default());
        additions.iter().for_each(|addition| out.extend_from_slice(addition));
    });
}

/// The message of the first frame, and what follows it; `None`: there is no whole frame.
pub fn split(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let ([_, length @ ..], rest) = frames.split_first_chunk::<HEADER>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

fn set_length(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len() - start - HEADER).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(header) = out.get_mut(start + 1..start + HEADER) {
        header.copy_from_slice(&length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_its_length() {
        let mut out = vec![9];
        write(&mut out, |out| out.extend_from_slice(b"abc"));
        assert_eq!(out, [9, 0, 0, 0, 0, 3, b'a', b'b', b'c']);
    }

    #[test]
    fn an_addition_lengthens_the_message() {
        let mut framed = Vec::new();
        write(&mut framed, |out| out.extend_from_slice(b"abc"));
        let mut out = Vec::new();
        write_extended(&mut out, &framed, &[&[0x30, 0xac, 0x02]]);
        assert_eq!(out, [0, 0, 0, 0, 6, b'a', b'b', b'c', 0x30, 0xac, 0x02]);
    }
}
