//! The methods that the protos of etcd have, by their descriptor.

use std::path::PathBuf;
use std::process::Command;

use prost::Message;
use prost_types::FileDescriptorSet;

/// The files whose services the server has, or could be expected to have.
const FILES: [&str; 3] = [
    "etcd/api/etcdserverpb/rpc.proto",
    "etcd/server/etcdserver/api/v3election/v3electionpb/v3election.proto",
    "etcd/server/etcdserver/api/v3lock/v3lockpb/v3lock.proto",
];

/// Returns the folder with the protos that the crate `etcd-client` is built from.
fn find_protos() -> PathBuf {
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
    let manifest = PathBuf::from(manifest.expect("it is a dependency"));
    manifest.with_file_name("proto")
}

/// Returns the paths of all methods.
pub(super) fn read_methods() -> Vec<String> {
    let protos = find_protos();
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
    let set = FileDescriptorSet::decode(set.as_slice()).expect("a descriptor set");
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let service_name = format!("{}.{}", file.package(), service.name());
            let names = service.method.iter();
            methods.extend(names.map(|method| format!("/{service_name}/{}", method.name())));
        }
    }
    methods
}
