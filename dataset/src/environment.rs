//! What the operator says of storage by environment variables: credentials, endpoints and switches. The program hands them
//! over; this crate reads no environment.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{PoisonError, RwLock};

use crate::storage::forget_buckets;

pub(crate) type Variables = BTreeMap<String, String>;

static NONE: Variables = BTreeMap::new();
static VARIABLES: RwLock<&Variables> = RwLock::new(&NONE);

/// Takes the variables that configure storage for the whole process. Call it before any storage is opened; without it there
/// are no credentials, and every switch is off. Other variables than before hold for what is opened from then on.
pub fn set_environment(variables: impl IntoIterator<Item = (String, String)>) {
    let variables: Variables = variables.into_iter().collect();
    if *self::variables() != variables {
        // Once for a program, and for each change that a notebook makes.
        *VARIABLES.write().unwrap_or_else(PoisonError::into_inner) = Box::leak(Box::new(variables));
        forget_buckets();
    }
}

pub(crate) fn variables() -> &'static Variables {
    *VARIABLES.read().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a variable that is set.
pub(crate) fn variable(name: &str) -> Option<&'static str> {
    variables().get(name).map(String::as_str)
}

/// Reads a switch.
pub(crate) fn env_flag(name: &str) -> bool {
    variable(name).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes"))
}

/// Lists the settings of a store among variables: those with its prefix whose name in lower case is a key of its. Empty ones are not
/// set.
pub(crate) fn settings<'v, K: FromStr>(
    variables: &'v Variables,
    prefix: &'v str,
) -> impl Iterator<Item = (K, &'v str)> {
    let of_store = variables.iter().filter(move |(name, value)| name.starts_with(prefix) && !value.is_empty());
    of_store.filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.as_str())))
}

#[cfg(test)]
mod tests {
    use object_store::aws::AmazonS3ConfigKey;

    use super::*;

    #[test]
    fn settings_are_the_variables_that_a_store_knows() {
        let pairs = [("AWS_REGION", "eu"), ("AWS_PAGER", "less"), ("GOOGLE_BUCKET", "b"), ("aws_region", "us")];
        let variables = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let found: Vec<(AmazonS3ConfigKey, &str)> = settings(&variables, "AWS_").collect();
        assert_eq!(found, [(AmazonS3ConfigKey::Region, "eu")]);
    }
}
