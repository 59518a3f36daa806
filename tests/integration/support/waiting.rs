//! Waiting for a condition, within one bound for all tests.

use std::{
    fmt::{Debug, Display},
    sync::LazyLock,
    time::{Duration, Instant},
};
use tokio_postgres::{Client, types::ToSql};

/// Nothing in a test takes this long unless it is broken. What plants bugs shortens it.
pub static PATIENCE: LazyLock<Duration> = LazyLock::new(|| {
    let seconds = std::env::var("TREX_TEST_PATIENCE").ok().map(|seconds| seconds.parse().expect("seconds"));
    Duration::from_secs(seconds.unwrap_or(60))
});

/// Between two looks at what nothing announces.
const LOOK: Duration = Duration::from_millis(5);

/// Waits for a condition that nothing announces.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    until_true(what, async || condition()).await;
}

/// The same for a condition that has to be asked for.
pub async fn until_true(what: impl Display, mut condition: impl AsyncFnMut() -> bool) {
    until_ok(what, async || if condition().await { Ok(()) } else { Err("not yet") }).await;
}

/// Waits until there is an answer, and returns it. An error is why it is not there yet, and is shown if it
/// never comes.
pub async fn until_ok<T, E: Debug>(what: impl Display, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + *PATIENCE;
    loop {
        match look().await {
            Ok(answer) => return answer,
            Err(why) => assert!(Instant::now() < deadline, "{what}: not within {:?}, but {why:?}", *PATIENCE),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the database says so: until the first column of a query's first row is true.
pub async fn until_sql(session: &Client, what: &str, sql: &str, parameters: &[&(dyn ToSql + Sync)]) {
    until_true(what, async || {
        session.query_opt(sql, parameters).await.expect("an answer").is_some_and(|row| row.get(0))
    })
    .await;
}
