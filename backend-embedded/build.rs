//! Generates the server traits of etcd's lock and election services. Crate `etcd-client` generates
//! them too but does not export them; describing them in Rust keeps the build free of `protoc`.

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
        Builder::new()
            .build_client(false)
            .compile(&[lock, election]);
    }

    /// Makes a method. Its request is a message of `server::proto`, and its response a message of
    /// `etcd-client`.
    fn method(name: &str, route: &str, request: &str, response: &str) -> MethodBuilder {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(format!("crate::server::proto::{request}"))
            .output_type(format!("etcd_client::proto::{response}"))
            .codec_path("tonic_prost::ProstCodec")
    }
}
