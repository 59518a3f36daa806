//! `rh_trex.v1.DinosaurService`.

use super::{
    bulk,
    fields::SCHEMA,
    row,
    rules::{self, Paging},
};
use crate::{
    call::Call,
    error::Error,
    faces::grpc::{EventStream, Hub, WatchRequest, answer, call_of, status},
    model::{
        Revision, Table,
        filter::{self, Filter, Scope},
    },
    proto::{
        codec::Streamed,
        rh_trex::v1::{self as pb, dinosaur_service_server::DinosaurService},
    },
    store::Choice,
};
use tonic::{Request, Response, Status, Streaming};

/// The service.
pub(super) struct Service {
    hub: Hub,
    table: Table,
}

impl Service {
    pub(super) fn new(hub: Hub, table: Table) -> Self {
        Self { hub, table }
    }

    async fn watch(
        &self,
        call: &Call,
        request: pb::WatchDinosaursRequest,
    ) -> Result<Response<EventStream<pb::DinosaurWatchEvent>>, Error> {
        let watch = WatchRequest {
            filter: WatchRequest::filter(&request.filter, &SCHEMA)?,
            types: request.types,
            resource_ids: request.resource_ids,
            after: request.after_revision.map(Revision::new),
            epoch: request.epoch,
            backpressure: request.backpressure,
            include_previous: request.include_previous,
            buffer: request.buffer,
            send_initial_state: request.send_initial_state,
            bookmark_interval: request.bookmark_interval,
        };
        self.hub.watch(call, self.table.kind.as_str(), watch).await
    }

    async fn list(&self, request: pb::ListDinosaursRequest) -> Result<pb::ListDinosaursResponse, Error> {
        let filter = Filter::parse(&request.filter, &SCHEMA, Scope::Rows)
            .map_err(|fault| Error::invalid("filter", fault.to_string()))?;
        let order_by = filter::order_by(&request.order_by, &SCHEMA)
            .map_err(|fault| Error::invalid("order_by", fault.to_string()))?;
        let choice = Choice { schema: &SCHEMA, filter: filter.as_ref(), order_by: &order_by };
        let paging = Paging::new(request.page, request.size);
        // Before the page is read: what the page shows may come again to a watch from here, and nothing is missed.
        let revision = self.hub.head(self.table.kind.as_str())?;
        let page = self.hub.store.page(&self.table, &choice, paging.offset(), paging.size.into()).await?;
        let items = page.rows.iter().map(|row| message(row)).collect::<Result<Vec<_>, _>>()?;
        let metadata = pb::ListMeta {
            page: paging.page,
            size: paging.size,
            total: i32::try_from(page.total).unwrap_or(i32::MAX),
            revision: revision.get(),
        };
        Ok(pb::ListDinosaursResponse { items, metadata: Some(metadata) })
    }
}

fn message(row: &str) -> Result<pb::Dinosaur, Error> {
    row::read(row).map_err(|error| Error::Internal(error.into()))
}

#[tonic::async_trait]
impl DinosaurService for Service {
    async fn get_dinosaur(
        &self,
        request: Request<pb::GetDinosaurRequest>,
    ) -> Result<Response<pb::Dinosaur>, Status> {
        answer(request, async |_, request| {
            message(&self.hub.store.get(&self.table, rules::id(&request.id)?).await?)
        })
        .await
    }

    async fn create_dinosaur(
        &self,
        request: Request<pb::CreateDinosaurRequest>,
    ) -> Result<Response<pb::Dinosaur>, Status> {
        answer(request, async |call, request| {
            let species = rules::new_species(&request.species)?;
            message(&self.hub.store.insert(&call, &self.table, &[("species", &species)]).await?)
        })
        .await
    }

    async fn update_dinosaur(
        &self,
        request: Request<pb::UpdateDinosaurRequest>,
    ) -> Result<Response<pb::Dinosaur>, Status> {
        answer(request, async |call, request| {
            let id = rules::id(&request.id)?;
            let row = match &request.species {
                Some(species) => {
                    let species = rules::species(species)?;
                    self.hub.store.update(&call, &self.table, id, &[("species", &species)]).await?
                }
                None => self.hub.store.get(&self.table, id).await?,
            };
            message(&row)
        })
        .await
    }

    async fn delete_dinosaur(
        &self,
        request: Request<pb::DeleteDinosaurRequest>,
    ) -> Result<Response<pb::DeleteDinosaurResponse>, Status> {
        answer(request, async |call, request| {
            self.hub.store.delete(&call, &self.table, rules::id(&request.id)?).await?;
            Ok(pb::DeleteDinosaurResponse {})
        })
        .await
    }

    async fn list_dinosaurs(
        &self,
        request: Request<pb::ListDinosaursRequest>,
    ) -> Result<Response<pb::ListDinosaursResponse>, Status> {
        answer(request, async |_, request| self.list(request).await).await
    }

    type WatchDinosaursStream = EventStream<pb::DinosaurWatchEvent>;

    async fn watch_dinosaurs(
        &self,
        request: Request<pb::WatchDinosaursRequest>,
    ) -> Result<Response<Self::WatchDinosaursStream>, Status> {
        let call = call_of(&request);
        let watched = self.watch(&call, request.into_inner()).await;
        watched.map_err(|error| status(&error, &call))
    }

    async fn bulk_create_dinosaurs(
        &self,
        request: Request<Streaming<Streamed<pb::CreateDinosaurRequest>>>,
    ) -> Result<Response<pb::BulkCreateDinosaursResponse>, Status> {
        let call = call_of(&request);
        let created = bulk::create(&self.hub, &call, &self.table, request).await;
        created.map(Response::new).map_err(|error| status(&error, &call))
    }

    type ImportDinosaursStream = bulk::ImportStream;

    async fn import_dinosaurs(
        &self,
        request: Request<Streaming<Streamed<pb::ImportDinosaursRequest>>>,
    ) -> Result<Response<Self::ImportDinosaursStream>, Status> {
        let call = call_of(&request);
        Ok(Response::new(bulk::import(self.hub.clone(), call, &self.table, request.into_inner())))
    }
}
