//! Compiles the protobuf files under `proto/` without needing `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/anna.proto", "proto/aft.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    prost_build::Config::new()
        // Payloads are sliced out of the received message instead of being copied.
        .bytes(["."])
        // The same message is the same bytes, each time.
        .btree_map(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
