//! The watch contract, for a table that nobody compiled.

use super::{attach, everything, hub_of, next, reason, short, take, watch, watches};
use crate::support::Database;
use tonic::Code;
use trex::{
    proto::hub::v1::{NumberFormat, WatchRequest},
    store::AttachChoice,
};

const ORDERS: &str = r#"CREATE TABLE orders (id bigint PRIMARY KEY, status text, total numeric, doc json,
                          secret text, big bigint[])"#;

#[tokio::test]
async fn a_table_is_watched_as_it_is() {
    let database = Database::create().await;
    let hub = hub_of(&database, ORDERS, "public.*").await;
    let session = database.connect().await;
    let request = WatchRequest { include_previous: true, ..everything("Orders") };
    let mut live = watch(&hub, request).await;
    session
        .batch_execute(
            "BEGIN; SET LOCAL hub.actor = 'ann'; SET LOCAL hub.trace = 't1';
             INSERT INTO orders VALUES (7, 'open', 12.50, E'{\"a\" :\\r\\n 1}', 's',
               '{9007199254740993,NULL}'), (8, NULL, 'NaN', NULL, NULL, NULL); COMMIT;
             UPDATE orders SET status = 'paid' WHERE id = 7; DELETE FROM orders WHERE id = 8",
        )
        .await
        .unwrap();
    let created = next(&mut live).await.unwrap();
    assert_eq!(short(&created), "+7");
    assert_eq!(
        created.row,
        r#"{"id":7,"status":"open","total":12.50,"doc":{"a" :   1},"secret":"s","big":[9007199254740993,null]}"#
    );
    assert_eq!((&*created.actor, &*created.trace, created.schema_version), ("ann", "t1", 1));
    assert_eq!(created.transaction_end, created.revision + 1);
    assert!(created.occurred_at.is_some());
    let second = next(&mut live).await.unwrap();
    assert_eq!((short(&second), second.transaction_end), ("+8".into(), second.revision));
    assert!(second.row.contains(r#""total":"NaN""#), "{}", second.row);
    let updated = next(&mut live).await.unwrap();
    assert_eq!(updated.previous, created.row);
    let deleted = next(&mut live).await.unwrap();
    assert_eq!((short(&deleted), &*deleted.row), ("-8".into(), ""));
    assert_eq!(deleted.previous, second.row);

    // A state, and what happens after it.
    let state = WatchRequest { send_initial_state: true, ..everything("public.orders") };
    let mut state = watch(&hub, state).await;
    let row = next(&mut state).await.unwrap();
    assert_eq!((short(&row), row.row), ("=7".into(), updated.row.clone()));
    assert_eq!(take(&mut state, 1).await, ["."]);
    session.batch_execute("DELETE FROM orders").await.unwrap();
    assert_eq!(take(&mut state, 1).await, ["-7"]);
    // A resumed watch finds all of it again.
    let resumed = WatchRequest { after_revision: Some(created.revision), ..everything("public.orders") };
    assert_eq!(take(&mut watch(&hub, resumed).await, 4).await, ["+8", "~7", "-8", "-7"]);
    hub.stop().await;
}

#[tokio::test]
async fn rows_enter_and_leave_filters_of_every_type() {
    let database = Database::create().await;
    let hub = hub_of(&database, ORDERS, "public.orders").await;
    let session = database.connect().await;
    let filter = |filter: &str| WatchRequest { filter: filter.into(), ..everything("orders") };
    let mut open = watch(&hub, filter("status = \"open\" AND total > 9999999999999999999.5")).await;
    let mut by_path = watch(&hub, filter("doc.n = 3")).await;
    session
        .batch_execute(
            "INSERT INTO orders VALUES (1, 'open', 9999999999999999999.51, '{\"n\":3}'),
             (2, 'open', 9999999999999999999.5, '{}');
             UPDATE orders SET status = NULL WHERE id = 1; UPDATE orders SET total = 1e30 WHERE id = 2;
             UPDATE orders SET doc = '{\"n\":3.0}' WHERE id = 2",
        )
        .await
        .unwrap();
    assert_eq!(take(&mut open, 4).await, ["+1", "-1", "+2", "~2"]);
    assert_eq!(take(&mut by_path, 3).await, ["+1", "~1", "+2"]);
    let mut state = watch(&hub, WatchRequest { send_initial_state: true, ..filter("id > 1") }).await;
    assert_eq!(take(&mut state, 2).await, ["=2", "."]);
    for wrong in ["nothing = 1", "id = \"x\"", "status > "] {
        let refused = watches(&hub).await.watch(filter(wrong)).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::InvalidArgument, "INVALID_FIELD".into()), "{wrong}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn columns_and_numbers_come_as_they_are_wanted() {
    let database = Database::create().await;
    let hub = hub_of(&database, ORDERS, "public.orders").await;
    let session = database.connect().await;
    session.batch_execute("INSERT INTO orders VALUES (1, 'a', 1.5, NULL, 's', '{1}')").await.unwrap();
    let request = WatchRequest {
        columns: vec!["big".into(), "status".into()],
        numbers: NumberFormat::Quoted.into(),
        include_previous: true,
        send_initial_state: true,
        ..everything("orders")
    };
    let mut streams = [watch(&hub, request.clone()).await, watch(&hub, request.clone()).await];
    for stream in &mut streams {
        assert_eq!(next(stream).await.unwrap().row, r#"{"id":"1","status":"a","big":["1"]}"#);
        assert_eq!(take(stream, 1).await, ["."]);
    }
    session.batch_execute("UPDATE orders SET big = '{2,3}'").await.unwrap();
    for stream in &mut streams {
        let event = next(stream).await.unwrap();
        assert_eq!(event.row, r#"{"id":"1","status":"a","big":["2","3"]}"#);
        assert_eq!(event.previous, r#"{"id":"1","status":"a","big":["1"]}"#);
    }
    let unknown = WatchRequest { columns: vec!["nothing".into()], ..everything("orders") };
    let refused = watches(&hub).await.watch(unknown).await.unwrap_err();
    assert!(refused.message().contains("no column nothing"), "{refused}");
    hub.stop().await;
}

#[tokio::test]
async fn what_is_kept_out_shows_nowhere() {
    let database = Database::create().await;
    let hub = hub_of(&database, ORDERS, "").await;
    let session = database.connect().await;
    let choice = AttachChoice {
        exclude: vec!["secret".into()],
        never_store: vec!["doc".into()],
        ..Default::default()
    };
    attach(&database, "orders", choice).await;
    super::until_tables(&hub, 1).await;
    let mut live = watch(&hub, WatchRequest { include_previous: true, ..everything("orders") }).await;
    session
        .batch_execute(
            "INSERT INTO orders VALUES (1, 'a', 1, '{\"x\":\"hidden\"}', 'hidden', NULL);
                           UPDATE orders SET total = 2",
        )
        .await
        .unwrap();
    for _ in 0..2 {
        let event = next(&mut live).await.unwrap();
        assert!(!format!("{event:?}").contains("hidden"), "{event:?}");
        assert!(event.row.starts_with(r#"{"id":1,"status":"a","total":"#), "{}", event.row);
    }
    let kept: String =
        session.query_one("SELECT string_agg(after::text, '') FROM hub.change", &[]).await.unwrap().get(0);
    assert!(kept.contains(r#""secret":"hidden""#) && !kept.contains("doc"), "{kept}");
    // A secret that is renamed stays one, in what is new and in what is old.
    session
        .batch_execute("ALTER TABLE orders RENAME secret TO note; UPDATE orders SET total = 3")
        .await
        .unwrap();
    assert!(!next(&mut live).await.unwrap().row.contains("hidden"));
    let state = WatchRequest { send_initial_state: true, ..everything("orders") };
    assert!(!next(&mut watch(&hub, state).await).await.unwrap().row.contains("hidden"));
    for filter in ["secret = \"hidden\"", "note = \"hidden\""] {
        let request = WatchRequest { filter: filter.into(), ..everything("orders") };
        if filter.starts_with("secret") {
            assert!(watches(&hub).await.watch(request).await.is_err(), "{filter}");
        }
    }
    hub.stop().await;
}
