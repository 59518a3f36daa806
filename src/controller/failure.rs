//! Why a controller could not do what it had to.

use tokio_postgres::error::SqlState;

/// A controller's failure.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Of this change alone: it becomes a dead letter, and the others go on.
    #[error("{0}")]
    Change(String),
    /// Of the world: no other change would fare better. All wait, in order, and are tried again.
    #[error("{0}")]
    World(String),
}

impl From<tokio_postgres::Error> for Failure {
    /// What the database refuses is the change's fault, unless the database is what is at fault.
    fn from(error: tokio_postgres::Error) -> Self {
        let of_the_world = error.code().is_none_or(|code| {
            // Connections, resources, shutdowns, serialization and deadlocks; a session that was ended, a lock that was not had.
            ["08", "53", "57P", "40", "58"].iter().any(|class| code.code().starts_with(class))
                || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
                || *code == SqlState::LOCK_NOT_AVAILABLE
                || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        });
        let text = format!("{:#}", anyhow::Error::from(error));
        if of_the_world { Self::World(text) } else { Self::Change(text) }
    }
}

impl From<crate::error::Error> for Failure {
    fn from(error: crate::error::Error) -> Self {
        Self::World(format!("{:#}", anyhow::Error::from(error)))
    }
}

impl From<crate::store::SealError> for Failure {
    fn from(error: crate::store::SealError) -> Self {
        Self::World(format!("{:#}", anyhow::Error::from(error)))
    }
}
