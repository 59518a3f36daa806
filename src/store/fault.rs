//! Classifies failures of the database. SQLSTATEs are judged here and nowhere else.

use super::SealError;
use crate::{
    error::{Error, chain},
    model::KindName,
};
use std::{error::Error as _, fmt, str::Utf8Error, string::FromUtf8Error, time::Duration};
use tokio_postgres::{
    error::{DbError, SqlState},
    types::{WasNull, WrongType},
};

/// The SQLSTATE by which `hub.seal()` says that this is not the same database as before.
const HISTORY: &str = "TX001";
/// After how long to retry what the database cannot do now.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The class of a failure, which decides what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection or the server: lost, shutting down, out of resources, a standby. Try again later.
    Unavailable,
    /// The statement ran into its time limit, or was cancelled.
    Timeout,
    /// Another session holds a lock for longer than this one may wait.
    Locked,
    /// A serialization failure or a deadlock. Nothing of the transaction was done: try again at once.
    Serialization,
    /// A row with this key exists already.
    Taken,
    /// The row or the statement: the database, or a trigger of the application, refuses it. Others are not
    /// affected, and trying again does not help.
    Row,
    /// A text that the database's encoding, or UTF-8, cannot represent. As a value of a row it is that row's
    /// fault; as a value to look for, no row has it.
    Encoding,
    /// It is not the same database as before.
    History,
    /// The hub's own statements, or the server's own consistency.
    Internal,
}

impl Fault {
    /// The class of a failure of the driver.
    pub fn of(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(answer) => Self::of_sqlstate(answer.code().code()),
            None => Self::of_driver(error),
        }
    }

    fn of_driver(error: &tokio_postgres::Error) -> Self {
        match error.source() {
            Some(cause) if cause.is::<Utf8Error>() || cause.is::<FromUtf8Error>() => Self::Encoding,
            Some(cause) if cause.is::<WrongType>() || cause.is::<WasNull>() => Self::Internal,
            // A socket, a handshake, a limit of the driver.
            _ => Self::Unavailable,
        }
    }

    fn of_sqlstate(code: &str) -> Self {
        match code {
            HISTORY => Self::History,
            "57014" => Self::Timeout,
            "55P03" => Self::Locked,
            "40001" | "40P01" => Self::Serialization,
            "23505" => Self::Taken,
            // A value for a generated column.
            "428C9" => Self::Row,
            // Characters without an equivalent, and bytes that are no character.
            "22P05" | "22021" => Self::Encoding,
            // Read-only, or in the wrong state: a standby, before or after a failover. Sessions that were
            // idle or open for too long.
            "25006" | "55000" | "25P03" | "25P04" | "40003" => Self::Unavailable,
            _ => match code.get(..2).unwrap_or_default() {
                // Connections, logins, databases, resources, and errors outside Postgres.
                "08" | "28" | "3D" | "53" | "58" => Self::Unavailable,
                "57" if code.starts_with("57P") => Self::Unavailable,
                // Statements that are wrong or not allowed; transactions, cursors, prepared statements; files
                // and internal errors.
                "0A" | "24" | "25" | "26" | "2B" | "2D" | "34" | "3B" | "3F" | "40" | "42" | "55" | "57"
                | "72" | "F0" | "XX" => Self::Internal,
                // Data, constraints, program limits, what functions raise, errors of foreign tables, and
                // codes that an application invents.
                _ => Self::Row,
            },
        }
    }
}

/// A failure of the database as it is shown: the server's message, its SQLSTATE and its hint. The detail
/// stays out: it quotes rows.
#[derive(Debug)]
pub struct DatabaseError(tokio_postgres::Error);

/// With which `hub.refuse_unseen` says that a row would not be seen by who writes it.
const UNSEEN: &str = "TX003";

impl DatabaseError {
    /// What it is about.
    pub fn fault(&self) -> Fault {
        Fault::of(&self.0)
    }

    /// The server's message; `None`: the connection or the driver failed.
    pub fn answer(&self) -> Option<&DbError> {
        self.0.as_db_error()
    }

    /// The error of a write of a row of this kind.
    pub(super) fn of_a_row(self, kind: &KindName) -> Error {
        self.refusal(kind).unwrap_or_else(|| self.into())
    }

