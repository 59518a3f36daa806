//! Attributed, for a stream that got the newest event of each resource.

use super::Verdict;
use crate::support::history::{Evidence, Stream};
use std::collections::HashMap;
use trex::proto::rh_trex::v1::BackpressurePolicy;

/// Each event stands for those of its resource since the one before of it, neither more nor fewer, and the
/// last for all to the end.
pub(super) fn of_each_resource(evidence: &Evidence<'_>, stream: &Stream) -> Verdict {
    let name = &stream.name;
    ensure!(
        stream.request.backpressure() == BackpressurePolicy::Latest,
        "{name}: events that stand for others, which nobody asked for"
    );
    let mut wanted: HashMap<&str, Vec<u64>> = HashMap::new();
    for event in evidence.wanted(stream, stream.headers.revision, stream.up_to()) {
        wanted.entry(&event.id).or_default().push(event.revision);
    }
    for event in &stream.events {
        let (id, revision) = (event.id.as_str(), event.revision);
        let left = wanted.entry(id).or_default();
        let passed = left.partition_point(|&at| at <= revision) as u64;
        ensure!(
            event.stands_for() == passed,
            "{name}: {revision} of {id} stands for {}, and {passed} happened",
            event.stands_for()
        );
        left.drain(..passed as usize);
    }
    match wanted.iter().find(|(_, left)| !left.is_empty()) {
        Some((id, left)) => Err(format!("{name}: nothing stands for {left:?} of {id}")),
        None => Ok(()),
    }
}
