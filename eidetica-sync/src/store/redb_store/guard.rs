//! Panics of the database become errors.
//!
//! redb checks much of what it reads, and panics on some of the rest. A damaged file must not end a
//! server that has other trees.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Tells whether a panic on this thread becomes an error of a store. A program that prints panics need
/// not print that one.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// Does `work`, and returns the text of a panic in it.
pub(super) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = GUARDED.replace(true);
    // What the database shares between calls is thrown away and opened again after a panic.
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    done.map_err(|panic| text(&*panic))
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it does not say why").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_caught_and_told() {
        assert_eq!(catch(|| 7), Ok(7));
        let nested = catch(|| {
            assert!(is_guarded());
            let inner = catch(|| panic!("page {}", 3)).map(|()| 0);
            assert!(is_guarded());
            assert_eq!(inner, Err("page 3".to_owned()));
            panic!("outer")
        });
        assert_eq!(nested, Err::<(), _>("outer".to_owned()));
        assert!(!is_guarded());
    }
}