    /// The error of a write that the database refuses because of its row, of this kind. `None`: the row is
    /// not at fault.
    ///
    /// Only for statements on the application's tables. Their triggers and policies may choose any SQLSTATE.
    pub fn refusal(&self, kind: &KindName) -> Option<Error> {
        let answer = self.answer()?;
        if answer.code().code() == UNSEEN {
            let why = "the row would be one that the policy does not let you see".into();
            return Some(Error::Denied { why, revoked: false });
        }
        let in_a_function = answer.where_().is_some_and(|context| !context.is_empty());
        match self.fault() {
            Fault::Taken => return Some(Error::AlreadyExists { kind: kind.clone() }),
            Fault::Row | Fault::Encoding => {}
            Fault::Internal if in_a_function || answer.routine() == Some("ExecWithCheckOptions") => {}
            Fault::Unavailable
                if in_a_function && *answer.code() == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => {}
            _ => return None,
        }
        tracing::debug!(error = %self, "the database refuses a row");
        Some(Error::Refused {
            sqlstate: answer.code().code().to_owned(),
            constraint: answer.constraint().map(str::to_owned),
            message: answer.message().to_owned(),
        })
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(answer) = self.answer() else { return f.write_str(&chain(&self.0)) };
        write!(f, "{} (SQLSTATE {})", answer.message(), answer.code().code())?;
        answer.hint().map_or(Ok(()), |hint| write!(f, "; hint: {hint}"))
    }
}

/// Its message includes its causes.
impl std::error::Error for DatabaseError {}

/// Whether a statement has failed because of a text that the database's encoding, or UTF-8, cannot say.
pub(super) fn is_about_encoding(error: &Error) -> bool {
    match error {
        Error::Refused { sqlstate, .. } => Fault::of_sqlstate(sqlstate) == Fault::Encoding,
        Error::Internal(cause) => {
            let cause = cause.downcast_ref::<DatabaseError>();
            cause.is_some_and(|cause| cause.answer().is_some() && cause.fault() == Fault::Encoding)
        }
        _ => false,
    }
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(error)
    }
}

impl From<DatabaseError> for Error {
    fn from(error: DatabaseError) -> Self {
        let unavailable = |why| Self::Unavailable { why, retry_after: RETRY_AFTER };
        match error.fault() {
            Fault::Unavailable | Fault::Locked | Fault::Serialization | Fault::History => {
                tracing::warn!(%error, "the database is not available");
                unavailable(match error.answer() {
                    Some(_) => "the database is not available",
                    None => "the database does not answer",
                })
            }
            Fault::Timeout => Self::DeadlineExceeded,
            Fault::Taken | Fault::Row | Fault::Encoding | Fault::Internal => Self::Internal(error.into()),
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        DatabaseError(error).into()
    }
}

impl From<SealError> for Error {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Database(error) => error.into(),
            SealError::Silent | SealError::History(_) | SealError::Encoding(_) => {
                tracing::warn!(%error, "the log cannot be read");
                Self::Unavailable { why: "the database is not available", retry_after: RETRY_AFTER }
            }
            SealError::EpochChanged { current } => Self::EpochChanged { current },
            SealError::Compacted { .. } | SealError::Corrupt(_) => Self::Internal(error.into()),
        }
    }
}

impl From<deadpool_postgres::PoolError> for Error {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        use deadpool_postgres::{HookError, PoolError};
        match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => error.into(),
            error => {
                tracing::warn!(%error, "no database connection");
                Self::Unavailable { why: "no database connection is free", retry_after: RETRY_AFTER }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn a_sqlstate_is_about_one_thing() {
        let judged = [
            (
                Fault::Row,
                &[
                    "P0001", "PT422", "PT500", "22001", "22P02", "23514", "23503", "23P01", "44000", "HV000",
                    "54000", "21000", "27000", "38000", "39000", "2F000", "ZZ999", "",
                ][..],
            ),
            (Fault::Taken, &["23505"]),
            (Fault::Encoding, &["22P05", "22021"]),
            (Fault::Serialization, &["40001", "40P01"]),
            (
                Fault::Unavailable,
                &[
                    "08006", "28P01", "3D000", "53300", "53100", "57P01", "57P03", "58030", "25006", "25P03",
                    "55000",
                ],
            ),
            (Fault::Locked, &["55P03"]),
            (Fault::Timeout, &["57014"]),
            (Fault::History, &["TX001"]),
            (Fault::Internal, &["42P01", "42703", "0A000", "XX000", "XX001", "25P02", "F0000"]),
        ];
        for (fault, codes) in judged {
            for code in codes {
                assert_eq!(Fault::of_sqlstate(code), fault, "{code}");
            }
        }
    }
}
