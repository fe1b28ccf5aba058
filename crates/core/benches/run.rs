//! How fast the state machine decides and folds.
//!
//! Each figure is per event, over a whole run from its submission to its end. What stands beside a
//! run in the process (journal, actors, expressions) is left out: `orchestration`, an example of
//! the library, measures the whole.
//!
//! * `decide`: [`Run::handle`] with the inputs that a shell hands in, those included;
//! * `fold`: [`Run::replay`] of the entries of the same run. Those of 100 steps are in the processor's caches
//!   from the second time on, those of 100,000 never are: `fold/chain/100x1000`, a thousand runs of 100 steps
//!   one after the other, is what these compare with.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up has no figures")]

use std::{
    collections::{BTreeMap, VecDeque},
    hint::black_box,
    sync::Arc,
    time::Duration,
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use foreplan_core::{
    action::Action,
    budget::{Limits, Usage},
    digest::Digest,
    envelope::{Envelope, SealedTool},
    event::Entry,
    goal::{Approval, ApprovalMode, PlannerSpec, RunSpec},
    id::{RunId, StepId},
    input::{AttemptOutcome, AttemptReply, Input, PlanReply, Proposal, Readiness, Verdicts},
    payload::Output,
    plan::{CompiledPlan, Plan},
    policy::ReplanPolicy,
    run::Run,
    time::Timestamp,
    tool::Effect,
};
use serde_json::{Value, json};

/// What the program allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Longest plan: fifty times the default limit, to show that the cost of a step stays the same.
const STEPS_MAX: usize = 100_000;

/// A plan, and what a run of it is told.
struct Case {
    id: RunId,
    submit: Input,
    proposal: Proposal,
    output: Output,
}

impl Case {
    fn new(steps: Vec<Value>) -> Self {
        let plan: Plan = serde_json::from_value(json!({"format": 1, "steps": steps})).unwrap();
        let plan = Arc::new(plan);
        let limits = Limits { steps: STEPS_MAX as u32, in_flight: STEPS_MAX as u32, ..Limits::default() };
        let spec = RunSpec {
            project: "bench".to_owned(),
            goal: "Measure".to_owned(),
            params: serde_json::Map::new(),
            planner: PlannerSpec::Runbook { plan: Arc::clone(&plan) },
            guidance: None,
            approval: Approval { mode: ApprovalMode::Auto, ..Approval::default() },
            review: None,
            replan: ReplanPolicy::default(),
            limits: limits.clone(),
            group: None,
            key: None,
            origin: None,
            parent: None,
        };
        let tool = SealedTool {
            digest: Digest([1; 32]),
            effect: Effect::Read,
            capabilities: vec!["default".into()],
            verify: None,
            gated: false,
            timeout: Some(Duration::from_secs(60)),
        };
        let plan = Arc::new(CompiledPlan::compile(plan).unwrap());
        let tools = BTreeMap::from([("noop".into(), tool)]);
        let envelope = Envelope {
            plan: plan.digest(),
            params: serde_json::Map::new(),
            tools,
            agents: BTreeMap::new(),
            limits,
        };
        Self {
            id: RunId(uuid::Uuid::from_u128(7)),
            submit: Input::Submit { spec: Arc::new(spec), by: "bench".to_owned(), kept: Vec::new() },
            proposal: Proposal::Valid { plan, envelope: Arc::new(envelope.into()), findings: Vec::new() },
            output: Output::inline(json!({"n": 1})),
        }
    }

    /// One step after the other.
    fn chain(steps: usize) -> Self {
        let step = |n: usize| match n {
            0 => json!({"id": "s0", "tool": "noop"}),
            _ => json!({"id": format!("s{n}"), "tool": "noop", "needs": [format!("s{}", n - 1)]}),
        };
        Self::new((0..steps).map(step).collect())
    }

    /// One step, then many at once, then one that needs all of them.
    fn fan(width: usize) -> Self {
        let ids: Vec<String> = (0..width).map(|n| format!("s{n}")).collect();
        let middle = ids.iter().map(|id| json!({"id": id, "tool": "noop", "needs": ["first"]}));
        let first = json!({"id": "first", "tool": "noop"});
        let last = json!({"id": "last", "tool": "noop", "needs": ids});
        Self::new([first].into_iter().chain(middle).chain([last]).collect())
    }

    /// Runs to the end and hands every decision out as an entry.
    fn run(&self, mut each: impl FnMut(Entry)) -> Run {
        let (mut run, decision) = Run::submit(self.id, Timestamp(0), &self.submit).unwrap();
        let mut actions = VecDeque::from(decision.actions);
        each(Run::entry(0, Timestamp(0), self.submit.clone(), decision.events));
        while let Some(action) = actions.pop_front() {
            let (seq, now) = (run.seq(), run.at().plus(Duration::from_micros(1)));
            let input = self.answer(&run, action);
            let decision = run.handle(now, &input).unwrap();
            actions.extend(decision.actions);
            if !decision.events.is_empty() {
                each(Run::entry(seq, now, input, decision.events));
            }
        }
        assert!(run.status().is_ended() && run.run_failure().is_none(), "the run did not succeed");
        run
    }

    /// Returns the entries of a run.
    fn journal(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.run(|entry| entries.push(entry));
        entries
    }

    fn answer(&self, run: &Run, action: Action) -> Input {
        let go = |step: StepId| (step, Readiness::Go);
        match action {
            Action::RequestPlan { request, .. } => Input::Planned(PlanReply {
                request,
                by: "bench".to_owned(),
                proposal: self.proposal.clone(),
                usage: Usage::default(),
                calls: Vec::new(),
            }),
            Action::Evaluate { steps } => Input::Evaluated { ready: steps.into_iter().map(go).collect() },
            Action::RunStep(dispatch) => {
                let ready = run.unlocked_by(dispatch.step.as_str()).into_iter().map(go).collect();
                Input::Result(AttemptReply {
                    step: dispatch.step,
                    attempt: dispatch.attempt,
                    outcome: AttemptOutcome::Output(self.output.clone()),
                    worker: "default/0".to_owned(),
                    claim: None,
                    input: None,
                    started_at: run.at(),
                    ended_at: run.at(),
                    usage: Usage { tool_calls: 1, ..Usage::default() },
                    calls: Vec::new(),
                    verdicts: Verdicts { ready, ..Verdicts::default() },
                })
            }
            other => panic!("nothing fails, is reviewed or has children in a bench: {other:?}"),
        }
    }
}

fn benches(criterion: &mut Criterion) {
    let cases = [
        ("chain/100", Case::chain(100)),
        ("chain/100000", Case::chain(STEPS_MAX)),
        ("fan/1000", Case::fan(1_000)),
    ];
    let journals: Vec<Vec<Entry>> = cases.iter().map(|(_, case)| case.journal()).collect();
    let events = |entries: &[Entry]| entries.iter().map(|entry| entry.events.len() as u64).sum();

    let mut group = criterion.benchmark_group("decide");
    for ((name, case), entries) in cases.iter().zip(&journals) {
        group.sample_size(10).throughput(Throughput::Elements(events(entries)));
        group.bench_function(*name, |bencher| {
            bencher.iter_batched(
                || (),
                |()| case.run(|entry| drop(black_box(entry))),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("fold");
    for ((name, case), entries) in cases.iter().zip(&journals) {
        group.sample_size(10).throughput(Throughput::Elements(events(entries)));
        group.bench_function(*name, |bencher| {
            bencher.iter_batched(
                || (),
                |()| Run::replay(case.id, black_box(entries)).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
    let short = &cases[0].1;
    let many: Vec<Vec<Entry>> = (0..1_000).map(|_| short.journal()).collect();
    group.throughput(Throughput::Elements(many.iter().map(|entries| events(entries)).sum()));
    group.bench_function("chain/100x1000", |bencher| {
        bencher.iter(|| many.iter().for_each(|one| drop(Run::replay(short.id, black_box(one)).unwrap())));
    });
    group.finish();
}

criterion_group!(run, benches);
criterion_main!(run);
