//! `rh_trex.v1.DinosaurService`.

use super::{bulk, row, rules};
use crate::{
    call::Call,
    catalog::Kind,
    error::Error,
    faces::grpc::{EventStream, answer, answer_watch, call_of, respond, status, watch_request},
    proto::{
        codec::Streamed,
        rh_trex::v1::{self as pb, dinosaur_service_server::DinosaurService},
    },
    service::{ListRequest, Paging, UseCases},
};
use tonic::{Request, Response, Status, Streaming};

/// The service.
pub(super) struct Service {
    cases: UseCases,
    kind: Kind,
}

impl Service {
    pub(super) fn new(cases: UseCases, kind: Kind) -> Self {
        Self { cases, kind }
    }

    async fn list(
        &self,
        call: &Call,
        request: pb::ListDinosaursRequest,
    ) -> Result<pb::ListDinosaursResponse, Error> {
        let pb::ListDinosaursRequest { page, size, filter, order_by } = &request;
        let paging = Paging::new(*page, *size);
        let request = ListRequest { paging, filter, order_by, ..ListRequest::default() };
        let listed = self.cases.list(call, &self.kind, request).await?;
        let metadata = pb::ListMeta {
            page: listed.paging.page,
            size: listed.paging.size,
            total: i32::try_from(listed.total).unwrap_or(i32::MAX),
            revision: listed.revision.get(),
        };
        let items = listed.rows.iter().map(|row| message(row)).collect::<Result<Vec<_>, _>>()?;
        Ok(pb::ListDinosaursResponse { items, metadata: Some(metadata) })
    }

    async fn watch(
        &self,
        call: &Call,
        request: pb::WatchDinosaursRequest,
    ) -> Result<Response<EventStream<pb::DinosaurWatchEvent>>, Error> {
        let wanted = watch_request!(request);
        Ok(answer_watch(call, self.cases.watch(call, &self.kind, wanted).await?))
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
        answer(request, async |call, request| {
            message(&self.cases.get(&call, &self.kind, rules::id(&request.id)?).await?)
        })
        .await
    }

    async fn create_dinosaur(
        &self,
        request: Request<pb::CreateDinosaurRequest>,
    ) -> Result<Response<pb::Dinosaur>, Status> {
        answer(request, async |call, request| {
            let species = rules::new_species(&request.species)?;
            message(&self.cases.create(&call, &self.kind, &[("species", species)]).await?)
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
                    self.cases.update(&call, &self.kind, id, &[("species", species)]).await?
                }
                None => self.cases.update(&call, &self.kind, id, &[]).await?,
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
            self.cases.delete(&call, &self.kind, rules::id(&request.id)?).await?;
            Ok(pb::DeleteDinosaurResponse {})
        })
        .await
    }

    async fn list_dinosaurs(
        &self,
        request: Request<pb::ListDinosaursRequest>,
    ) -> Result<Response<pb::ListDinosaursResponse>, Status> {
        answer(request, async |call, request| self.list(&call, request).await).await
    }

    type WatchDinosaursStream = EventStream<pb::DinosaurWatchEvent>;

    async fn watch_dinosaurs(
        &self,
        request: Request<pb::WatchDinosaursRequest>,
    ) -> Result<Response<Self::WatchDinosaursStream>, Status> {
        respond(request, async |call, request| self.watch(&call, request).await).await
    }

    async fn bulk_create_dinosaurs(
        &self,
        request: Request<Streaming<Streamed<pb::CreateDinosaurRequest>>>,
    ) -> Result<Response<pb::BulkCreateDinosaursResponse>, Status> {
        let call = call_of(&request);
        let created = bulk::create(&self.cases, &call, &self.kind.table, request).await;
        created.map(Response::new).map_err(|error| status(&error, &call))
    }

    type ImportDinosaursStream = bulk::ImportStream;

    async fn import_dinosaurs(
        &self,
        request: Request<Streaming<Streamed<pb::ImportDinosaursRequest>>>,
    ) -> Result<Response<Self::ImportDinosaursStream>, Status> {
        let call = call_of(&request);
        let (cases, table) = (self.cases.clone(), &self.kind.table);
        Ok(Response::new(bulk::import(cases, call, table, request.into_inner())))
    }
}
