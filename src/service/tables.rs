//! Rows of attached tables. A row is a JSON object, as Postgres writes it.

use super::{Action, Means, UseCases, WatchRequest, WatchStream, ended, topic};
use crate::{
    broker::Composer,
    call::Call,
    catalog::{Attached, Kind},
    error::Error,
    model::{
        Revision, TableName,
        filter::{self, Filter, Scope},
    },
    store::{LARGEST_PAGE, ListRows, RowPage, TableRow},
};
use std::{sync::Arc, time::Duration};

/// Rows on a page, if its request does not say.
const DEFAULT_PAGE: usize = 100;
/// A table that was attached a moment ago is watched within this.
const COMING: Duration = Duration::from_secs(5);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// Which columns of rows a request wants, and how.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// These columns; empty: all that may be seen.
    pub columns: Vec<String>,
    /// Whether int8, numeric and arrays of them are written as strings.
    pub quote_numbers: bool,
}

/// Which rows of a table are wanted.
#[derive(Debug, Clone, Default)]
pub struct RowsRequest {
    /// Those that match this AIP-160 filter; empty: all.
    pub filter: String,
    /// By these fields, as AIP-132 writes them; then by the key.
    pub order_by: String,
    /// What of them.
    pub seen: Seen,
    /// Rows on a page; 0: the default.
    pub page_size: u32,
    /// Of the page before; empty: the first page.
    pub page_token: String,
    /// Whether all that match are counted.
    pub count: bool,
}

/// A table, for as long as a call uses it.
#[derive(Clone)]
struct Opened<'a> {
    means: &'a Means,
    kind: Arc<Kind>,
    attached: Arc<Attached>,
}

impl UseCases {
    /// The attached tables, by name.
    pub async fn tables(&self, call: &Call) -> Result<Vec<Arc<Attached>>, Error> {
        let means = &self.enter(call, Action::List, None)?.means;
        let mut tables: Vec<_> =
            means.catalog.kinds().iter().filter_map(|kind| kind.attached.clone()).collect();
        tables.sort_by(|one, other| one.table.name.cmp(&other.table.name));
        Ok(tables)
    }

    /// An attached table.
    pub async fn table(&self, call: &Call, name: &str) -> Result<Arc<Attached>, Error> {
        Ok(self.open(call, Action::Get, name)?.attached)
    }

    /// A row.
    pub async fn get_row(&self, call: &Call, table: &str, id: &str, seen: &Seen) -> Result<TableRow, Error> {
        let table = self.open(call, Action::Get, table)?;
        let places = table.places(&seen.columns)?;
        let row = table.means.store.get_row(call, &table.attached.rows, id, &places, None).await?;
        table.shown(row, seen)
    }

    /// A page of rows, and the revision after which a watch misses nothing that the page does not show.
    pub async fn list_rows(
        &self,
        call: &Call,
        table: &str,
        request: &RowsRequest,
    ) -> Result<(RowPage, Revision), Error> {
        let table = self.open(call, Action::List, table)?;
        let schema = &table.attached.rows.schema;
        let filter = Filter::parse(&request.filter, schema, Scope::Rows)
            .map_err(|fault| Error::invalid("filter", fault.to_string()))?;
        let order_by = filter::order_by(&request.order_by, schema)
            .map_err(|fault| Error::invalid("order_by", fault.to_string()))?;
        let size = match request.page_size as usize {
            0 => DEFAULT_PAGE,
            asked if asked > LARGEST_PAGE => {
                return Err(Error::invalid("page_size", format!("must be at most {LARGEST_PAGE}")));
            }
            asked => asked,
        };
        let revision = topic(&*table.means.era(call).await?, table.kind.name())?.head();
        let columns = table.places(&request.seen.columns)?;
        let list = ListRows {
            filter: filter.as_ref(),
            order_by: &order_by,
            columns: &columns,
            size,
            page_token: &request.page_token,
            count: request.count,
            ..ListRows::default()
        };
        let mut page = table.means.store.list_rows(call, &table.attached.rows, &list).await?;
        let rows =
            page.rows.drain(..).map(|row| table.shown(row, &request.seen)).collect::<Result<_, _>>()?;
        Ok((RowPage { rows, ..page }, revision))
    }

    /// Creates a row; columns that are not named take their defaults.
    pub async fn create_row(
        &self,
        call: &Call,
        table: &str,
        row: &str,
        seen: &Seen,
    ) -> Result<TableRow, Error> {
        let table = self.open(call, Action::Create, table)?;
        let made = table.means.store.insert_row(call, &table.attached.rows, row).await;
        table.shown(table.explained(call, row, made).await?, seen)
    }

