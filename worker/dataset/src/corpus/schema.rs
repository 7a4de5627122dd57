//! The schema of the kept columns: one for the whole corpus, carried by every planned source.

use arrow_ipc::convert::try_schema_from_ipc_buffer;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_schema::Schema;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::corpus::PlannedSource;
use crate::error::DatasetError;

/// Returns the schema of the kept columns, which is the same for every source of a corpus.
///
/// # Errors
/// `Corrupt` where `kept_schema` is not what [`crate::corpus::inspect`] wrote.
pub fn kept_schema_of(source: &PlannedSource) -> Result<Schema, DatasetError> {
    let broken = |problem: String| DatasetError::corrupt(source.source.uri.as_str(), None, problem);
    let bytes = STANDARD
        .decode(&source.kept_schema)
        .map_err(|error| broken(format!("its planned schema is not base64: {error}")))?;
    try_schema_from_ipc_buffer(&bytes).map_err(|error| broken(format!("its planned schema does not decode: {error}")))
}

/// Encodes a schema as base64 of an encapsulated Arrow IPC schema message.
pub(crate) fn encode_schema(schema: &Schema) -> String {
    let mut tracker = DictionaryTracker::new(true);
    let message = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        schema,
        &mut tracker,
        &IpcWriteOptions::default(),
    );
    let mut bytes = vec![0xff; 4];
    let length = u32::try_from(message.ipc_message.len()).expect("a schema message is far below 4 GiB");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&message.ipc_message);
    STANDARD.encode(bytes)
}
