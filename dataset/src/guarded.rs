//! Decoders of other projects on bytes that anybody may have written: a panic there is an error of the file, not the end of
//! the process, and leaves no trace on standard error.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Panics of this thread are caught and returned as errors.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a decoder; an error is what it said when it panicked. State that it had a hold of must not be used after that.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                report(info);
            }
        }));
    });
    let before = GUARDED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(decode));
    GUARDED.set(before);
    outcome.map_err(|panic| said(panic.as_ref()))
}

/// Returns the error of a panic that is want of memory, which zstd's binding does not tell in another way.
pub(crate) fn memory_error(said: &str) -> Option<io::Error> {
    let what =
        "zstd got no memory: allow the process more (`ulimit -v`, the limit of its container), or use fewer --threads";
    said.starts_with("zstd returned null pointer").then(|| io::Error::new(io::ErrorKind::OutOfMemory, what))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no reason given").lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_memory_is_told_from_damage() {
        let said = guarded(|| panic!("zstd returned null pointer when creating new context"));
        let said = said.map_or_else(|said: String| said, |()| String::new());
        assert!(memory_error(&said).is_some_and(|error| error.to_string().contains("ulimit -v")));
        assert!(memory_error("index out of bounds").is_none());
    }

    #[test]
    fn a_panic_becomes_an_error_with_its_first_line() {
        assert_eq!(guarded(|| 7), Ok(7));
        assert_eq!(guarded(|| panic!("one\ntwo")), Err::<(), _>("one".to_owned()));
        assert_eq!(guarded(|| guarded(|| panic!("{}", 1)).is_err()), Ok(true));
    }
}
