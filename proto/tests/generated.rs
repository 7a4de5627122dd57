//! The committed `src/generated.rs` is what the `.proto` files say. `UPDATE=1` writes it anew; no protoc is needed.

use std::fs;
use std::path::{Path, PathBuf};

const HEADER: &str = "// Generated from proto/encaje/v1/*.proto by `UPDATE=1 cargo test -p proto --test generated`. Do not edit.\n\n\
/// The descriptors of the `.proto` files, for reflection.\n\
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(\"generated.bin\");\n\n";

#[test]
fn the_generated_code_is_what_the_proto_files_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let includes = root.join("proto");
    let files = [
        includes.join("encaje/v1/jobs.proto"),
        includes.join("encaje/v1/work.proto"),
        includes.join("encaje/v1/storage.proto"),
    ];
    let descriptors = protox::compile(files, [&includes]).expect("the proto files compile");

    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("generated");
    fs::create_dir_all(&out).unwrap();
    tonic_prost_build::configure()
        .build_transport(false)
        .btree_map(".")
        .emit_rerun_if_changed(false)
        .out_dir(&out)
        .compile_fds(descriptors.clone())
        .expect("the code generator accepts the descriptors");
    let code = format!("{HEADER}{}", fs::read_to_string(out.join("encaje.v1.rs")).unwrap());

    // Comments are for readers of the .proto files: reflection does without them.
    let mut bare = descriptors;
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    let set = prost::Message::encode_to_vec(&bare);

    check(&root.join("src/generated.rs"), code.as_bytes());
    check(&root.join("src/generated.bin"), &set);
}

fn check(path: &Path, expected: &[u8]) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, expected).expect("the source folder is writable");
    }
    let found = fs::read(path).unwrap_or_default();
    assert!(found == expected, "{} is stale: run `UPDATE=1 cargo test -p proto --test generated`", path.display());
}
