//! `etcdserverpb.Auth`: users show their passwords. Users and rights are changed in files alone, so
//! the other methods are not implemented.

use backend_kit::secret::Secret;
use tonic::{Request, Response, Status};

use super::access::LoginError;
use super::proto::{
    Auth as AuthService, AuthStatusRequest, AuthStatusResponse, AuthenticateRequest,
    AuthenticateResponse,
};
use super::state::Shared;
use super::status;

/// The authentication service.
pub(super) struct Auth(pub(super) Shared);

#[tonic::async_trait]
impl AuthService for Auth {
    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        let AuthenticateRequest { name, password } = request.into_inner();
        let password = Secret::new(password);
        let Some(access) = self.0.access() else {
            return Err(Status::failed_precondition(status::AUTH_NOT_ENABLED));
        };
        match access.log_in(&name, password).await {
            Ok(token) => Ok(Response::new(AuthenticateResponse {
                header: Some(self.0.header_now()),
                token,
            })),
            Err(LoginError::Failed) => Err(Status::invalid_argument(status::AUTH_FAILED)),
            Err(LoginError::Busy) => Err(status::exhausted(status::TOO_MANY_REQUESTS)),
        }
    }

    async fn auth_status(
        &self,
        _: Request<AuthStatusRequest>,
    ) -> Result<Response<AuthStatusResponse>, Status> {
        let access = self.0.access();
        Ok(Response::new(AuthStatusResponse {
            header: Some(self.0.header_now()),
            enabled: access.is_some(),
            auth_revision: access.map_or(0, |access| access.revision()),
        }))
    }
}
