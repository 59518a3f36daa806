//! `trex attach`, `trex detach`, `trex tables`: which tables the hubs of a database watch. They ask a hub or,
//! where none runs, the database.

use super::{
    admin::Hub,
    migrate::required,
    print::{Align, Output, print, shown, table},
};
use crate::{
    model::TableName,
    proto::hub::v1::{AttachTableRequest, DetachTableRequest, ListTablesRequest, Table},
    store::{AttachChoice, Store, migrate},
};
use serde_json::json;

/// Whom to ask.
#[derive(Debug, clap::Args)]
struct Where {
    #[command(flatten)]
    hub: Hub,
    /// The database itself, where no hub runs
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl Where {
    /// The database, brought to this program's schema; `None`: a hub is asked.
    async fn database(&self) -> anyhow::Result<Option<Store>> {
        let Some(url) = &self.database_url else { return Ok(None) };
        let target = required(Some(url))?;
        migrate(&target, &[]).await?;
        Ok(Some(Store::new(&target.pooled(), 1)?))
    }

    async fn tables(&self) -> anyhow::Result<Vec<Row>> {
        Ok(match self.database().await? {
            Some(store) => {
                store.look_after_tables(&[]).await?;
                let tables = store.attached_tables().await?;
                tables.iter().map(Row::of_database).collect()
            }
            None => {
                let listed = self.hub.client()?.list_tables(ListTablesRequest {}).await;
                let listed = listed.map_err(|status| self.hub.explain(&status))?.into_inner();
                listed.tables.iter().map(Row::of_hub).collect()
            }
        })
    }

    async fn detach(&self, name: &str, purge: bool) -> anyhow::Result<()> {
        match self.database().await? {
            Some(store) => store.detach(&name.parse::<TableName>()?, purge).await?,
            None => {
                let request = DetachTableRequest { table: name.to_owned(), purge };
                let detached = self.hub.client()?.detach_table(request).await;
                detached.map_err(|status| self.hub.explain(&status))?;
            }
        }
        print(&format!("{} is no longer watched\n", shown(name)))?;
        Ok(())
    }
}

/// Begin to watch a table: its rows, and every change of them from now on
#[derive(Debug, clap::Args)]
pub(super) struct Attach {
    #[command(flatten)]
    place: Where,
    /// The table, as in SQL: public.orders, public."Odd Name"
    #[arg(value_name = "TABLE")]
    table: String,
    /// Show only these columns; the key must be among them
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    columns: Vec<String>,
    /// Show all columns but these
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    exclude: Vec<String>,
    /// Leave these out of the history, too
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    never_store: Vec<String>,
}

impl Attach {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Self { place, table, columns, exclude, never_store } = self;
        match place.database().await? {
            Some(store) => {
                let choice = AttachChoice { columns, exclude, never_store };
                store.attach(&table.parse::<TableName>()?, &choice).await?;
                // So that its history begins now, and not when a hub starts.
                store.attached_tables().await?;
            }
            None => {
                let request = AttachTableRequest { table: table.clone(), columns, exclude, never_store };
                let attached = place.hub.client()?.attach_table(request).await;
                attached.map_err(|status| place.hub.explain(&status))?;
            }
        }
        print(&format!("{} is watched\n", shown(&table)))?;
        Ok(())
    }
}

/// Stop watching a table, and end its streams
#[derive(Debug, clap::Args)]
pub(super) struct Detach {
    #[command(flatten)]
    place: Where,
    /// The table, as in SQL
    #[arg(value_name = "TABLE", required_unless_present = "all")]
    table: Option<String>,
    /// Every attached table: before a dump of the tables alone, whose triggers would lack their functions
    #[arg(long, conflicts_with = "table")]
    all: bool,
    /// Blank the rows in its retained history, too
    #[arg(long)]
    purge: bool,
}

impl Detach {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let names = match self.table {
            Some(name) => vec![name],
            None => self.place.tables().await?.into_iter().map(|row| row.name).collect(),
        };
        for name in names {
            self.place.detach(&name, self.purge).await?;
        }
        Ok(())
    }
}

/// List the attached tables
#[derive(Debug, clap::Args)]
pub(super) struct Tables {
    #[command(flatten)]
    place: Where,
    /// How to write it; JSON is an object a line
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Tables {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let rows = self.place.tables().await?;
        let text = match self.output {
            Output::Json => rows.iter().map(|row| format!("{}\n", row.json())).collect(),
            Output::Text => {
                let headings = [
                    ("TABLE", Align::Left),
                    ("KEY", Align::Left),
                    ("COLUMNS", Align::Right),
                    ("VERSION", Align::Right),
                    ("SINCE", Align::Right),
                ];
                table(&headings, &rows.iter().map(Row::cells).collect::<Vec<_>>())
            }
        };
        print(&text)?;
        Ok(())
    }
}

/// An attached table.
struct Row {
    name: String,
    key: Vec<String>,
    columns: Vec<String>,
    schema_version: u64,
    attached_revision: u64,
}

impl Row {
    fn of_hub(table: &Table) -> Self {
        Self {
            name: table.name.clone(),
            key: table.key.clone(),
            columns: table.columns.iter().map(|column| column.name.clone()).collect(),
            schema_version: table.schema_version,
            attached_revision: table.attached_revision,
        }
    }

    fn of_database(table: &crate::model::AttachedTable) -> Self {
        Self {
            name: table.name.to_string(),
            key: table.key.clone(),
            columns: table.visible().map(|column| column.name.clone()).collect(),
            schema_version: table.schema_version,
            attached_revision: table.attached_revision.get(),
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            shown(&self.name),
            shown(&self.key.join(", ")),
            self.columns.len().to_string(),
            self.schema_version.to_string(),
            self.attached_revision.to_string(),
        ]
    }

    fn json(&self) -> serde_json::Value {
        let Self { name, key, columns, schema_version, attached_revision } = self;
        json!({
            "name": name,
            "key": key,
            "columns": columns,
            "schema_version": schema_version,
            "attached_revision": attached_revision,
        })
    }
}
