//! Why a call of the database failed, and whether the same call may succeed soon.

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// A failed call.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection, or the database's answer.
    Postgres(tokio_postgres::Error),
    /// There was no answer in time, or no free connection.
    Late(&'static str),
    /// It is no fault of the database.
    Store(StoreError),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::Postgres(error),
            PoolError::Timeout(TimeoutType::Wait) => {
                Self::Late("all connections to the database are busy")
            }
            PoolError::Timeout(_) => Self::Late("the database did not take a connection in time"),
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                Self::Late("the connections to the database are closed")
            }
        }
    }
}

impl Fault {
    /// Tells whether the same call may succeed on another connection, or a little later.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Late(_) => true,
            Self::Store(_) => false,
            Self::Postgres(error) => match error.code() {
                Some(state) => is_temporary(state),
                // Everything but an answer: the connection failed, or could not be made. A name that
                // cannot be resolved may come back as well.
                None => !is_login_refused(error),
            },
        }
    }
}

/// Tells whether the program could not log in for a reason that waiting does not change.
fn is_login_refused(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    text.starts_with("authentication error") || text.starts_with("invalid configuration")
}

fn is_temporary(state: &SqlState) -> bool {
    // Classes: connection exceptions, transactions rolled back, out of resources except for the disk,
    // and intervention by an operator, which includes a restart.
    let class = &state.code()[..2];
    let is_class = matches!(class, "08" | "40" | "53" | "57") && *state != SqlState::DISK_FULL;
    // A standby that is about to be promoted refuses writes, and a lock was not to be had in time.
    is_class
        || *state == SqlState::READ_ONLY_SQL_TRANSACTION
        || *state == SqlState::LOCK_NOT_AVAILABLE
        || *state == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        if let Fault::Store(error) = fault {
            return error;
        }
        let is_temporary = fault.is_temporary();
        match fault {
            Fault::Store(error) => error,
            Fault::Late(why) => Self::Unreachable { source: why.into() },
            Fault::Postgres(error) if error.code() == Some(&SqlState::DISK_FULL) => Self::Full {
                source: Box::new(error),
            },
            Fault::Postgres(error) => {
                let source = described(&error).into();
                match is_temporary {
                    true => Self::Unreachable { source },
                    false => Self::Database { source },
                }
            }
        }
    }
}

/// Returns the text of an error with its causes, which the driver leaves to its caller.
fn described(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