    /// Changes a row, unless it differs from `expected`.
    pub async fn update_row(
        &self,
        call: &Call,
        table: &str,
        change: (&str, &str),
        expected: Option<&str>,
        seen: &Seen,
    ) -> Result<TableRow, Error> {
        let table = self.open(call, Action::Update, table)?;
        let changed = table.means.store.update_row(call, &table.attached.rows, change, expected, None).await;
        table.shown(table.explained(call, change.1, changed).await?, seen)
    }

    /// Deletes a row, unless it differs from `expected`.
    pub async fn delete_row(
        &self,
        call: &Call,
        table: &str,
        id: &str,
        expected: Option<&str>,
    ) -> Result<(), Error> {
        let table = self.open(call, Action::Delete, table)?;
        table.means.store.delete_row(call, &table.attached.rows, id, expected, None).await
    }

    /// Begins a watch of a table.
    pub async fn watch_table(
        &self,
        call: &Call,
        table: &str,
        request: WatchRequest,
        seen: &Seen,
    ) -> Result<WatchStream, Error> {
        let table = self.open(call, Action::Watch, table)?;
        table.places(&seen.columns)?;
        let composer = table.composer(call, seen).await?;
        self.watch_composed(call, &table.kind, request, composer).await
    }

    /// The table that a request names.
    fn open(&self, call: &Call, action: Action, name: &str) -> Result<Opened<'_>, Error> {
        let name: TableName = name
            .parse()
            .map_err(|error: crate::model::BadName| Error::invalid("table", error.to_string()))?;
        // A caller that may use no table is not told which there are.
        let all = self.enter(call, action, None)?.means.catalog.kinds();
        let found = all.iter().find_map(|kind| {
            let attached = kind.attached.clone().filter(|attached| attached.table.name == name)?;
            Some((kind.clone(), attached))
        });
        let (kind, attached) = found.ok_or_else(|| Error::NotAttached { table: name.to_string() })?;
        let means = &self.enter(call, action, Some(kind.name()))?.means;
        Ok(Opened { means, kind, attached })
    }
}

impl Opened<'_> {
    /// The places of columns in the schema.
    fn places(&self, columns: &[String]) -> Result<Vec<usize>, Error> {
        let fields = &self.attached.rows.schema.fields;
        let place = |name: &String| {
            fields.iter().position(|field| field.column == *name).ok_or_else(|| {
                Error::invalid("columns", format!("{} has no column {name}", self.attached.rows.name))
            })
        };
        columns.iter().map(place).collect()
    }

    /// A row as it is wanted.
    fn shown(&self, row: TableRow, seen: &Seen) -> Result<TableRow, Error> {
        let projection = self.attached.projection(&seen.columns, seen.quote_numbers);
        if projection.is_whole() {
            return Ok(row);
        }
        let mut json = Vec::with_capacity(row.json.len());
        projection.write(&row.json, &mut json).map_err(|error| Error::Internal(error.into()))?;
        let json = String::from_utf8(json).map_err(|error| Error::Internal(error.into()))?;
        Ok(TableRow { json, ..row })
    }

    /// What Postgres says of a value that does not fit, with the column that it was meant for.
    async fn explained(
        &self,
        call: &Call,
        row: &str,
        done: Result<TableRow, Error>,
    ) -> Result<TableRow, Error> {
        let Err(Error::Refused { sqlstate, constraint: None, message }) = done else { return done };
        let column = self.means.store.misfit(call, &self.attached.rows, row).await?;
        let message = match column {
            Some(column) => format!("column {column}: {message}"),
            None => message,
        };
        Err(Error::Refused { sqlstate, constraint: None, message })
    }

    /// What composes the rows of a watch; `None`: they stay as they are. Waits for a table that was attached
    /// a moment ago.
    async fn composer(&self, call: &Call, seen: &Seen) -> Result<Option<Arc<Composer>>, Error> {
        let (means, name) = (self.means, self.kind.name());
        let era = means.era(call).await?;
        let coming = async {
            while era.topic(name.as_str()).is_none() && means.catalog.kinds().get(name.as_str()).is_some() {
                tokio::time::sleep(LOOK).await;
            }
        };
        // If it does not appear, the watch says so.
        let _ = means.broker.unless_draining(tokio::time::timeout(COMING, coming)).await.map_err(ended)?;
        let projection = self.attached.projection(&seen.columns, seen.quote_numbers);
        match means.catalog.kinds().id(name.as_str()) {
            Some(id) if !projection.is_whole() => {
                let composer = means.broker.projections().composer(id, projection).ok_or(Error::TooMany {
                    what: "the hub has as many different choices of columns as it may hold",
                })?;
                Ok(Some(composer))
            }
            _ => Ok(None),
        }
    }
}
