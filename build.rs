//! Compiles the protos in pure Rust (no protoc) and keeps the whole descriptor set, options included, for
//! reflection.

use prost_types::FileDescriptorSet;
use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut protos = Vec::new();
    find_protos(Path::new("proto"), &mut protos)?;
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(false).include_imports(true).open_files(protos)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.binpb"), compiler.encode_file_descriptor_set())?;
    let mut set = compiler.file_descriptor_set();
    let mut builder =
        tonic_prost_build::configure().codec_path("crate::proto::codec::StrictProst").build_transport(false);
    for (proto_type, rust_type) in stream_items(&mut set) {
        builder = builder.extern_path(proto_type, rust_type);
    }
    builder.compile_fds(set)?;
    Ok(())
}

/// A client's stream survives a message that does not decode: in Rust, and in Rust alone, its messages are
/// `Streamed<M>`. Gives the methods such an input type, and returns where it is.
fn stream_items(set: &mut FileDescriptorSet) -> Vec<(String, String)> {
    let methods =
        set.file.iter_mut().flat_map(|file| &mut file.service).flat_map(|service| &mut service.method);
    let methods = methods.filter(|method| method.client_streaming());
    methods
        .map(|method| {
            let message = method.input_type().to_owned();
            let rust_path = message.trim_start_matches('.').replace('.', "::");
            let streamed = format!("{message}.Streamed");
            method.input_type = Some(streamed.clone());
            (streamed, format!("crate::proto::codec::Streamed<crate::proto::{rust_path}>"))
        })
        .collect()
}

/// In a fixed order, so that builds are repeatable.
fn find_protos(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            find_protos(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(())
}
