use super::*;
use crate::model::{Revision, Table};

struct Nothing;

impl Renderer for Nothing {
    fn message(&self, _: &str, _: &mut Vec<u8>) -> Result<(), Unreadable> {
        Ok(())
    }
}

fn kind(name: &str, table: &str) -> Kind {
    let table = Table::new(name, table, "id");
    Kind {
        table,
        schema: Arc::default(),
        scope: None,
        since: Revision::ZERO,
        renderer: Arc::new(Nothing),
        attached: None,
    }
}

fn names(kinds: &Kinds) -> Vec<&str> {
    kinds.names().map(KindName::as_str).collect()
}

#[test]
fn a_list_stays_as_it_was_taken() {
    let catalog = Catalog::new(Kinds::new([kind("A", "a")]));
    let before = catalog.kinds();
    assert_eq!(catalog.put(kind("B", "b")), 1);
    assert_eq!(catalog.remove("A", Removal::Dropped), 2);
    assert_eq!((names(&before), before.version()), (vec!["A"], 0));
    let after = catalog.kinds();
    assert_eq!((names(&after), after.version()), (vec!["B"], 2));
    assert_eq!(after.removal("A"), Some(Removal::Dropped));
    assert_eq!(after.removal("B"), None);
}

#[test]
fn a_kind_that_comes_again_is_another_and_one_that_changes_is_not() {
    let catalog = Catalog::new(Kinds::new([kind("A", "a")]));
    catalog.put(kind("A", "other"));
    let changed = catalog.kinds();
    let first = changed.id("A").unwrap();
    assert_eq!((first.version, &*changed.get("A").unwrap().table.name), (0, "other"));
    catalog.remove("A", Removal::Detached);
    assert_eq!(catalog.kinds().id("A"), None);
    catalog.put(kind("A", "a"));
    let again = catalog.kinds();
    assert!(changed.has(first) && !again.has(first));
    assert_eq!((again.id("A").unwrap().version, again.removal("A")), (3, Some(Removal::Detached)));
}

#[test]
fn what_changes_nothing_is_no_change() {
    let catalog = Catalog::new(Kinds::new([kind("A", "a")]));
    let mut changes = catalog.changes();
    assert_eq!(catalog.remove("B", Removal::Dropped), 0);
    assert!(!changes.has_changed().unwrap());
    catalog.put(kind("B", "b"));
    assert!(changes.has_changed().unwrap());
    assert_eq!(changes.borrow_and_update().version(), 1);
}
