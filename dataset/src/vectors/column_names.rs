//! Names of the output's columns.

/// Column of the 0-based position in the corpus.
pub const ROW: &str = "row";
/// Column of the vectors.
pub const EMBEDDING: &str = "embedding";
/// Column of the factor that the elements of a vector are multiplied with, where its output type has one.
pub const EMBEDDING_SCALE: &str = "embedding_scale";
/// Column of the number of tokens fed to the model.
pub const N_TOKENS: &str = "n_tokens";
/// Column that tells whether the text was cut to the maximum length.
pub const TRUNCATED: &str = "truncated";
/// Column of the reason code of a rejected row.
pub const ERROR: &str = "error";
/// The names of ours, over all output types: a new output keeps no input column that has one of them.
pub const OUTPUT_COLUMNS: [&str; 6] = [ROW, EMBEDDING, EMBEDDING_SCALE, N_TOKENS, TRUNCATED, ERROR];
