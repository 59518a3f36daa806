//! What a stream is handed.

use bytes::Bytes;

/// Frames for the wire.
pub(super) struct Chunk {
    pub(super) frames: Bytes,
    pub(super) events: u64,
    /// How many events they replace.
    pub(super) conflated: u64,
    /// When the oldest of them was sealed.
    pub(super) sealed_at: u64,
}
