//! A panic anywhere in a run breaks an invariant.

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic;
use std::sync::Once;

use crate::record::Record;

thread_local! {
    static RECORD: RefCell<Option<Record>> = const { RefCell::new(None) };
}

/// How many frames of a backtrace are told.
const FRAMES_MAX: usize = 8;

static HOOK: Once = Once::new();

/// Has the panics of this thread recorded from now on.
pub fn watch(record: &Record) {
    RECORD.set(Some(record.clone()));
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let record = RECORD.with_borrow(Clone::clone);
            match record {
                Some(record) => {
                    let trace = Backtrace::force_capture().to_string();
                    record.violated("nothing panics", format!("{info}{}", own_frames(&trace)));
                }
                None => usual(info),
            }
        }));
    });
}

/// Ends that.
pub fn unwatch() {
    RECORD.set(None);
}

/// Returns the frames of a backtrace that are in this workspace, innermost first.
fn own_frames(trace: &str) -> String {
    let is_own = |line: &&str| line.contains("at ./") || line.contains("/eidetica-");
    let own = trace.lines().filter(is_own).map(str::trim);
    own.take(FRAMES_MAX)
        .flat_map(|line| ["\n    ", line])
        .collect()
}
