//! Rows of attached tables. A row is a JSON object, as Postgres writes it.

use super::{
    Action, Grant, Means, UseCases, WatchRequest, WatchStream, authorize::Telling, ended, topic, watch::Shown,
};
use crate::{
    broker::Composer,
    call::Call,
    catalog::{Attached, Kind},
    error::Error,
    model::{
        BadName, Epoch, KindRef, Revision, TableName,
        filter::{self, Filter, Scope},
    },
    store::{LARGEST_PAGE, ListRows, RowPage, TableRow},
    wire::rows::Projection,
};
use std::{sync::Arc, time::Duration};

/// Rows on a page, if its request does not say.
const DEFAULT_PAGE: usize = 100;
/// A table that was attached a moment ago is watched within this.
const COMING: Duration = Duration::from_secs(5);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// One answer for a table that may not be used and for one that is not there.
const NOT_ALLOWED: &str = "no rule of the policy allows that of a table of this name, if there is one";

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

/// A page of rows, and a position after which a watch misses nothing that the page does not show.
#[derive(Debug)]
pub struct RowsListed {
    /// The rows.
    pub page: RowPage,
    /// The history that the revision belongs to.
    pub epoch: Epoch,
    /// The position.
    pub revision: Revision,
}

/// A table, for as long as a call uses it.
#[derive(Clone)]
struct Opened<'a> {
    means: &'a Means,
    kind: Arc<Kind>,
    /// As the caller sees it.
    attached: Arc<Attached>,
    /// As it is.
    whole: Arc<Attached>,
    grant: Arc<Grant>,
    /// Who a page of its rows is given to.
    bound_to: Vec<u8>,
}

impl UseCases {
    /// The attached tables, by name.
    pub async fn tables(&self, call: &Call) -> Result<Vec<Arc<Attached>>, Error> {
        let means = &self.behind.open(&self.door.knock(call)?).means;
        let kinds = means.catalog.kinds();
        let seen = kinds.iter().filter_map(|kind| {
            let attached = kind.attached.as_ref()?;
            self.door.shown(call, kind).map(|sight| self.door.reduced(attached, &sight))
        });
        let mut tables: Vec<_> = seen.collect();
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
        let (places, sight) = (table.read_places(&seen.columns)?, table.grant.sight());
        let rows = &table.whole.rows;
        let row = table.means.store.get_row(call, rows, id, &places, sight.rule()).await?;
        let found = table.judged(vec![row]).pop();
        let missing = || Error::NotFound { kind: rows.kind.clone(), id: id.to_owned() };
        table.shown(found.ok_or_else(missing)?, seen)
    }

    /// A page of rows.
    pub async fn list_rows(
        &self,
        call: &Call,
        table: &str,
        request: &RowsRequest,
    ) -> Result<RowsListed, Error> {
        let table = self.open(call, Action::List, table)?;
        // What is not seen is not spoken of: so they are read twice, and the first time is for the caller.
        let schemas = [&table.attached.rows.schema, &table.whole.rows.schema];
        let [read, filter] = schemas.map(|schema| Filter::parse(&request.filter, schema, Scope::Rows));
        let filter = read.and(filter).map_err(|fault| Error::invalid("filter", fault.to_string()))?;
        let [read, order_by] = schemas.map(|schema| filter::order_by(&request.order_by, schema));
        let order_by = read.and(order_by).map_err(|fault| Error::invalid("order_by", fault.to_string()))?;
        let size = match request.page_size as usize {
            0 => DEFAULT_PAGE,
            asked if asked > LARGEST_PAGE => {
                return Err(Error::invalid("page_size", format!("must be at most {LARGEST_PAGE}")));
            }
            asked => asked,
        };
        let era = table.means.era(call).await?;
        let revision = topic(&era, table.kind.name())?.head();
        let columns = table.read_places(&request.seen.columns)?;
        let list = ListRows {
            filter: filter.as_ref(),
            visible: table.grant.sight().rule(),
            order_by: &order_by,
            columns: &columns,
            size,
            page_token: &request.page_token,
            bound_to: &table.bound_to,
            count: request.count,
            ..ListRows::default()
        };
        let mut page = table.means.store.list_rows(call, &table.whole.rows, &list).await?;
        let found = table.judged(std::mem::take(&mut page.rows));
        let rows = found.into_iter().map(|row| table.shown(row, &request.seen)).collect::<Result<_, _>>()?;
        Ok(RowsListed { page: RowPage { rows, ..page }, epoch: era.epoch.clone(), revision })
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
        let (rows, visible) = (&table.attached.rows, table.grant.sight().rule());
        let made = table.means.store.insert_row(call, rows, row, visible).await;
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
        let (rows, visible) = (&table.attached.rows, table.grant.sight().rule());
        let changed = table.means.store.update_row(call, rows, change, expected, visible).await;
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
        let (rows, sight) = (&table.attached.rows, table.grant.sight());
        let deleted = table.means.store.delete_row(call, rows, id, expected, sight.rule()).await;
        deleted.map_err(|error| sight.told(error))
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
        let shown = Shown { schema: &table.attached.rows.schema, composer };
        let request = WatchRequest { columns: seen.columns.clone(), ..request };
        self.watch_granted(call, (&table.kind, shown), request, (table.means, &table.grant)).await
    }

