//! Foreign keys that change other rows.

use crate::support::ledger::Ledger;

#[tokio::test]
async fn a_cascade_reaches_a_watched_child() {
    let mut ledger = Ledger::create().await;
    ledger
        .run(
            "CREATE TABLE parent (id int PRIMARY KEY);
             CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON UPDATE CASCADE
               ON DELETE CASCADE)",
        )
        .await;
    ledger.watch("Parent", "parent").await;
    ledger.watch("Child", "child").await;
    assert_eq!(ledger.mode("parent").await, "statement", "the cascade never comes back to it");
    ledger
        .run("INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (10, 1), (11, 1), (20, 2)")
        .await;
    ledger.take().await;
    ledger.run("UPDATE parent SET id = 3 WHERE id = 1").await;
    let mut events = ledger.take_short().await;
    events.sort();
    assert_eq!(events, ["Child~10", "Child~11", "Parent+3", "Parent-1"]);
    ledger.run("DELETE FROM parent WHERE id = 3").await;
    let mut events = ledger.take_short().await;
    events.sort();
    assert_eq!(events, ["Child-10", "Child-11", "Parent-3"]);
    ledger.check("Parent", "parent").await;
    ledger.check("Child", "child").await;
}

#[tokio::test]
async fn only_the_child_is_watched() {
    let mut ledger = Ledger::create().await;
    ledger
        .run(
            "CREATE TABLE parent (id int PRIMARY KEY);
             CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE SET NULL)",
        )
        .await;
    ledger.watch("Child", "child").await;
    ledger.run("INSERT INTO parent VALUES (1); INSERT INTO child VALUES (10, 1)").await;
    ledger.run("DELETE FROM parent").await;
    ledger.expect(&["Child+10", "Child~10"]).await;
    ledger.check("Child", "child").await;
}

#[tokio::test]
async fn a_table_that_refers_to_itself_is_captured_per_row_and_in_order() {
    let mut ledger = Ledger::create().await;
    ledger
        .run(
            "CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree ON UPDATE CASCADE
                ON DELETE CASCADE)",
        )
        .await;
    assert_eq!(ledger.mode("tree").await, "row");
    ledger.watch("Tree", "tree").await;
    ledger.run("INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2), (4, 1)").await;
    ledger.take().await;
    ledger.run("UPDATE tree SET id = id + 10").await;
    ledger.take().await;
    ledger.check("Tree", "tree").await;
    ledger.run("DELETE FROM tree WHERE id = 11").await;
    let mut events = ledger.take_short().await;
    events.sort();
    assert_eq!(events, ["Tree-11", "Tree-12", "Tree-13", "Tree-14"]);
    ledger.check("Tree", "tree").await;
}

#[tokio::test]
async fn two_cascades_that_change_one_row_stay_in_order() {
    let mut ledger = Ledger::create().await;
    ledger
        .run(
            "CREATE TABLE node (id int PRIMARY KEY, up int REFERENCES node ON UPDATE CASCADE
               ON DELETE SET NULL,
               top int REFERENCES node ON UPDATE CASCADE ON DELETE SET NULL)",
        )
        .await;
    ledger.watch("Node", "node").await;
    ledger.run("INSERT INTO node VALUES (1, 1, 1), (2, 1, 1), (3, 2, 1)").await;
    ledger.run("UPDATE node SET id = id * 10").await;
    ledger.take().await;
    ledger.check("Node", "node").await;
    ledger.run("DELETE FROM node WHERE id <= 20").await;
    ledger.take().await;
    ledger.check("Node", "node").await;
}

#[tokio::test]
async fn a_cascade_through_another_table_that_comes_back_is_in_order() {
    let mut ledger = Ledger::create().await;
    ledger
        .run(
            "CREATE TABLE a (id int PRIMARY KEY, b int);
             CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON UPDATE CASCADE);
             ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b ON UPDATE CASCADE ON DELETE SET NULL",
        )
        .await;
    assert_eq!([ledger.mode("a").await, ledger.mode("b").await], ["row", "row"]);
    ledger.watch("A", "a").await;
    ledger.watch("B", "b").await;
    ledger.run("INSERT INTO a VALUES (1, NULL); INSERT INTO b VALUES (5, 1); UPDATE a SET b = 5").await;
    ledger.run("UPDATE b SET id = 6; UPDATE a SET id = 2; DELETE FROM b").await;
    ledger.take().await;
    ledger.check("A", "a").await;
    ledger.check("B", "b").await;
}

#[tokio::test]
async fn a_child_that_one_statement_reaches_twice_has_both_changes_in_order() {
    let mut ledger = Ledger::create().await;
    ledger
        .run(
            "CREATE TABLE team (id int PRIMARY KEY);
             CREATE TABLE game (id int PRIMARY KEY, home int REFERENCES team ON UPDATE CASCADE
               ON DELETE SET NULL,
               away int REFERENCES team ON UPDATE CASCADE ON DELETE SET NULL)",
        )
        .await;
    ledger.watch("Game", "game").await;
    ledger.run("INSERT INTO team VALUES (1), (2); INSERT INTO game VALUES (7, 1, 2)").await;
    ledger.run("UPDATE team SET id = id * 10").await;
    ledger.run("DELETE FROM team").await;
    ledger.expect(&["Game+7", "Game~7", "Game~7", "Game~7", "Game~7"]).await;
    ledger.check("Game", "game").await;
}

/// The row trigger of the first half of the statement changes what the second half has made, before that is
/// captured.
#[tokio::test]
async fn a_row_that_a_statement_deletes_and_makes_again_is_told_in_the_order_of_its_states() {
    let mut ledger = Ledger::create().await;
    ledger
        .run(
            "CREATE TABLE thing (id int PRIMARY KEY, owner int, parent int REFERENCES thing ON DELETE
               SET NULL);
             CREATE FUNCTION disown() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               UPDATE thing SET owner = 0 WHERE owner = OLD.owner; RETURN NULL; END $$;
             CREATE TRIGGER disown AFTER DELETE ON thing FOR EACH ROW EXECUTE FUNCTION disown()",
        )
        .await;
    ledger.watch("Thing", "thing").await;
    ledger.run("INSERT INTO thing VALUES (1, 3, 1)").await;
    let again =
        "WITH gone AS (DELETE FROM thing WHERE id = 1 RETURNING *) INSERT INTO thing SELECT * FROM gone";
    ledger.run(again).await;
    ledger.expect(&["+1", "-1", "+1", "~1", "~1"]).await;
    ledger.check("Thing", "thing").await;
}
