//! Random runs in a world in which everything goes wrong: messages are lost, repeated and reordered,
//! workers die, the process ends between any two steps, and people meddle. After every decision the
//! invariants are checked; when the faults stop, the run must end. See `docs/simulation.md`.

#![allow(clippy::unwrap_used, reason = "tests may")]

#[path = "sim/check.rs"]
mod check;
#[path = "sim/message.rs"]
mod message;
#[path = "sim/person.rs"]
mod person;
#[path = "sim/plans.rs"]
mod plans;
#[path = "sim/reviews.rs"]
mod reviews;
#[path = "sim/rng.rs"]
mod rng;
#[path = "run/support/mod.rs"]
mod support;
#[path = "sim/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// How many seeds a plain `cargo test` tries: some seconds of a development build.
const SEEDS: u64 = 1_500;

/// How many things happen before the faults stop: enough for a few versions of a plan.
const TURNS: usize = 150;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn invariants_hold_and_every_run_ends_whatever_goes_wrong() {
    let only = number("FOREPLAN_SIM_SEED");
    let seeds = match only {
        Some(seed) => seed..seed + 1,
        None => 0..number("FOREPLAN_SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let mut world = world::World::new(seed);
        let outcome = catch_unwind(AssertUnwindSafe(|| world.live(TURNS)));
        if only.is_some() || outcome.is_err() {
            println!("{}", world.log().join("\n"));
        }
        if let Err(panic) = outcome {
            eprintln!(
                "seed {seed} failed; FOREPLAN_SIM_SEED={seed} cargo test -p foreplan-core --test simulation"
            );
            resume_unwind(panic);
        }
    }
}

#[test]
fn a_seed_repeats_its_run() {
    let journal = |seed| {
        let mut world = world::World::new(seed);
        world.live(TURNS);
        world.journal().to_vec()
    };
    assert_eq!(journal(7), journal(7));
}

#[test]
fn a_journal_that_is_read_back_from_json_folds_to_the_live_state_at_every_prefix() {
    for seed in 0..20 {
        let mut world = world::World::new(seed);
        world.live(TURNS);
        let text: Vec<String> = world.journal().iter().map(|e| serde_json::to_string(e).unwrap()).collect();
        let read: Vec<foreplan_core::event::Entry> =
            text.iter().map(|entry| serde_json::from_str(entry).unwrap()).collect();
        assert_eq!(read, world.journal());
        for end in 1..=read.len() {
            let folded = foreplan_core::run::Run::replay(support::run_id(), &read[..end]).unwrap();
            let live = foreplan_core::run::Run::replay(support::run_id(), &world.journal()[..end]).unwrap();
            assert_eq!(folded, live);
            assert_eq!(folded.seq(), end as u64);
        }
        assert_eq!(foreplan_core::run::Run::replay(support::run_id(), &read).as_ref(), Some(world.run()));
    }
}
