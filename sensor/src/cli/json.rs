//! Messages of the wire as JSON, by the descriptors that travel with them.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use super::text::harmless_json;

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(sensor_proto::DESCRIPTORS).ok());

/// Why a message cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// A defect of the build.
    #[error("the descriptors of this build do not know {0}")]
    Unknown(&'static str),
    /// The message does not fit its descriptor.
    #[error("cannot read the message by its descriptor: {0}")]
    Decode(#[from] prost::DecodeError),
    /// It is no such message.
    #[error("{0}")]
    Read(#[source] serde_json::Error),
    /// It cannot be written.
    #[error("cannot write JSON: {0}")]
    Write(#[from] serde_json::Error),
}

/// `message`, whose full name is `name`, as one line of JSON. Field names are those of the `.proto` files, numbers are numbers, bytes are
/// base64. Fields of value 0 are there: that somebody is user 0 must not have to be guessed.
///
/// # Errors
/// Only by a defect of the build.
pub fn to_json(message: &impl Message, name: &'static str) -> Result<String, JsonError> {
    let descriptor = POOL.as_ref().and_then(|pool| pool.get_message_by_name(name));
    let descriptor = descriptor.ok_or(JsonError::Unknown(name))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false)
        .skip_default_fields(false);
    let mut line = Vec::new();
    dynamic.serialize_with_options(&mut serde_json::Serializer::new(&mut line), &options)?;
    // It was written by serde_json, which writes nothing but UTF-8.
    Ok(harmless_json(String::from_utf8_lossy(&line).into_owned()))
}

/// The message that `line` is, as [`to_json`] writes it. Fields that are not there have the value 0.
///
/// # Errors
/// If it is no JSON, or that of another message.
pub fn from_json<M: Message + Default>(line: &str, name: &'static str) -> Result<M, JsonError> {
    let descriptor = POOL.as_ref().and_then(|pool| pool.get_message_by_name(name));
    let descriptor = descriptor.ok_or(JsonError::Unknown(name))?;
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let dynamic = DynamicMessage::deserialize(descriptor, &mut deserializer).map_err(JsonError::Read)?;
    deserializer.end().map_err(JsonError::Read)?;
    Ok(M::decode(dynamic.encode_to_vec().as_slice())?)
}

#[cfg(test)]
mod tests {
    use sensor_proto::v1::{Entry, Event, Exit, Process, entry, event};

    use super::*;

    #[test]
    fn names_are_those_of_the_contract_and_zeros_are_said() {
        let process = Process {
            executable_raw: vec![0xff],
            ..Process::default()
        };
        let exit = Exit {
            code: Some(0),
            ..Exit::default()
        };
        let event = Event {
            boot_time_ns: u64::MAX,
            process: Some(process),
            body: Some(event::Body::Exit(exit)),
            ..Event::default()
        };
        let entry = Entry {
            host: "a\n\u{1b}b\u{9b}\u{202e}\u{7f}\u{e0041}".into(),
            body: Some(entry::Body::Event(event)),
        };
        let line = to_json(&entry, "sensor.v1.Entry").expect("is known");
        assert!(!line.chars().any(char::is_control), "{line}");
        let json: serde_json::Value = serde_json::from_str(&line).expect("is JSON");
        assert!(line.contains(r"\u009b\u202e\u007f\udb40\udc41"), "{line}");
        assert_eq!(json["host"], "a\n\u{1b}b\u{9b}\u{202e}\u{7f}\u{e0041}");
        assert_eq!(json["event"]["boot_time_ns"], u64::MAX);
        assert_eq!(json["event"]["process"]["uid"], 0);
        assert_eq!(json["event"]["process"]["executable_raw"], "/w==");
        assert_eq!(json["event"]["exit"]["code"], 0);
        assert!(json["event"]["exit"].get("signal").is_none());
    }

    #[test]
    fn every_message_that_is_printed_is_known() {
        assert!(to_json(&sensor_proto::v1::Status::default(), "sensor.v1.Status").is_ok());
        assert!(to_json(&Entry::default(), "sensor.v1.Nothing").is_err());
    }
}
