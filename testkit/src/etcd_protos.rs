//! The services and messages of etcd's protos, as the crate `etcd-client` has them.

use std::path::PathBuf;
use std::process::Command;

use prost_reflect::{DescriptorPool, MethodDescriptor};

/// The files whose services the server has, or could be expected to have.
const FILES: [&str; 3] = [
    "etcd/api/etcdserverpb/rpc.proto",
    "etcd/server/etcdserver/api/v3election/v3electionpb/v3election.proto",
    "etcd/server/etcdserver/api/v3lock/v3lockpb/v3lock.proto",
];

/// Returns the folder with the sources of the crate `etcd-client`.
///
/// # Panics
/// If cargo does not say where it is.
pub fn find_crate() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--format-version=1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {errors}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    let client = packages
        .iter()
        .find(|package| package["name"] == "etcd-client");
    let manifest = client.and_then(|package| package["manifest_path"].as_str());
    let mut manifest = PathBuf::from(manifest.expect("it is a dependency"));
    manifest.pop();
    manifest
}

/// Returns the descriptions of all messages and services.
///
/// # Panics
/// If `protoc` fails.
pub fn read_descriptors() -> DescriptorPool {
    let protos = find_crate().join("proto");
    let folder = tempfile::tempdir().expect("a folder");
    let set = folder.path().join("set");
    let output = Command::new(std::env::var_os("PROTOC").expect("cargo sets it"))
        .arg("--include_imports")
        .arg("--descriptor_set_out")
        .arg(&set)
        .arg("-I")
        .arg(&protos)
        .args(FILES.map(|file| protos.join(file)))
        .output()
        .expect("protoc runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "protoc: {errors}");
    let set = std::fs::read(set).expect("it was written");
    DescriptorPool::decode(set.as_slice()).expect("a descriptor set")
}

/// Returns all methods, in the order of the files.
pub fn methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
    let services = pool.services();
    services
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect()
}

/// Returns the path of a method in HTTP/2.
pub fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}
