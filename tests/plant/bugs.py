"""The bugs: what is replaced by what, and which tests must see it."""

from dataclasses import dataclass

STRESS = "stress::every_change_comes_once_and_in_order_through_load_and_calm"
RIVALS = "stress::rivals"
WINDOW = "slow_reader::a_reader_that_the_window_passes_is_told_what_it_lost"
BLOCKED = "slow_reader::a_blocked_reader_is_told_what_it_lost"
WAKEUPS = "lib::broker::tests"
MIXED = "delays::large::each_kind_stays_in_order_through_large_transactions_and_lost_connections"
POISONED = "controllers::letters::a_poisoned_resource_holds_up_only_itself"

FILTERED = "filters::streams::what_a_filter_shows_keeps_every_promise"
LISTED = "filters::lists::the_database_and_the_hub_agree_on_every_filter"

RANGES = "src/store/schema/functions/finished_between.sql"
SEAL = "src/store/schema/functions/seal.sql"
CAPTURE = "src/store/schema/functions/capture_template.sql"
READ = "src/store/read.sql"
TAILER = "src/feed/tailer.rs"
TAIL = "src/feed/sealed/tail.rs"
ASIDE = "src/feed/aside.rs"
POSITION = "src/broker/position.rs"
RUNNER = "src/controller/runner.rs"
VIEW = "src/broker/view.rs"


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
        RANGES,
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
        "src/feed/sealed/drain.rs",
        "if connection.oldest_running().await? > self.until {",
        "if true {",
        (STRESS,),
    ),
    Bug(
        "forget-bells-rung-during-a-round",
        TAIL,
        'let seen = self.seen;',
        'let seen = *self.hears.borrow_and_update();',
        ("stress::bells::a_bell_that_rings_during_a_seal_is_not_forgotten",),
    ),
    Bug(
        "no-drain-for-a-new-listener",
        TAIL,
        '&& self.seen.is_back_since(&heard_before)',
        '&& false',
        ("stress::bells::what_began_while_nobody_listened_is_seen",),
    ),
    Bug(
        "no-drain-for-a-new-sealer",
        TAIL,
        "Mode::Armed { owed: Some(Drain::begin(&self.log).await?) }",
        "Mode::Armed { owed: None }",
        ("stress::bells::what_saw_a_busy_hub_is_seen_after_the_sealer_was_lost",),
    ),
    Bug(
        "number-without-the-lock",
        SEAL,
        "PERFORM pg_advisory_xact_lock(hub.lock_class(), 1);",
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
        "THEN c.after::text END AS after,",
        "THEN CASE WHEN c.after IS NOT NULL THEN coalesce((SELECT to_json(d)::text FROM public.dinosaurs d"
        " WHERE d.id = c.resource_id), c.after::text) END END AS after,",
        (STRESS,),
    ),
    Bug(
        "swap-before-and-after",
        CAPTURE,
        'CASE WHEN {old_key} IS NOT NULL THEN {old_row} END, CASE WHEN {new_key} IS NOT NULL THEN {new_row} END, {said}',
        'CASE WHEN {new_key} IS NOT NULL THEN {new_row} END, CASE WHEN {old_key} IS NOT NULL THEN {old_row} END, {said}',
        (STRESS,),
    ),
    Bug(
        "creates-before-deletes",
        CAPTURE,
        'ORDER BY {new_key} IS NULL DESC',
        'ORDER BY {new_key} IS NULL',
        (STRESS,),
    ),
    Bug(
        "what-triggers-changed-comes-first",
        CAPTURE,
        "PERFORM hub.put_in_order({kind}, nesting[1], nesting[2], disturbed);",
        "NULL;",
        ("capture::triggers::whatever_triggers_do_each_rows_changes_are_a_chain",),
    ),
    Bug(
        "no-bell-for-a-hub-that-sleeps",
        "src/store/schema/functions/bell_expression.sql",
        "AND NOT (CASE WHEN pg_catalog.pg_try_advisory_lock({class}, 3)",
        "AND (CASE WHEN pg_catalog.pg_try_advisory_lock({class}, 3)",
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
        "src/broker/topic.rs",
        "subscriber.view.count(&self.log, passed.ordinals.clone())",
        "Ok(passed.ordinals.end - passed.ordinals.start)",
        (BLOCKED, WINDOW),
    ),
    Bug(
        "do-not-tell-the-drop",
        POSITION,
        "std::mem::take(&mut self.untold)",
        "std::mem::take(&mut self.untold) * 0",
        (BLOCKED, WINDOW),
    ),
    Bug(
        "trim-without-moving-who-stands-there",
        "src/broker/topic.rs",
        '.is_some_and(|ordinal| ordinal < floor)',
        '.is_some_and(|ordinal| ordinal < floor.min(1))',
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
        "Next::Events(ordinal) if ordinal >= next && !position.conflates() =>",
        "Next::Events(ordinal) if ordinal >= next.saturating_sub(1_000) && !position.conflates() =>",
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
        "an-update-that-enters-stays-an-update",
        "src/model/filter/evaluate.rs",
        "(Verdict::Enters, ChangeType::Created, Which::New)",
        "(Verdict::Same, ChangeType::Updated, Which::New)",
        (FILTERED, "lib::broker::tests"),
    ),
    Bug(
        "a-row-that-leaves-is-not-missed",
        "src/model/filter/evaluate.rs",
        "let old = matches!(change, ChangeType::Updated | ChangeType::Deleted)",
        "let old = matches!(change, ChangeType::Deleted)",
        (FILTERED, "lib::broker::tests"),
    ),
    Bug(
        "a-row-that-left-is-still-shown",
        "src/wire/grpc.rs",
        "if seen.change != ChangeType::Deleted {",
        "if true {",
        (FILTERED, "lib::broker::tests"),
    ),
    Bug(
        "types-before-the-filter",
        VIEW,
        "Verdict::Leaves => ChangeType::Deleted,",
        "Verdict::Leaves => ChangeType::Updated,",
        (FILTERED, "lib::broker::tests"),
    ),
    Bug(
        "judged-by-every-subscriber",
        "src/broker/filters.rs",
        "Some(verdict) => Ok(verdict),\n            None => {",
        "_ => {",
        ("filters::watches::a_hundred_subscribers_with_five_filters_cost_five_evaluations_an_event",),
    ),
    Bug(
        "the-newest-stands-for-itself",
        "src/broker/conflation.rs",
        "stands_for += older.stands_for;",
        "stands_for += older.stands_for * 0;",
        ("lib::broker::tests", "slow_reader::latest::a_blocked_reader_gets_the_newest"),
    ),
    Bug(
        "the-older-comes-too",
        "src/broker/conflation.rs",
        "self.events.remove(newest)",
        "self.events.get(newest)",
        ("lib::broker::tests", "slow_reader::latest::a_blocked_reader_gets_the_newest"),
    ),
    Bug(
        "a-conflation-under-way-is-a-position",
        "src/broker/subscription.rs",
        "_ => position.complete_up_to(),",
        "_ => position.revision,",
        ("lib::broker::tests",),
    ),
    Bug(
        "null-is-not-false",
        "src/store/condition.rs",
        '({} IS NOT TRUE)',
        '(NOT {})',
        (LISTED,),
    ),
    Bug(
        "compare-as-the-database-collates",
        "src/store/condition.rs",
        'ValueType::Text | ValueType::Padded | ValueType::Enum(_) | ValueType::Other => {\n                self.text(field, &column, test)',
        'ValueType::Text | ValueType::Padded | ValueType::Enum(_) | ValueType::Other => {\n                self.compared(&column, test, "text")',
        (LISTED,),
    ),
    Bug(
        "wildcards-of-like-in-a-text",
        "src/store/condition.rs",
        ".replace('_', r\"\\_\")",
        "",
        (LISTED,),
    ),
    Bug(
        "a-page-that-begins-at-the-floor-without-a-word",
        "src/broker/history.rs",
        "if revision < self.after {",
        "if revision < Revision::ZERO {",
        ("history::a_watch_whose_next_page_is_compacted_in_part_is_told",),
    ),
    Bug(
        "a-stream-that-was-overtaken-writes-on",
        "src/store/bulk.rs",
        "AND generation = {generation} AND",
        "AND {generation}::bigint > 0 AND",
        ("bulk::resuming::of_two_streams_the_newer_goes_on",),
    ),
    Bug(
        "of-equal-ids-in-a-batch-the-last-is-created",
        "src/store/bulk.rs",
        "WHERE key IS NOT NULL ORDER BY at",
        "WHERE key IS NOT NULL ORDER BY at DESC",
        ("bulk::bad_items::one_in_a_hundred_of_an_import_and_duplicate_ids",),
    ),
    Bug(
        "failures-from-after-what-was-handled",
        "src/store/bulk.rs",
        "WHERE import = $1 AND index >= $2",
        "WHERE import = $1 AND index > $2",
        ("bulk::resuming::failures_are_repeated_from_what_the_client_has_handled",),
    ),
    Bug(
        "an-expired-import-is-begun-anew",
        "src/store/bulk.rs",
        "let rows = if acknowledged == 0 {",
        "let rows = if acknowledged < u64::MAX {",
        ("bulk::resuming::an_import_that_is_less_far_than_its_client_is_not_begun_anew",),
    ),
    Bug(
        "an-item-that-does-not-decode-ends-the-stream",
        "src/faces/grpc/bulk.rs",
        "=> Ok(Err(Error::Undecodable(why))),",
        "=> Err(Error::Undecodable(why)),",
        ("bulk::bad_items::one_in_a_hundred_of_a_bulk_creation",),
    ),
    Bug(
        "a-trickle-waits-for-a-full-batch",
        "src/service/import/session.rs",
        "(self.last + IDLE).min(self.first + OLDEST)",
        "(self.last + IDLE).max(self.first + OLDEST)",
        ("bulk::create::a_steady_trickle_is_committed_too",),
    ),
    Bug(
        "a-deadlock-ends-an-import",
        "src/service/import/writer.rs",
        "const ATTEMPTS: u32 = 10;",
        "const ATTEMPTS: u32 = 1;",
        ("bulk::fairness::a_deadlock_does_not_end_an_import",),
    ),
    Bug(
        "a-stream-is-read-however-full-it-is",
        "src/service/import/session.rs",
        "if open && !full =>",
        "if open && (!full || full) =>",
        ("bulk::fairness::a_stream_is_read_no_further_than_two_batches",),
    ),
    Bug(
        "do-not-send-again-what-was-not-acknowledged",
        "src/client/import.rs",
        "        self.sent = 0;\n        Ok(moved)",
        "        Ok(moved)",
        ("lib::client::import::tests",),
    ),
    Bug(
        "pass-over-one-more-than-was-decided",
        "src/client/import.rs",
        "if self.offered >= self.decided {",
        "if self.offered > self.decided {",
        ("lib::client::import::tests",),
    ),
    Bug(
        "list-the-last-reject-again",
        "src/cli/import/rejects.rs",
        "if reject.line <= self.last_line {",
        "if reject.line < self.last_line {",
        ("lib::cli::import::rejects::tests",),
    ),
    Bug(
        "take-half-a-line-for-a-line",
        "src/cli/import/records.rs",
        "Err(error) if error.kind() == io::ErrorKind::Interrupted => {}",
        "Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(&[]),\n"
        "            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}",
        ("lib::cli::import::records::tests",),
    ),
    Bug(
        "a-trigger-refuses-what-is-known-of-its-items",
        "src/store/bulk.rs",
        "if rows.is_empty() {",
        "if rows.len() > i64::MAX as usize {",
        ("bulk::refusals::a_trigger_that_refuses_every_statement_rejects_every_item",),
    ),
    Bug(
        "a-deferrable-key-blocks-an-import",
        "src/store/bulk.rs",
        'routine == "ExecCheckIndexConstraints",',
        'routine == "infer_arbiter_indexes",',
        ("bulk::refusals::an_item_that_the_database_refuses_in_its_own_way_is_rejected_alone",),
    ),
    Bug(
        "guess-at-broken-quoting",
        "src/cli/import/csv.rs",
        "(State::Closed, _) if self.quoting == Quoting::Strict => {",
        "(State::Closed, _) if self.quoting != self.quoting => {",
        ("import_cli::rejects::broken_quoting_costs_its_line_only",),
    ),
    Bug(
        "a-line-of-a-long-field-is-a-record",
        "src/cli/import/records.rs",
        "let Some(why) = why else {",
        "let Some(why) = why.or(Some(String::new())) else {",
        ("lib::cli::import::records::tests",),
    ),
    Bug(
        "make-an-id-for-an-empty-one",
        "src/cli/import/format.rs",
        "Ok(Object { id: Some(id), .. }) if id.is_empty() =>",
        "Ok(Object { id: Some(id), .. }) if id.len() > usize::MAX - 1 =>",
        ("import_cli::export::a_row_comes_in_as_it_was_or_is_rejected",),
    ),
    Bug(
        "import-what-is-added-meanwhile",
        "src/cli/import/source.rs",
        "let size = file.metadata()?.len();",
        "let size = file.metadata()?.len() + 290;",
        ("import_cli::resume::of_a_file_that_grows_the_part_that_was_named_is_imported_and_the_rest_is_told",),
    ),
    Bug(
        "more-small-frames-ahead-than-the-library-bears",
        "src/server/lanes.rs",
        "const STREAM_WINDOW: u32 = 64 * 1024;\nconst CONNECTION_WINDOW: u32 = 16 << 20;",
        "const STREAM_WINDOW: u32 = 256 * 1024;\nconst CONNECTION_WINDOW: u32 = 4 << 20;",
        ("small_frames",),
    ),
    Bug(
        "a-bookmark-that-goes-back",
        "src/broker/subscription.rs",
        "position.revision = position.revision.max(revision);\n        let mut bookmark",
        "let mut bookmark",
        ("lib::broker::tests",),
    ),
    Bug(
        "hold-up-other-kinds",
        ASIDE,
        "(LARGE..HUGE).contains(",
        "(HUGE..HUGE).contains(",
        ("delays::large::a_large_transaction_of_one_kind_holds_up_no_other",),
    ),
    Bug(
        "publish-twice-what-is-read-aside",
        ASIDE,
        "filter(|kind| !is_aside(kind))",
        "filter(|kind| !is_aside(kind) || true)",
        (MIXED,),
    ),
    Bug(
        "take-a-kind-back-before-it-is-there",
        ASIDE,
        "returned(last.await)?;",
        "drop(last);",
        ("delays::large::a_large_transaction_of_one_kind_holds_up_no_other",),
    ),
    Bug(
        "go-on-aside-from-where-the-tailer-is",
        TAILER,
        "self.asides.add(era, held_up, before, transaction.end);",
        "self.asides.add(era, held_up, touched.end, transaction.end);",
        (MIXED,),
    ),
    Bug(
        "an-epoch-beside-retention",
        "src/store/hub/epoch.rs",
        "[HubLock::Seal, HubLock::Compaction].map",
        "[HubLock::Seal].map",
        ("epoch::a_new_epoch_waits_for_retention",),
    ),
    Bug(
        "an-epoch-for-every-hub",
        "src/store/schema/functions/begin_epoch.sql",
        "(NOT force OR served = ANY (before.replaces))",
        "NOT force",
        ("epoch::hubs_that_miss_the_same_history_begin_one_epoch",),
    ),
    Bug(
        "a-batch-that-ends-at-the-head",
        "src/feed/reader.rs",
        "Ok(LogPage { rows, upto: self.position.revision })",
        "Ok(LogPage { rows, upto: self.head })",
        ("read_events::a_reader_that_is_restarted_at_random_gets_every_event_once",),
    ),
    Bug(
        "read-on-in-another-epoch",
        "src/feed/replay.rs",
        "_ if state.epoch != *epoch =>",
        "_ if false =>",
        ("read_events::a_reader_whose_history_is_replaced_is_told",),
    ),
    Bug(
        "pages-of-any-size",
        "src/store/hub/log.rs",
        "(before < bytes).then_some(row)",
        "(before < bytes * 100).then_some(row)",
        ("read_events::a_batch_is_bounded_in_bytes",),
    ),
    Bug(
        "a-reader-that-stops-with-the-hub-ends-well",
        "src/service/events.rs",
        "= self.broker.draining() {",
        "= self.broker.draining().filter(|_| false) {",
        ("read_events::a_hub_that_stops_says_so_to_those_who_read",),
    ),
    Bug(
        "who-waits-for-the-hub-is-blocked",
        "src/broker/subscription.rs",
        "subscriber.position.lock().wait = Wait::ForPage;",
        "subscriber.position.lock().wait = Wait::No;",
        ("admin::status::a_hub_whose_database_is_away_says_what_it_knows",),
    ),
    Bug(
        "forget-streams-of-a-history-that-is-over",
        "src/broker/mod.rs",
        "ended.iter().flat_map(|era| era.topics()).map(",
        "ended.iter().flat_map(|era| era.topics()).take(0).map(",
        ("admin::one_of_a_history_that_is_over_is_shown_until_it_has_noticed",),
    ),
    Bug(
        "trimming-holds-changes-back",
        "src/store/status.rs",
        "AND f.pid = l.pid)",
        "AND f.pid = 0)",
        ("admin::status::the_transaction_that_holds_changes_back_is_named",),
    ),
    Bug(
        "position-committed-before-the-effects",
        RUNNER,
        """            self.work(&turn).apply(changes, standing.letters).await?;
            turn.commit_at(end, &standing.current, &self.holder).await.map_err(HandlerError::from)
""",
        """            turn.commit_at(end, &standing.current, &self.holder).await?;
            if let Some(turn) = connection.take_turn(self.controller.name(), standing.turn + 1).await? {
                self.work(&turn).apply(changes, standing.letters).await?;
                turn.commit(&self.holder).await?;
            }
            Ok(())
""",
        ("controllers::letters::a_world_that_fails_holds_all_up_and_loses_nothing",),
    ),
    Bug(
        "dead-letter-that-does-not-park",
        "src/controller/turn.rs",
        "if letters {",
        "if letters && changes.is_empty() {",
        (POISONED,),
    ),
    Bug(
        "parked-letters-in-the-wrong-order",
        "src/store/letters.rs",
        "ORDER BY n.id LIMIT 1)",
        "ORDER BY n.id DESC LIMIT 1)",
        (POISONED,),
    ),
    Bug(
        "effects-of-a-failed-change-stay",
        "src/controller/turn.rs",
        """                self.turn.undo().await?;
                metrics.failed();""",
        """                self.turn.release().await?;
                metrics.failed();""",
        (POISONED,),
    ),
    Bug(
        "controllers-read-by-seq-alone",
        READ,
        "ORDER BY l.revision, c.seq",
        "ORDER BY c.seq",
        ("controllers::audit::it_has_every_change_once_and_in_order_though_its_hubs_die",),
    ),
    Bug(
        "turn-without-a-fence",
        "src/store/controller.rs",
        "WHERE name = $1 AND turn = $2",
        "WHERE name = $1 AND turn >= $2",
        ("controllers::leases::a_hub_that_freezes_in_a_turn_is_freed_from_it",),
    ),
    Bug(
        "slow-taken-for-frozen",
        RUNNER,
        "async move { connection.stay_awake().await }",
        "async move { std::future::pending::<()>().await; connection.stay_awake().await }",
        ("controllers::leases::one_that_is_slow_or_panics_or_hangs_is_not_taken_for_frozen",),
    ),
    Bug(
        "gap-without-a-word",
        "src/controller/audit.rs",
        "Ok(turn.record_gap(gap).await?)",
        "if gap.after < gap.resume { turn.record_gap(gap).await? };\n        Ok(())",
        ("controllers::gaps::a_new_epoch_is_bridged_and_told",),
    ),
    Bug(
        "actor-that-sticks-to-the-connection",
        "src/store/lease.rs",
        "set_config('hub.actor', coalesce($1, ''), true), set_config('hub.trace'",
        "set_config('hub.actor', coalesce($1, ''), false), set_config('hub.trace'",
        ("controllers::attribution::who_calls_is_recorded_where_the_hub_is_told_to_believe_it",),
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
        ("lib::broker::tests::only_a_blocked_stream_is_held_to_its_buffer",),
    ),
    Bug(
        "an-idle-stream-is-blocked",
        POSITION,
        "if self.wait == Wait::ForEvents ||",
        "if",
        ("lib::broker::tests::blocked::a_stream_that_was_idle_is_not_blocked",),
    ),
    Bug(
        "an-early-call-fails-at-once",
        "src/service/mod.rs",
        'None => self.soon(call, "the hub has not seen its database yet", self.broker.first_era()).await,',
        'None => Err(Error::Unavailable { why: "too early", retry_after: RETRY_AFTER }),',
        ("api::early::a_call_waits_for_the_hub_to_see_its_database",),
    ),
    Bug(
        "a-trail-that-has-not-begun-is-none",
        "src/service/audit.rs",
        "if !self.keeps_audit {",
        "if self.keeps_audit || !self.keeps_audit {",
        ("api::early::a_trail_that_this_hub_keeps_is_waited_for",),
    ),
    Bug(
        "ready-before-the-triggers-were-looked-at",
        "src/health.rs",
        "if self.database && !self.inspected {",
        "if false {",
        ("lib::health::tests",),
    ),
    Bug(
        "the-audit-service-takes-no-gzip",
        "src/faces/grpc/services.rs",
        "max_decoding_message_size(max_message_bytes).accept_compressed(CompressionEncoding::Gzip)",
        "max_decoding_message_size(max_message_bytes)",
        ("api::compression::every_service_takes_gzip",),
    ),
    Bug(
        "a-body-outlives-its-deadline",
        "src/server/call.rs",
        "let frame = if deadline.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {",
        "let frame = if deadline.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready() && false) {",
        ("api::deadlines::a_watch_ends_with_its_deadline",),
    ),
    Bug(
        "the-replication-trigger-fires-in-ordinary-sessions",
        CAPTURE,
        "OPERATOR(pg_catalog.<>) 'replica' THEN RETURN NULL",
        "OPERATOR(pg_catalog.=) 'nothing' THEN RETURN NULL",
        ("capture::strangers::no_state_of_the_triggers_captures_twice",),
    ),
    Bug(
        "rows-are-compared-as-jsonb",
        "src/store/schema/functions/put_in_order.sql",
        "c.before::text, row_number() OVER chain",
        "c.before::jsonb::text, row_number() OVER chain",
        ("capture::strangers::escapes_that_no_text_can_hold_do_not_fail_their_writer",),
    ),
    Bug(
        "the-session-stays-in-utc",
        CAPTURE,
        "set_config('TimeZone', zone, true)",
        "set_config('TimeZone', 'UTC', true)",
        ("capture::statements::instants_are_in_utc_and_the_session_keeps_its_zone",),
    ),
    Bug(
        "large-rows-are-not-looked-at",
        "src/store/schema/functions/row_expression.sql",
        "OPERATOR(pg_catalog.<=) 16384",
        "OPERATOR(pg_catalog.<=) 1638400000",
        ("capture::strangers::a_row_that_is_too_large_comes_without_itself_and_its_writer_goes_on",),
    ),
    Bug(
        "an-unlogged-table-is-no-fault",
        "src/store/schema/functions/capture_faults.sql",
        "c.relpersistence <> 'p'",
        "c.relpersistence = 't'",
        ("capture::strangers::a_table_that_a_crash_would_empty_is_a_fault",),
    ),
    Bug(
        "names-of-the-key-are-not-compared",
        "src/store/schema/functions/names_are.sql",
        "IS NOT DISTINCT FROM quote_ident(name)",
        "IS NOT NULL",
        ("capture::strangers::renamed_and_exchanged_key_columns_stop_no_writer",),
    ),
    Bug(
        "truncated-rows-that-nobody-saw",
        "src/store/schema/functions/truncated_unseen.sql",
        "c.seq < t.seq",
        "c.seq < 0",
        ("capture::statements::truncate_of_rows_that_its_snapshot_does_not_see_begins_a_new_history",),
    ),
    Bug(
        "a-pooler-goes-unnoticed",
        "src/store/pooler.rs",
        "(number == connection) == (*known == Some(session))",
        "number < 9",
        ("poolers::nothing_is_left_on_the_sessions_of_a_pool",),
    ),
    Bug(
        "a-setting-stays-with-a-pooled-session",
        "src/store/migrate.rs",
        "SET LOCAL quote_all_identifiers = off",
        "SET quote_all_identifiers = off",
        ("poolers::nothing_is_left_on_the_sessions_of_a_pool",),
    ),
    Bug(
        "a-sign-that-the-encoding-lacks-fails-a-search",
        "src/store/values.rs",
        "*place = None;",
        "",
        ("encodings::what_the_encoding_lacks_is_found_nowhere",),
    ),
    Bug(
        "a-row-that-is-no-text-stops-its-reader",
        "src/store/values.rs",
        "Ok(row.try_get::<_, Option<Raw<'_>>>(column)?.and_then(|raw| raw.readable()))",
        "row.try_get(column)",
        ("encodings::a_row_that_is_no_text_comes_without_itself_and_all_others_after_it",),
    ),
]
