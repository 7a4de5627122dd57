//! Reads `config.json`.

/// Returns the `model_type`s this engine knows, as prose.
pub(crate) fn known_architectures() -> String {
    String::new()
}
