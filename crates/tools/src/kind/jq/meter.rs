//! Stops filters that never end. jq has no fuel, but every step of an evaluation looks up its term
//! in a table that is reached through our own type: there the steps are counted. A filter that must
//! end is unwound from there.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use jaq_core::{
    DataT, Error, Exn, Lut, Native, RunPtr,
    box_iter::box_once,
    data::HasLut,
    native::{self, Fun, v},
};
use jaq_json::Val;
use tokio_util::sync::CancellationToken;

/// Steps of one evaluation: some seconds of work, and a bound on the memory that a filter that never
/// ends can collect meanwhile.
pub(super) const STEPS_MAX: u64 = 50_000_000;

/// How deep the evaluation may go on the stack: half of what a blocking thread has.
const STACK_BYTES_MAX: usize = 1024 * 1024;

/// How many steps pass between two looks at the clock: well under a millisecond.
const STEPS_BETWEEN_LOOKS: u64 = 4096;

/// Why an evaluation was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It was cancelled.
    Cancelled,
    /// It took too long.
    Timeout,
    /// It took [`STEPS_MAX`] steps.
    Work,
    /// It went deeper than [`STACK_BYTES_MAX`].
    Depth,
}

/// Counts the steps of one evaluation.
pub(super) struct Meter {
    left: Cell<u64>,
    base: usize,
    ends: Option<Instant>,
    cancel: CancellationToken,
}

impl Meter {
    pub(super) fn new(timeout: Duration, cancel: CancellationToken) -> Self {
        let ends = Instant::now().checked_add(timeout);
        Self { left: Cell::new(STEPS_MAX), base: stack_position(), ends, cancel }
    }

    /// Returns what `work` returns, or why the meter stopped it.
    pub(super) fn watch<T>(&self, work: impl FnOnce() -> T) -> Result<T, Stop> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|payload| match payload.downcast::<Stop>() {
            Ok(stop) => *stop,
            Err(panic) => resume_unwind(panic),
        })
    }

    fn step(&self) {
        let left = self.left.get();
        if left == 0 {
            self.stop(Stop::Work);
        }
        self.left.set(left - 1);
        if self.base.abs_diff(stack_position()) > STACK_BYTES_MAX {
            self.stop(Stop::Depth);
        }
        if left.is_multiple_of(STEPS_BETWEEN_LOOKS) {
            self.look();
        }
    }

    #[cold]
    fn look(&self) {
        if self.cancel.is_cancelled() {
            self.stop(Stop::Cancelled);
        }
        if self.ends.is_some_and(|ends| Instant::now() >= ends) {
            self.stop(Stop::Timeout);
        }
    }

    /// Unwinds without a panic message: this is no bug.
    #[cold]
    fn stop(&self, stop: Stop) -> ! {
        resume_unwind(Box::new(stop))
    }
}

/// Returns roughly where the stack is.
#[inline(never)]
fn stack_position() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

/// The kind of data that filters are evaluated with.
pub(super) struct Metered;

/// What an evaluation carries: the compiled terms, and the meter.
#[derive(Clone, Copy)]
pub(super) struct Data<'a> {
    pub(super) lut: &'a Lut<Metered>,
    pub(super) meter: &'a Meter,
}

impl DataT for Metered {
    type V<'a> = Val;
    type Data<'a> = Data<'a>;
}

impl<'a> HasLut<'a, Metered> for Data<'a> {
    fn lut(&self) -> &'a Lut<Metered> {
        self.meter.step();
        self.lut
    }
}

/// Returns jq's own functions without those that see the outside (`env`, `now`), with harmless
/// versions of those that would print or end the process, and with a `range` that is counted.
pub(super) fn functions() -> impl Iterator<Item = Fun<Metered>> {
    const REPLACED: [&str; 5] = ["env", "now", "halt", "stderr_empty", "range"];
    let own: [native::Filter<RunPtr<Metered>>; 3] = [
        ("halt", v(1), |_| box_once(Err(Exn::from(Error::str("`halt` is not available; use `error(…)`"))))),
        ("stderr_empty", v(0), |_| Box::new(std::iter::empty())),
        ("range", v(3), |mut cv| {
            let (by, to, from) = (cv.0.pop_var(), cv.0.pop_var(), cv.0.pop_var());
            let meter = cv.0.data().meter;
            Box::new(range(from, to, by).inspect(|_| meter.step()))
        }),
    ];
    jaq_core::funs()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs())
        .filter(|(name, ..)| !REPLACED.contains(name))
        .chain(own.map(|(name, arguments, run)| (name, arguments, Native::<Metered>::new(run))))
}

/// Counts from `from` to before `to`, up or down as the sign of `by` says.
fn range<'a>(from: Val, to: Val, by: Val) -> impl Iterator<Item = jaq_core::ValX<'a, Val>> {
    let zero = Val::from(0_isize);
    let mut next = Some(from);
    std::iter::from_fn(move || {
        let current = next.take()?;
        let inside = match by.cmp(&zero) {
            std::cmp::Ordering::Greater => current < to,
            std::cmp::Ordering::Less => current > to,
            std::cmp::Ordering::Equal => current != to,
        };
        if !inside {
            return None;
        }
        match current.clone() + by.clone() {
            Ok(after) => next = Some(after),
            Err(e) => return Some(Err(Exn::from(e))),
        }
        Some(Ok(current))
    })
}
