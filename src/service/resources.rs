//! Resources of any kind, one by one and in pages. A resource is a row, as a JSON object of its columns.

use super::{Action, Means, Paging, UseCases, authorize::Telling, topic};
use crate::{
    call::Call,
    catalog::Kind,
    error::Error,
    model::{
        Revision, Table,
        filter::{self, Filter, Scope, Search, Sight},
    },
    store::{Choice, Columns, RowTable},
};
use serde_json::Value;

/// Which rows of a table are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListRequest<'a> {
    /// The page.
    pub paging: Paging,
    /// Those that match this AIP-160 filter; empty: all.
    pub filter: &'a str,
    /// And those that this search finds, in the language of the upstream REST API; empty: all.
    pub search: &'a str,
    /// By these fields, as AIP-132 writes them; empty: by the key alone.
    pub order_by: &'a str,
}

/// A page of a list.
#[derive(Debug)]
pub struct Listed {
    /// The rows.
    pub rows: Vec<String>,
    /// The page that they are.
    pub paging: Paging,
    /// How many rows there are on all pages.
    pub total: i64,
    /// A watch after this revision misses nothing that comes after the page, and may repeat what the page
    /// shows.
    pub revision: Revision,
}

impl UseCases {
    /// The resource with this id.
    pub async fn get(&self, call: &Call, kind: &Kind, id: &str) -> Result<String, Error> {
        let (inner, grant) = self.enter(call, Action::Get, Some(kind.name()))?;
        inner.means.resource(call, kind, id, grant.sight()).await
    }

    /// Makes a resource; columns that are not given take their defaults.
    pub async fn create(&self, call: &Call, kind: &Kind, columns: &Columns<'_>) -> Result<String, Error> {
        let (inner, grant) = self.enter(call, Action::Create, Some(kind.name()))?;
        let store = &inner.means.store;
        match grant.sight().rule() {
            None => store.insert(call, &kind.table, columns).await,
            visible => {
                let made = store.insert_row(call, &rows_of(kind), &written(columns), visible).await;
                made.map(|row| row.json).map_err(|error| grant.sight().told(error))
            }
        }
    }

    /// Changes these columns of a resource; without any it is only read.
    pub async fn update(
        &self,
        call: &Call,
        kind: &Kind,
        id: &str,
        columns: &Columns<'_>,
    ) -> Result<String, Error> {
        let (inner, grant) = self.enter(call, Action::Update, Some(kind.name()))?;
        let store = &inner.means.store;
        match (columns, grant.sight().rule()) {
            ([], _) => inner.means.resource(call, kind, id, grant.sight()).await,
            (columns, None) => store.update(call, &kind.table, id, columns).await,
            (columns, visible) => {
                let (table, row) = (rows_of(kind), written(columns));
                let changed = store.update_row(call, &table, (id, &row), None, visible).await;
                changed.map(|row| row.json).map_err(|error| grant.sight().told(error))
            }
        }
    }

    /// Deletes a resource.
    pub async fn delete(&self, call: &Call, kind: &Kind, id: &str) -> Result<(), Error> {
        let (inner, grant) = self.enter(call, Action::Delete, Some(kind.name()))?;
        let store = &inner.means.store;
        match grant.sight().rule() {
            None => store.delete(call, &kind.table, id).await,
            visible => {
                let deleted = store.delete_row(call, &rows_of(kind), id, None, visible).await;
                deleted.map_err(|error| grant.sight().told(error))
            }
        }
    }

    /// A page of the resources.
    pub async fn list(&self, call: &Call, kind: &Kind, request: ListRequest<'_>) -> Result<Listed, Error> {
        let (inner, grant) = self.enter(call, Action::List, Some(kind.name()))?;
        let (means, sight) = (&inner.means, grant.sight());
        let filter = Filter::parse(request.filter, &kind.schema, Scope::Rows)
            .map_err(|fault| Error::invalid("filter", fault.to_string()))?;
        let search = Search::parse(request.search, &kind.schema)
            .map_err(|fault| Error::invalid("search", fault.to_string()))?;
        let order_by = filter::order_by(request.order_by, &kind.schema)
            .map_err(|fault| Error::invalid("order_by", fault.to_string()))?;
        let choice = Choice {
            schema: &kind.schema,
            filter: filter.as_ref(),
            search: search.as_ref(),
            visible: sight.rule(),
            order_by: &order_by,
        };
        let paging = request.paging;
        // Before the page is read: what the page shows may come again to a watch from here, and nothing is
        // missed.
        let revision = topic(&*means.era(call).await?, kind.name())?.head();
        let page = means.store.page(&kind.table, &choice, paging.offset(), paging.size.into()).await?;
        let rows = means.seen(sight, page.rows, |row| row);
        Ok(Listed { rows, paging, total: page.total, revision })
    }
}

/// A compiled kind's table, as those who may see some of its rows read and write it.
fn rows_of(kind: &Kind) -> RowTable {
    let Table { kind: name, name: table, key } = kind.table.clone();
    let key = kind.schema.fields.iter().position(|field| field.column == *key).into_iter().collect();
    RowTable { kind: name, name: table, schema: kind.schema.clone(), key }
}

/// Columns as a JSON object.
fn written(columns: &Columns<'_>) -> String {
    let members = columns.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
    Value::Object(members.collect()).to_string()
}

impl Means {
    /// A resource of a compiled kind, if it is seen.
    async fn resource(&self, call: &Call, kind: &Kind, id: &str, sight: &Sight) -> Result<String, Error> {
        if sight.is_whole() {
            return self.store.get(&kind.table, id).await;
        }
        let row = self.store.get_row(call, &rows_of(kind), id, &[], sight.rule()).await?;
        let missing = || Error::NotFound { kind: kind.name().clone(), id: id.to_owned() };
        self.seen(sight, vec![row.json], |row| row).pop().ok_or_else(missing)
    }

    /// Rows that the database found to be seen, judged again by the hub: where the two disagree, they are
    /// not.
    pub(super) fn seen<T>(&self, sight: &Sight, mut rows: Vec<T>, json: impl Fn(&T) -> &String) -> Vec<T> {
        let before = rows.len();
        rows.retain(|row| sight.shows(json(row)).unwrap_or(false));
        if rows.len() < before {
            let rows = before - rows.len();
            tracing::error!(rows, "the database and the hub disagree on which rows a policy shows");
        }
        rows
    }
}
