//! Why a controller failed.

use crate::{
    error::{Error, chain},
    store::{DatabaseError, Fault, SealError},
};

/// A controller's failure.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// A fault of this change alone: it becomes a dead letter, and the others go on.
    #[error("{0}")]
    Change(String),
    /// A fault of the environment: no other change would fare better. All wait, in order, and are retried.
    #[error("{0}")]
    World(String),
}

impl From<DatabaseError> for HandlerError {
    /// A refusal by the database is the change's fault, unless the database itself is at fault.
    fn from(error: DatabaseError) -> Self {
        match error.fault() {
            Fault::Unavailable | Fault::Locked | Fault::Serialization | Fault::History => {
                Self::World(error.to_string())
            }
            Fault::Timeout | Fault::Taken | Fault::Row | Fault::Encoding | Fault::Internal => {
                Self::Change(error.to_string())
            }
        }
    }
}

impl From<tokio_postgres::Error> for HandlerError {
    fn from(error: tokio_postgres::Error) -> Self {
        DatabaseError::from(error).into()
    }
}

impl From<Error> for HandlerError {
    fn from(error: Error) -> Self {
        Self::World(chain(&error))
    }
}

impl From<SealError> for HandlerError {
    fn from(error: SealError) -> Self {
        Self::World(chain(&error))
    }
}
