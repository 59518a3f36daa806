"""The bugs: what is replaced by what, and which tests must see it."""

from dataclasses import dataclass

STRESS = "stress::every_change_comes_once_and_in_order_through_load_and_calm"
RIVALS = "stress::rivals"
WINDOW = "slow_reader::a_reader_that_the_window_passes_is_told_what_it_lost"
BLOCKED = "slow_reader::a_blocked_reader_is_told_what_it_lost"
WAKEUPS = "lib::broker::tests"

SEAL = "src/store/migrations/0003_seal.sql"
CAPTURE = "src/store/migrations/0002_capture.sql"
READ = "src/store/read.sql"
TAILER = "src/capture/tailer.rs"
POSITION = "src/broker/position.rs"


@dataclass(frozen=True)
class Bug:
    name: str
    file: str
    old: str
    new: str
    tests: tuple


BUGS = [
    Bug(
        "leave-out-xip-of-prev",
        SEAL,
        "WHERE pg_visible_in_snapshot(x, b)",
        "WHERE false",
        (STRESS,),
    ),
    Bug(
        "order-by-first-seq",
        SEAL,
        "max(c.seq) AS last_seq",
        "min(c.seq) AS last_seq",
        (STRESS,),
    ),
    Bug(
        "order-by-xid",
        SEAL,
        "sum(n) OVER (ORDER BY last_seq)",
        "sum(n) OVER (ORDER BY xid)",
        (STRESS,),
    ),
    Bug(
        "read-by-seq-alone",
        READ,
        "ORDER BY l.revision, c.seq",
        "ORDER BY c.seq",
        (STRESS,),
    ),
    Bug(
        "sleep-without-the-wait",
        "src/capture/drain.rs",
        "if connection.oldest_running().await? > self.until {",
        "if true {",
        (STRESS,),
    ),
    Bug(
        "forget-bells-rung-during-a-round",
        TAILER,
        'let seen = self.seen;',
        'let seen = *self.hears.borrow_and_update();',
        ("stress::bells::a_bell_that_rings_during_a_seal_is_not_forgotten",),
    ),
    Bug(
        "no-drain-for-a-new-listener",
        TAILER,
        '&& !heard_before',
        '&& !heard_before\n                && false',
        ("stress::bells::what_began_while_nobody_listened_is_seen",),
    ),
    Bug(
        "no-drain-for-a-new-sealer",
        TAILER,
        "Mode::Armed { owed: Some(Drain::begin(&connection).await?) }",
        "Mode::Armed { owed: None }",
        ("stress::bells::what_saw_a_busy_hub_is_seen_after_the_sealer_was_lost",),
    ),
    Bug(
        "number-without-the-lock",
        SEAL,
        "PERFORM pg_advisory_xact_lock(1953654136, 1);",
        "",
        ("stress::rivals::two_that_seal_at_once_number_nothing_twice",),
    ),
    Bug(
        "publish-before-the-commit",
        "src/store/hub.rs",
        "let (sealed, rows) = tokio::join!",
        'let _ = self.client.batch_execute("COMMIT; BEGIN").await; let (sealed, rows) = tokio::join!',
        ("stress::faults::what_was_published_keeps_its_number",),
    ),
    Bug(
        "stand-where-it-was-read",
        TAILER,
        "if sealed.epoch != era.epoch || sealed.revision < position.revision {",
        "self.published = Some((era.clone(), read)); if sealed.revision < read.revision {",
        (RIVALS,),
    ),
    Bug(
        "read-the-row-at-delivery",
        READ,
        "c.after::text,",
        "CASE WHEN c.after IS NOT NULL THEN coalesce((SELECT to_json(d)::text FROM public.dinosaurs d"
        " WHERE d.id = c.resource_id), c.after::text) END AS after,",
        (STRESS,),
    ),
    Bug(
        "swap-before-and-after",
        CAPTURE,
        'CASE WHEN %5$s IS NOT NULL THEN pg_catalog.to_json(b.*) END, CASE WHEN %4$s IS NOT NULL THEN pg_catalog.to_json(a.*) END,',
        'CASE WHEN %4$s IS NOT NULL THEN pg_catalog.to_json(a.*) END, CASE WHEN %5$s IS NOT NULL THEN pg_catalog.to_json(b.*) END,',
        (STRESS,),
    ),
    Bug(
        "creates-before-deletes",
        CAPTURE,
        'ORDER BY %4$s IS NULL DESC',
        'ORDER BY %4$s IS NULL',
        (STRESS,),
    ),
    Bug(
        "no-bell-for-a-hub-that-sleeps",
        CAPTURE,
        'AND NOT (CASE WHEN pg_catalog.pg_try_advisory_lock(1953654136, 3)',
        'AND (CASE WHEN pg_catalog.pg_try_advisory_lock(1953654136, 3)',
        (STRESS,),
    ),
    Bug(
        "no-second-look-before-sleep",
        "src/broker/subscription.rs",
        'if topic.log.next() == ordinal && topic.ending().is_none() {',
        'if true {',
        (WAKEUPS,),
    ),
    Bug(
        "resume-off-by-one",
        "src/log/mod.rs",
        "partition_point(|entry| entry.revision <= revision) as u64",
        "partition_point(|entry| entry.revision < revision) as u64",
        ("lib::log::tests", STRESS),
    ),
    Bug(
        "count-a-drop-as-one",
        POSITION,
        "self.untold += missed;",
        "self.untold += missed.min(1);",
        (BLOCKED, WINDOW),
    ),
    Bug(
        "count-what-was-not-wanted",
        POSITION,
        'log.count(ordinal..target, &interest.selector)',
        'target - ordinal',
        (BLOCKED, WINDOW),
    ),
    Bug(
        "do-not-tell-the-drop",
        POSITION,
        "frame::varint_field(DROPPED_BEFORE, std::mem::take(&mut self.untold))",
        "frame::varint_field(DROPPED_BEFORE, std::mem::take(&mut self.untold) * 0)",
        (BLOCKED, WINDOW),
    ),
    Bug(
        "trim-without-moving-who-stands-there",
        "src/broker/topic.rs",
        'Place::Live { ordinal } if ordinal < floor',
        'Place::Live { ordinal } if ordinal < floor.min(1)',
        (WINDOW,),
    ),
    Bug(
        "hand-over-off-by-one",
        "src/broker/topic.rs",
        "match self.log.first_after(position.revision) {",
        "match self.log.first_after(position.revision.next()) {",
        ("history::a_slow_watch_that_catches_up_loses_nothing", "lib::broker::tests"),
    ),
    Bug(
        "bookmark-too-early",
        "src/broker/subscription.rs",
        "Place::Live { ordinal } if ordinal >= next =>",
        "Place::Live { ordinal } if ordinal >= next.saturating_sub(1_000) =>",
        ("bookmarks::bookmarks_are_true_under_load_and_can_be_resumed_from", "lib::broker::tests"),
    ),
    Bug(
        "seal-beyond-the-snapshot-of-the-state",
        "src/store/snapshot.rs",
        "hub.seal($1::text::pg_snapshot)",
        "hub.seal(nullif($1::text, $1::text)::pg_snapshot)",
        ("state::the_state_and_what_follows_it_are_exact_under_load",),
    ),
    Bug(
        "a-page-that-begins-at-the-floor-without-a-word",
        "src/broker/history.rs",
        "if revision < self.after {",
        "if revision < Revision::ZERO {",
        ("history::a_watch_whose_next_page_is_compacted_in_part_is_told",),
    ),
    Bug(
        "memory-of-one-connection-sent-to-the-next",
        "src/server/outbox.rs",
        "            spare.clear();\n",
        "",
        ("lib::server::outbox::tests",),
    ),
    Bug(
        "a-full-socket-forgets-what-it-took",
        "src/server/outbox.rs",
        "sent => self.sent += sent,",
        "_ => self.sent = self.waiting.len(),",
        ("lib::server::outbox::tests",),
    ),
    Bug(
        "a-stream-that-reads-is-held-to-its-buffer",
        "src/broker/topic.rs",
        "now.saturating_sub(position.polled_at) > blocked_after",
        "now.saturating_sub(position.polled_at) < u64::MAX",
        ("burst::a_burst_in_one_transaction_reaches_all_who_read",),
    ),
]
