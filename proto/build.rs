//! Compiles `sensor/v1/*.proto` without a protoc on the machine, and keeps the descriptors for reflection.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let mut files: Vec<PathBuf> = fs::read_dir("sensor/v1")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    files.sort();
    println!("cargo::rerun-if-changed=sensor/v1");

    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out.join("descriptors.bin"),
        protox::prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        .bytes(".sensor.v1.DeliverRequest.batch")
        .bytes(".sensor.v1.CompressedBatch.body")
        .extern_path(".sensor.v1.SubscribeResponse", "crate::v1::SubscribeResponse")
        .compile_fds(descriptors)?;
    Ok(())
}
