//! Resources of any kind, one by one and in pages. A resource is a row, as a JSON object of its columns.

use super::{Action, Paging, UseCases, topic};
use crate::{
    call::Call,
    catalog::Kind,
    error::Error,
    model::{
        Revision,
        filter::{self, Filter, Scope, Search},
    },
    store::{Choice, Columns},
};

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
        let means = &self.enter(call, Action::Get, Some(kind.name()))?.means;
        means.store.get(&kind.table, id).await
    }

    /// Makes a resource; columns that are not given take their defaults.
    pub async fn create(&self, call: &Call, kind: &Kind, columns: &Columns<'_>) -> Result<String, Error> {
        let means = &self.enter(call, Action::Create, Some(kind.name()))?.means;
        means.store.insert(call, &kind.table, columns).await
    }

    /// Changes these columns of a resource; without any it is only read.
    pub async fn update(
        &self,
        call: &Call,
        kind: &Kind,
        id: &str,
        columns: &Columns<'_>,
    ) -> Result<String, Error> {
        let means = &self.enter(call, Action::Update, Some(kind.name()))?.means;
        match columns {
            [] => means.store.get(&kind.table, id).await,
            columns => means.store.update(call, &kind.table, id, columns).await,
        }
    }

    /// Deletes a resource.
    pub async fn delete(&self, call: &Call, kind: &Kind, id: &str) -> Result<(), Error> {
        let means = &self.enter(call, Action::Delete, Some(kind.name()))?.means;
        means.store.delete(call, &kind.table, id).await
    }

    /// A page of the resources.
    pub async fn list(&self, call: &Call, kind: &Kind, request: ListRequest<'_>) -> Result<Listed, Error> {
        let means = &self.enter(call, Action::List, Some(kind.name()))?.means;
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
            visible: None,
            order_by: &order_by,
        };
        let paging = request.paging;
        // Before the page is read: what the page shows may come again to a watch from here, and nothing is
        // missed.
        let revision = topic(&*means.era(call).await?, kind.name())?.head();
        let page = means.store.page(&kind.table, &choice, paging.offset(), paging.size.into()).await?;
        Ok(Listed { rows: page.rows, paging, total: page.total, revision })
    }
}
