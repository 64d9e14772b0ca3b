//! Messages of the wire as JSON, by the descriptors that travel with them.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(sensor_proto::DESCRIPTORS).ok());

/// Why a message cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// A defect of the build.
    #[error("the descriptors of this build do not know {0}")]
    Unknown(String),
    /// The message does not fit its descriptor.
    #[error("cannot read the message by its descriptor: {0}")]
    Decode(#[from] prost::DecodeError),
    /// It cannot be written.
    #[error("cannot write JSON: {0}")]
    Write(#[from] serde_json::Error),
}

/// `message` as one line of JSON. Names are those of the `.proto` files, numbers are numbers, bytes are
/// base64. Fields of value 0 are there: that somebody is user 0 must not have to be guessed.
///
/// # Errors
/// Only by a defect of the build.
pub fn to_json<M: Message + Name>(message: &M) -> Result<String, JsonError> {
    let descriptor = POOL
        .as_ref()
        .and_then(|pool| pool.get_message_by_name(&M::full_name()));
    let descriptor = descriptor.ok_or_else(|| JsonError::Unknown(M::full_name()))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false)
        .skip_default_fields(false);
    let mut line = Vec::new();
    dynamic.serialize_with_options(&mut serde_json::Serializer::new(&mut line), &options)?;
    // It was written by serde_json, which writes nothing but UTF-8.
    Ok(String::from_utf8_lossy(&line).into_owned())
}
