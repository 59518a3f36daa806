//! `hub.v1.WatchService` and `hub.v1.TableService`: any attached table.

use super::{EventStream, answer, answer_watch, respond, watch_request};
use crate::{
    call::Call,
    catalog::Attached,
    error::Error,
    model::TableColumn,
    proto::hub::v1::{
        self as pb, NumberFormat,
        table_service_server::{TableService, TableServiceServer},
        watch_service_server::{WatchService, WatchServiceServer},
    },
    service::{RowsListed, RowsRequest, Seen, UseCases, WatchRequest},
    store::TableRow,
};
use tonic::{Request, Response, Status, codec::CompressionEncoding};

/// Both services.
#[derive(Clone)]
pub(super) struct Tables(UseCases);

impl Tables {
    pub(super) fn watches(cases: &UseCases) -> WatchServiceServer<Self> {
        WatchServiceServer::new(Self(cases.clone()))
    }

    pub(super) fn rows(cases: &UseCases) -> TableServiceServer<Self> {
        // Pages of rows may be long.
        TableServiceServer::new(Self(cases.clone())).send_compressed(CompressionEncoding::Gzip)
    }

    async fn watch(
        &self,
        call: &Call,
        request: pb::WatchRequest,
    ) -> Result<Response<EventStream<pb::WatchEvent>>, Error> {
        let seen = seen(request.columns, request.numbers)?;
        let schema_events = request.schema_events;
        let wanted = WatchRequest { schema_events, ..watch_request!(request) };
        let stream = self.0.watch_table(call, &request.table, wanted, &seen).await?;
        Ok(answer_watch(call, stream))
    }
}

fn seen(columns: Vec<String>, numbers: i32) -> Result<Seen, Error> {
    let quote_numbers = match NumberFormat::try_from(numbers) {
        Ok(NumberFormat::Unspecified | NumberFormat::AsIs) => false,
        Ok(NumberFormat::Quoted) => true,
        Err(_) => return Err(Error::invalid("numbers", format!("{numbers} is no format"))),
    };
    Ok(Seen { columns, quote_numbers })
}

/// The row that a client expects, if it names one.
fn expected(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn row(table: &str, row: TableRow) -> pb::Row {
    pb::Row { table: table.to_owned(), resource_id: row.resource_id, row: row.json }
}

/// The description of a table, as clients see it.
pub(super) fn table(attached: &Attached) -> pb::Table {
    let table = &attached.table;
    pb::Table {
        name: table.name.to_string(),
        id: table.id,
        schema_version: table.schema_version,
        columns: table.visible().map(column).collect(),
        key: table.key.clone(),
        attached_revision: table.attached_revision.get(),
        comment: table.comment.clone().unwrap_or_default(),
    }
}

fn column(column: &TableColumn) -> pb::Column {
    pb::Column {
        name: column.name.clone(),
        r#type: column.type_name.clone(),
        number: column.number,
        nullable: column.nullable,
        generated: column.generated,
        enum_labels: column.enum_labels.clone(),
        comment: column.comment.clone().unwrap_or_default(),
        renamed_from: String::new(),
    }
}

#[tonic::async_trait]
impl WatchService for Tables {
    type WatchStream = EventStream<pb::WatchEvent>;

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        respond(request, async |call, request| Self::watch(self, &call, request).await).await
    }
}

#[tonic::async_trait]
impl TableService for Tables {
    async fn list_tables(
        &self,
        request: Request<pb::ListTablesRequest>,
    ) -> Result<Response<pb::ListTablesResponse>, Status> {
        answer(request, async |call, _| {
            let tables = self.0.tables(&call).await?;
            Ok(pb::ListTablesResponse { tables: tables.iter().map(|attached| table(attached)).collect() })
        })
        .await
    }

    async fn get_table(&self, request: Request<pb::GetTableRequest>) -> Result<Response<pb::Table>, Status> {
        answer(request, async |call, request| Ok(table(&*self.0.table(&call, &request.table).await?))).await
    }

    async fn get_row(&self, request: Request<pb::GetRowRequest>) -> Result<Response<pb::Row>, Status> {
        answer(request, async |call, request| {
            let seen = seen(request.columns, request.numbers)?;
            let found = self.0.get_row(&call, &request.table, &request.resource_id, &seen).await?;
            Ok(row(&request.table, found))
        })
        .await
    }

    async fn list_rows(
        &self,
        request: Request<pb::ListRowsRequest>,
    ) -> Result<Response<pb::ListRowsResponse>, Status> {
        answer(request, async |call, request| {
            let wanted = RowsRequest {
                filter: request.filter,
                order_by: request.order_by,
                seen: seen(request.columns, request.numbers)?,
                page_size: request.page_size,
                page_token: request.page_token,
                count: request.count,
            };
            let RowsListed { page, revision, .. } = self.0.list_rows(&call, &request.table, &wanted).await?;
            Ok(pb::ListRowsResponse {
                rows: page.rows.into_iter().map(|found| row(&request.table, found)).collect(),
                next_page_token: page.next_page_token.unwrap_or_default(),
                total_size: page.total.and_then(|total| u64::try_from(total).ok()).unwrap_or_default(),
                revision: revision.get(),
            })
        })
        .await
    }

    async fn create_row(&self, request: Request<pb::CreateRowRequest>) -> Result<Response<pb::Row>, Status> {
        answer(request, async |call, request| {
            let seen = seen(Vec::new(), request.numbers)?;
            Ok(row(&request.table, self.0.create_row(&call, &request.table, &request.row, &seen).await?))
        })
        .await
    }

    async fn update_row(&self, request: Request<pb::UpdateRowRequest>) -> Result<Response<pb::Row>, Status> {
        answer(request, async |call, request| {
            let seen = seen(Vec::new(), request.numbers)?;
            let (change, expected) = ((&*request.resource_id, &*request.row), expected(&request.expected));
            Ok(row(&request.table, self.0.update_row(&call, &request.table, change, expected, &seen).await?))
        })
        .await
    }

    async fn delete_row(
        &self,
        request: Request<pb::DeleteRowRequest>,
    ) -> Result<Response<pb::DeleteRowResponse>, Status> {
        answer(request, async |call, request| {
            let expected = expected(&request.expected);
            self.0.delete_row(&call, &request.table, &request.resource_id, expected).await?;
            Ok(pb::DeleteRowResponse {})
        })
        .await
    }
}
