//! Which events a watch wants.

use super::ChangeType;
use std::collections::HashSet;

/// A set of change types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeSet(u8);

impl TypeSet {
    /// All of them.
    pub const ALL: Self = Self(0b1110);

    /// Whether the set has this type.
    pub const fn contains(self, change: ChangeType) -> bool {
        self.0 & (1 << change as u8) != 0
    }
}

impl FromIterator<ChangeType> for TypeSet {
    fn from_iter<I: IntoIterator<Item = ChangeType>>(types: I) -> Self {
        Self(types.into_iter().fold(0, |set, change| set | 1 << change as u8))
    }
}

/// The part of a kind's events that a watch wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    types: TypeSet,
    /// `None`: every resource.
    resource_ids: Option<HashSet<Box<str>>>,
}

impl Selector {
    /// Everything.
    pub const ALL: Self = Self { types: TypeSet::ALL, resource_ids: None };

    /// These types of these resources; an empty list means all.
    pub fn new(types: &[ChangeType], resource_ids: Vec<String>) -> Self {
        Self {
            types: if types.is_empty() { TypeSet::ALL } else { types.iter().copied().collect() },
            resource_ids: (!resource_ids.is_empty())
                .then(|| resource_ids.into_iter().map(String::into_boxed_str).collect()),
        }
    }

    /// The types that are wanted; `None`: all.
    pub fn types(&self) -> Option<TypeSet> {
        (self.types != TypeSet::ALL).then_some(self.types)
    }

    /// To how many resources it is narrowed; `None`: it is not narrowed.
    pub fn resource_ids(&self) -> Option<usize> {
        self.resource_ids.as_ref().map(HashSet::len)
    }

    /// Whether every event is wanted, so that no event needs to be examined.
    pub fn is_all(&self) -> bool {
        self.types == TypeSet::ALL && self.resource_ids.is_none()
    }

    /// Whether events of this resource may be wanted.
    pub fn wants_resource(&self, resource_id: &str) -> bool {
        self.resource_ids.as_ref().is_none_or(|ids| ids.contains(resource_id))
    }

    /// Whether this event is wanted.
    pub fn matches(&self, change: ChangeType, resource_id: &str) -> bool {
        self.types.contains(change) && self.wants_resource(resource_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lists_mean_all() {
        assert!(Selector::new(&[], vec![]).is_all());
        assert_eq!(Selector::new(&[], vec![]), Selector::ALL);
    }

    #[test]
    fn both_conditions_hold() {
        let selector = Selector::new(&[ChangeType::Deleted], vec!["a".into(), "b".into()]);
        assert!(selector.matches(ChangeType::Deleted, "a"));
        assert!(!selector.matches(ChangeType::Deleted, "c"));
        assert!(!selector.matches(ChangeType::Created, "a"));
        assert!(!selector.is_all());
    }
}