    /// Begins a watch of a table, which may be that of a compiled kind: of such a one nothing is described.
    pub async fn watch_any_table(
        &self,
        call: &Call,
        table: &str,
        request: WatchRequest,
        seen: &Seen,
    ) -> Result<(WatchStream, Option<Arc<Attached>>), Error> {
        if let Some(kind) = self.compiled(call, table)? {
            if !seen.columns.is_empty() {
                return Err(Error::invalid("columns", "rows of this table are always shown whole"));
            }
            return Ok((self.watch(call, &kind, request).await?, None));
        }
        let attached = self.open(call, Action::Watch, table)?.attached;
        Ok((self.watch_table(call, table, request, seen).await?, Some(attached)))
    }

    /// The compiled kind of this table; `None`: there is none.
    fn compiled(&self, call: &Call, table: &str) -> Result<Option<Arc<Kind>>, Error> {
        let name: TableName = table.parse().map_err(unnamed)?;
        let all = self.behind.open(&self.door.knock(call)?).means.catalog.kinds();
        let is_it = |kind: &&Arc<Kind>| {
            kind.attached.is_none() && kind.table.name.parse::<TableName>().is_ok_and(|is| is == name)
        };
        Ok(all.iter().find(is_it).cloned())
    }

    /// The table that a request names.
    fn open(&self, call: &Call, action: Action, name: &str) -> Result<Opened<'_>, Error> {
        let name: TableName = name.parse().map_err(unnamed)?;
        // Who may not use a table is not told whether there is one.
        if !self.door.may(call, action, KindRef::Table(&name)) {
            return Err(Error::Denied { why: NOT_ALLOWED.into(), revoked: false });
        }
        let all = self.behind.open(&self.door.knock(call)?).means.catalog.kinds();
        let found = all.iter().find_map(|kind| {
            let attached = kind.attached.clone().filter(|attached| attached.table.name == name)?;
            Some((kind.clone(), attached))
        });
        let (kind, whole) = found.ok_or_else(|| Error::NotAttached { table: name.to_string() })?;
        let (inner, grant) = self.enter(call, action, Some(kind.name()))?;
        let attached = self.door.reduced(&whole, grant.sight());
        let bound_to = format!("{} {}", call.actor().unwrap_or_default(), grant.mark());
        let (means, grant) = (&inner.means, Arc::new(grant));
        Ok(Opened { means, kind, attached, whole, grant, bound_to: bound_to.into_bytes() })
    }
}

fn unnamed(error: BadName) -> Error {
    Error::invalid("table", error.to_string())
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

    /// The same of what is read for a caller that sees a part: all of it, for it is judged.
    fn read_places(&self, columns: &[String]) -> Result<Vec<usize>, Error> {
        let places = self.places(columns)?;
        Ok(if self.grant.sight().is_whole() { places } else { Vec::new() })
    }

    /// The rows that are seen.
    fn judged(&self, rows: Vec<TableRow>) -> Vec<TableRow> {
        self.means.seen(self.grant.sight(), rows, |row| &row.json)
    }

    /// What a caller gets of rows.
    fn projection(&self, seen: &Seen) -> Projection {
        let visible: Vec<_> = self.attached.table.visible().map(|column| column.name.clone()).collect();
        match seen.columns.is_empty() && !self.grant.sight().hidden().is_empty() {
            true => self.attached.projection(&visible, seen.quote_numbers),
            false => self.attached.projection(&seen.columns, seen.quote_numbers),
        }
    }

    /// A row as it is wanted.
    fn shown(&self, row: TableRow, seen: &Seen) -> Result<TableRow, Error> {
        let projection = self.projection(seen);
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
        let done = done.map_err(|error| self.grant.sight().told(error));
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
        let projection = self.projection(seen);
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
