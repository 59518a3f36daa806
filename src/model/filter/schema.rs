//! The fields that a filter may name: the columns of a table, built at run time.

use std::sync::Arc;

/// The columns of a table that may be seen.
#[derive(Debug, Default)]
pub struct Schema {
    /// In the order of the table.
    pub fields: Vec<Field>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its names in filters and orders; the first is the usual one.
    pub names: Vec<String>,
    /// The column's name in the table and in the row's JSON, without quotes.
    pub column: String,
    /// What it holds.
    pub value: ValueType,
    /// The type as SQL writes it, with its schema and quotes where they are needed, such as
    /// `pg_catalog.int8`.
    pub sql_type: String,
    /// When it is unset.
    pub unset: Unset,
    /// Whether rows can be sorted by it: its type has a default order.
    pub sortable: bool,
}

/// When a value counts as unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// When it is NULL.
    Null,
    /// As in a protobuf message: an empty text and NULL are the same, and are not present; a time outside of
    /// the years 1 to 9999 is unset.
    AsInMessages,
}

/// The type of a column, as far as filters distinguish types. For a domain, its base type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueType {
    /// `bool`.
    Bool,
    /// `int2`, `int4`, `int8`.
    Integer,
    /// `numeric`.
    Numeric,
    /// `float4`.
    Single,
    /// `float8`.
    Double,
    /// `text`, `varchar`, `name`.
    Text,
    /// `bpchar`, whose trailing blanks do not count.
    Padded,
    /// `uuid`.
    Uuid,
    /// An enum, with its labels.
    Enum(Vec<String>),
    /// `date`.
    Date,
    /// `timestamp`.
    Timestamp,
    /// `timestamptz`.
    Time,
    /// `json`.
    Json,
    /// `jsonb`.
    Jsonb,
    /// Anything else: two values are equal if their JSON texts are.
    Other,
}

impl ValueType {
    /// The type of this name in `pg_catalog`. Enums are made with their labels.
    pub fn of(name: &str) -> Self {
        match name {
            "bool" => Self::Bool,
            "int2" | "int4" | "int8" => Self::Integer,
            "numeric" => Self::Numeric,
            "float4" => Self::Single,
            "float8" => Self::Double,
            "text" | "varchar" | "name" => Self::Text,
            "bpchar" => Self::Padded,
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::Time,
            "json" => Self::Json,
            "jsonb" => Self::Jsonb,
            _ => Self::Other,
        }
    }

    /// Whether it has paths within it.
    pub fn is_json(&self) -> bool {
        matches!(self, Self::Json | Self::Jsonb)
    }
}

impl Field {
    /// A column of an attached table: NULL is unset.
    pub fn new(column: &str, value: ValueType, sql_type: &str) -> Self {
        Self {
            names: vec![column.to_owned()],
            column: column.to_owned(),
            sortable: !matches!(value, ValueType::Json | ValueType::Other),
            value,
            sql_type: sql_type.to_owned(),
            unset: Unset::Null,
        }
    }

    /// A column of a compiled kind, whose rows are messages. `names` are valid besides the column's own.
    pub fn of_message(column: &str, value: ValueType, names: &[&str]) -> Self {
        let sql_type = if value == ValueType::Time { "pg_catalog.timestamptz" } else { "pg_catalog.text" };
        let mut field = Self::new(column, value, sql_type);
        field.names.extend(names.iter().map(ToString::to_string));
        Self { unset: Unset::AsInMessages, ..field }
    }

    /// The same, of a type with an order that [`Field::new`] does not know of.
    pub fn sortable(self, sortable: bool) -> Self {
        Self { sortable, ..self }
    }
}

/// A value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A text of a message.
    Text(&'a str),
    /// A time of a message, in microseconds since 1970.
    Time(i64),
    /// As it is written in the row's JSON.
    Json(&'a str),
}

/// What is filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Rows as they are now.
    Rows,
    /// Events: besides the row's fields there are `type`, `resource_id` and `occurred_at`.
    Events,
    /// A policy of visible rows: values may be claims, such as `$sub`.
    Policy,
}

/// The names of the event's own fields.
pub(super) const TYPE: &str = "type";
pub(super) const RESOURCE_ID: &str = "resource_id";
pub(super) const OCCURRED_AT: &str = "occurred_at";

/// Names listed in an error, at most.
const TOLD: usize = 30;

impl Schema {
    /// The schema of an attached table.
    pub fn new(fields: Vec<Field>) -> Arc<Self> {
        Arc::new(Self { fields })
    }

    /// The field of this name.
    pub(super) fn field(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.names.iter().any(|known| known == name))
    }

    /// The usual names of the fields in a scope, for people.
    pub(super) fn names(&self, scope: Scope) -> String {
        let own = self.fields.iter().filter_map(|field| field.names.first().map(String::as_str));
        let of_event = match scope {
            Scope::Rows | Scope::Policy => &[][..],
            Scope::Events => &[TYPE, RESOURCE_ID, OCCURRED_AT],
        };
        let all: Vec<_> = own.chain(of_event.iter().copied()).collect();
        match all.get(..TOLD) {
            Some(first) if all.len() > TOLD => {
                format!("{} and {} more", first.join(", "), all.len() - TOLD)
            }
            _ => all.join(", "),
        }
    }
}
