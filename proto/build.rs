//! Compiles `sensor/v1/*.proto` without a protoc on the machine, keeps the descriptors for reflection, and writes down the shapes of the
//! messages, by which [`bounded`](../src/bounded.rs) tells what bytes would become.

use std::{collections::BTreeSet, env, error::Error, fmt::Write as _, fs, path::PathBuf};

use protox::prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut files: Vec<PathBuf> = fs::read_dir("sensor/v1")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    files.sort();
    println!("cargo::rerun-if-changed=sensor/v1");

    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let messages: Vec<_> = descriptors
        .file
        .iter()
        .flat_map(|file| &file.message_type)
        .collect();
    fs::write(out.join("shapes.rs"), shapes(&messages)?)?;
    fs::write(
        out.join("descriptors.bin"),
        protox::prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        .bytes(".sensor.v1.DeliverRequest.batch")
        .bytes(".sensor.v1.CompressedBatch.body")
        .extern_path(".sensor.v1.SubscribeResponse", "crate::v1::SubscribeResponse")
        .compile_fds(descriptors)?;
    // Every call decodes within bounds, whichever end it is at. There is no option for the codec where descriptors are compiled.
    let generated = out.join("sensor.v1.rs");
    let code = fs::read_to_string(&generated)?;
    let bounded = code.replace("tonic_prost::ProstCodec", "crate::bounded::BoundedCodec");
    if bounded == code {
        return Err("the generated services use another codec than the one to be replaced".into());
    }
    fs::write(generated, bounded)?;
    Ok(())
}

/// A `Shape` for each message, as Rust.
fn shapes(messages: &[&DescriptorProto]) -> Result<String, Box<dyn Error>> {
    let mut code = String::new();
    for message in messages {
        if !message.nested_type.is_empty() {
            return Err(format!(
                "{} has messages of its own, maps perhaps: their shapes are not known",
                message.name()
            )
            .into());
        }
        let (name, shape) = (message.name(), constant(message.name()));
        let past = message
            .field
            .iter()
            .map(|field| field.number() + 1)
            .max()
            .unwrap_or(0);
        let fields: String = (0..past)
            .map(|number| {
                let field = message.field.iter().find(|field| field.number() == number);
                format!("Field::{}, ", field.map_or("Plain".into(), kind))
            })
            .collect();
        let mut within = BTreeSet::new();
        repeated_within(message, messages, &mut within);
        let widest: String = within
            .iter()
            .map(|name| format!("size_of::<crate::v1::{name}>(), "))
            .collect();
        write!(
            code,
            "static {shape}: Shape = Shape {{ name: \"{name}\", bytes: size_of::<crate::v1::{name}>(), widest: largest(&[{widest}]), \
             fields: &[{fields}] }};\n\
             impl Bounded for crate::v1::{name} {{ fn shape() -> &'static Shape {{ &{shape} }} }}\n"
        )?;
    }
    Ok(code)
}

fn kind(field: &FieldDescriptorProto) -> String {
    let repeated = field.label() == Label::Repeated;
    match field.r#type() {
        Type::Message => {
            let what = if repeated { "Many" } else { "One" };
            format!("{what}(&{})", constant(of(field)))
        }
        Type::String | Type::Bytes => "Text".into(),
        _ if repeated => "Numbers".into(),
        _ => "Plain".into(),
    }
}

/// The messages that may come any number of times anywhere in `message`.
fn repeated_within(message: &DescriptorProto, all: &[&DescriptorProto], names: &mut BTreeSet<String>) {
    for field in &message.field {
        let Some(inner) = all
            .iter()
            .find(|other| field.r#type() == Type::Message && other.name() == of(field))
        else {
            continue;
        };
        // No message holds itself: prost would have had to put it into a box, and Rust refuses a type without end.
        if field.label() == Label::Repeated && !names.insert(inner.name().to_owned()) {
            continue;
        }
        repeated_within(inner, all, names);
    }
}

/// The name of a field's message without its package, which is ours: nothing else is imported.
fn of(field: &FieldDescriptorProto) -> &str {
    field.type_name().trim_start_matches(".sensor.v1.")
}

fn constant(name: &str) -> String {
    name.to_uppercase()
}
