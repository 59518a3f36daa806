//! The order of a list: fields with `asc` or `desc`, separated by commas (AIP-132).

use super::{Fault, MAX_BYTES, Schema, Scope, check::unknown};

/// A field to sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The place of the field in the schema.
    pub field: usize,
    /// Whether the greatest comes first.
    pub descending: bool,
}

/// Parses an order; an empty one is none.
pub fn order_by(text: &str, schema: &Schema) -> Result<Vec<Order>, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Fault::at(1, format!("it has {} bytes, and may have {MAX_BYTES}", text.len())));
    }
    let mut orders: Vec<Order> = Vec::new();
    if text.trim().is_empty() {
        return Ok(orders);
    }
    let mut begin = 1;
    for part in text.split(',') {
        let at = begin + part.chars().take_while(|c| c.is_whitespace()).count();
        begin += part.chars().count() + 1;
        let mut words = part.split_whitespace();
        let name = words.next().ok_or_else(|| Fault::at(at, "a field is missing"))?;
        let field = schema.field(name).ok_or_else(|| unknown(at, name, schema, Scope::Rows))?;
        let descending = match (words.next(), words.next()) {
            (None, None) => false,
            (Some(word), None) if word.eq_ignore_ascii_case("asc") => false,
            (Some(word), None) if word.eq_ignore_ascii_case("desc") => true,
            _ => return Err(Fault::at(at, format!("after {name} there may be asc or desc"))),
        };
        if schema.fields.get(field).is_some_and(|field| !field.sortable) {
            return Err(Fault::at(at, format!("rows are not sorted by {name}, whose type has no order")));
        }
        if orders.iter().any(|order| order.field == field) {
            return Err(Fault::at(at, format!("{name} is named twice")));
        }
        orders.push(Order { field, descending });
    }
    Ok(orders)
}
