//! Values that statements are given, and texts that come back.

use super::{Store, fault::is_about_encoding};
use crate::{error::Error, model::KindName};
use std::{borrow::Cow, error::Error as StdError};
use tokio_postgres::{
    Row,
    types::{FromSql, ToSql, Type},
};

/// A value that a statement is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A text; `None`: NULL.
    Text(Option<String>),
    /// Texts.
    Texts(Vec<Option<String>>),
    /// A number.
    Number(i64),
}

impl Value {
    /// A text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(Some(text.into()))
    }

    /// Texts.
    pub(super) fn texts(texts: impl IntoIterator<Item = String>) -> Self {
        Self::Texts(texts.into_iter().map(Some).collect())
    }

    /// As the driver takes it, so that nothing needs to be prepared.
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Text(text) => (text, Type::TEXT),
            Self::Texts(texts) => (texts, Type::TEXT_ARRAY),
            Self::Number(number) => (number, Type::INT8),
        }
    }

    fn texts_mut(&mut self) -> &mut [Option<String>] {
        match self {
            Self::Text(text) => std::slice::from_mut(text),
            Self::Texts(texts) => texts,
            Self::Number(_) => &mut [],
        }
    }
}

/// All of them, as the driver takes them.
pub(super) fn typed(values: &[Value]) -> Vec<(&(dyn ToSql + Sync), Type)> {
    values.iter().map(Value::typed).collect()
}

impl Store {
    /// What to look for again if a search has failed because of a text that the database's encoding cannot
    /// say: the same values, with NULL in the place of such a text. No row has it, so nothing equals it.
    pub(super) async fn sayable<T>(
        &self,
        found: &Result<T, Error>,
        values: &[Value],
    ) -> Result<Option<Vec<Value>>, Error> {
        if !found.as_ref().is_err_and(is_about_encoding) {
            return Ok(None);
        }
        let mut values = values.to_vec();
        let mut changed = false;
        for place in values.iter_mut().flat_map(Value::texts_mut) {
            if let Some(text) = place
                && !self.can_say(text).await?
            {
                *place = None;
                changed = true;
            }
        }
        Ok(changed.then_some(values))
    }

    /// The words for a statement on one row that has failed: an id that the database's encoding cannot say is
    /// nobody's.
    pub(super) async fn nobodys(&self, kind: &KindName, id: &str, error: Error) -> Error {
        if is_about_encoding(&error) && matches!(self.can_say(id).await, Ok(false)) {
            return Error::NotFound { kind: kind.clone(), id: id.to_owned() };
        }
        error
    }

    /// Whether the database's encoding has all signs of a text.
    async fn can_say(&self, text: &str) -> Result<bool, Error> {
        if text.is_ascii() {
            return Ok(!text.contains('\0'));
        }
        match self.run_once("can say", "SELECT $1 IS NULL", &[(&text, Type::TEXT)]).await {
            Ok(_) => Ok(true),
            Err(error) if is_about_encoding(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A text as the server has sent it. A database checks what it takes in, but for what functions and casts of
/// its superuser let in: that may be no UTF-8.
pub(super) struct Raw<'a>(&'a [u8]);

impl<'a> Raw<'a> {
    /// The text; `None`: it is none.
    pub(super) fn readable(&self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }

    /// The text, with a sign for what is none.
    pub(super) fn legible(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.0)
    }
}

/// A column's text; `None`: it is NULL, or no UTF-8.
pub(super) fn readable(row: &Row, column: usize) -> Result<Option<&str>, tokio_postgres::Error> {
    Ok(row.try_get::<_, Option<Raw<'_>>>(column)?.and_then(|raw| raw.readable()))
}

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::TEXT
    }
}
