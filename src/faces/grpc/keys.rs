//! `hub.v1.InternalAuthService`: API keys, for the operator and for services that are shown one.

use super::answer;
use crate::{
    error::Error,
    proto::hub::v1::{
        self as pb,
        internal_auth_service_server::{InternalAuthService, InternalAuthServiceServer},
    },
    service::keys::{KeyRequest, Keys},
    store::ApiKeyRow,
};
use std::time::SystemTime;
use tonic::{Request, Response, Status};

/// The service.
pub(super) struct ApiKeys(Keys);

impl ApiKeys {
    pub(super) fn service(keys: Keys) -> InternalAuthServiceServer<Self> {
        InternalAuthServiceServer::new(Self(keys))
    }
}

#[tonic::async_trait]
impl InternalAuthService for ApiKeys {
    async fn validate_api_key(
        &self,
        request: Request<pb::ValidateApiKeyRequest>,
    ) -> Result<Response<pb::ValidateApiKeyResponse>, Status> {
        answer(request, async |call, request| {
            let Some(owner) = self.0.validate(&call, &request.api_key).await? else {
                return Ok(pb::ValidateApiKeyResponse::default());
            };
            Ok(pb::ValidateApiKeyResponse {
                is_valid: true,
                principal: owner.name().unwrap_or_default(),
                scopes: owner.scopes.iter().map(ToString::to_string).collect(),
            })
        })
        .await
    }

    async fn create_api_key(
        &self,
        request: Request<pb::CreateApiKeyRequest>,
    ) -> Result<Response<pb::CreateApiKeyResponse>, Status> {
        answer(request, async |call, request| {
            let pb::CreateApiKeyRequest { name, scopes, expires_at } = request;
            let expires_at = expires_at.map(SystemTime::try_from).transpose();
            let expires_at =
                expires_at.map_err(|_| Error::invalid("expires_at", "must be a time that can be told"))?;
            let (made, row) = self.0.create(&call, &KeyRequest { name, scopes, expires_at }).await?;
            Ok(pb::CreateApiKeyResponse { api_key: made.reveal().to_owned(), key: Some(api_key(row)) })
        })
        .await
    }

    async fn list_api_keys(
        &self,
        request: Request<pb::ListApiKeysRequest>,
    ) -> Result<Response<pb::ListApiKeysResponse>, Status> {
        answer(request, async |call, request| {
            let rows = self.0.list(&call, request.include_revoked).await?;
            Ok(pb::ListApiKeysResponse { keys: rows.into_iter().map(api_key).collect() })
        })
        .await
    }

    async fn revoke_api_key(
        &self,
        request: Request<pb::RevokeApiKeyRequest>,
    ) -> Result<Response<pb::RevokeApiKeyResponse>, Status> {
        answer(request, async |call, request| {
            self.0.revoke(&call, &request.id).await?;
            Ok(pb::RevokeApiKeyResponse {})
        })
        .await
    }
}

/// A key as clients are told of it.
pub fn api_key(row: ApiKeyRow) -> pb::ApiKey {
    pb::ApiKey {
        id: row.id,
        name: row.name,
        scopes: row.scopes,
        created_at: Some(row.created_at.into()),
        created_by: row.created_by.unwrap_or_default(),
        expires_at: row.expires_at.map(Into::into),
        revoked_at: row.revoked_at.map(Into::into),
        last_used_at: row.last_used_at.map(Into::into),
    }
}
