//! Generates the server traits of etcd's lock and election services, and of what is implemented of
//! its authentication service. Crate `etcd-client` generates them too but does not export them, or
//! not all of their messages; describing them in Rust keeps the build free of `protoc`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "server")]
    services::generate();
}

#[cfg(feature = "server")]
mod services {
    use tonic_build::manual::{Builder, Method, MethodBuilder, Service};

    pub fn generate() {
        let lock = Service::builder()
            .name("Lock")
            .package("v3lockpb")
            .method(method("lock", "Lock", "LockRequest", "PbLockResponse").build())
            .method(method("unlock", "Unlock", "UnlockRequest", "PbUnlockResponse").build())
            .build();
        let election = Service::builder()
            .name("Election")
            .package("v3electionpb")
            .method(
                method(
                    "campaign",
                    "Campaign",
                    "CampaignRequest",
                    "PbCampaignResponse",
                )
                .build(),
            )
            .method(
                method(
                    "proclaim",
                    "Proclaim",
                    "ProclaimRequest",
                    "PbProclaimResponse",
                )
                .build(),
            )
            .method(method("leader", "Leader", "LeaderRequest", "PbLeaderResponse").build())
            .method(
                method("observe", "Observe", "LeaderRequest", "PbLeaderResponse")
                    .server_streaming()
                    .build(),
            )
            .method(method("resign", "Resign", "ResignRequest", "PbResignResponse").build())
            .build();
        let auth = Service::builder()
            .name("Auth")
            .package("etcdserverpb")
            .method(
                with_messages(
                    "authenticate",
                    "Authenticate",
                    "crate::server::proto::AuthenticateRequest",
                    "crate::server::proto::AuthenticateResponse",
                )
                .build(),
            )
            .method(
                with_messages(
                    "auth_status",
                    "AuthStatus",
                    "crate::server::proto::AuthStatusRequest",
                    "crate::server::proto::AuthStatusResponse",
                )
                .build(),
            )
            .build();
        Builder::new()
            .build_client(false)
            .compile(&[lock, election, auth]);
    }

    /// Makes a method. Its request is a message of `server::proto`, and its response a message of
    /// `etcd-client`.
    fn method(name: &str, route: &str, request: &str, response: &str) -> MethodBuilder {
        let request = format!("crate::server::proto::{request}");
        let response = format!("etcd_client::proto::{response}");
        with_messages(name, route, &request, &response)
    }

    /// Makes a method with these types of messages.
    fn with_messages(name: &str, route: &str, request: &str, response: &str) -> MethodBuilder {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(request)
            .output_type(response)
            .codec_path("tonic_prost::ProstCodec")
    }
}
