//! Compiles the protos in pure Rust (no protoc) and keeps the whole descriptor
//! set, options included, for reflection.

use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: [&str; 2] = ["rh_trex/v1/common.proto", "rh_trex/v1/dinosaurs.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(false).include_imports(true).open_files(PROTOS)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.binpb"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .codec_path("crate::proto::codec::StrictProst")
        .build_transport(false)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
