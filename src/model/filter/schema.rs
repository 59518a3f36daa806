//! What a filter may speak of.

/// The fields of a kind: of its rows, and where its watch event has them. Numbers are those of protobuf fields.
#[derive(Debug)]
pub struct Schema {
    /// The event's field with the row.
    pub row: u32,
    /// The event's field with the row before.
    pub previous: u32,
    /// The event's field with the time of the change.
    pub occurred_at: u32,
    /// The row's fields.
    pub fields: &'static [Field],
}

/// A field of a row.
#[derive(Debug)]
pub struct Field {
    /// What it is called, in a filter and an order; the first name is the usual one.
    pub names: &'static [&'static str],
    /// What it holds.
    pub value: ValueType,
    /// Where the row's message has it: the number of a field, and within that message of another, and so on.
    pub path: &'static [u32],
    /// The table's column.
    pub column: &'static str,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// A `string`; the column's NULL is the empty one, as protobuf has it.
    Text,
    /// A `google.protobuf.Timestamp`, which may be unset.
    Time,
}

/// A value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Of [`ValueType::Text`].
    Text(&'a str),
    /// Of [`ValueType::Time`]: microseconds since 1970.
    Time(i64),
}

/// What is filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Rows as they are now.
    Rows,
    /// Events: beside the row there are `type`, `resource_id` and `occurred_at`.
    Events,
}

/// The names of the event's own fields.
pub(super) const TYPE: &str = "type";
pub(super) const RESOURCE_ID: &str = "resource_id";
pub(super) const OCCURRED_AT: &str = "occurred_at";

impl Schema {
    /// The field of this name.
    pub(super) fn field(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.names.contains(&name))
    }

    /// The usual names of what may be said in a scope, for people.
    pub(super) fn names(&self, scope: Scope) -> String {
        let own = self.fields.iter().filter_map(|field| field.names.first().copied());
        let of_event = match scope {
            Scope::Rows => &[][..],
            Scope::Events => &[TYPE, RESOURCE_ID, OCCURRED_AT],
        };
        own.chain(of_event.iter().copied()).collect::<Vec<_>>().join(", ")
    }
}
