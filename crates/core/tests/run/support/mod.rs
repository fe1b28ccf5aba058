//! Drives a run without a shell: specs, plans and envelopes from little JSON, replies from little
//! words, and every decision as lines that read like a protocol.
//!
//! [`Harness`] folds each entry into a second run and compares: invariant 1 is checked after every
//! input of every test.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "tests may")]

mod said;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use foreplan_core::{
    action::Action,
    digest::Digest,
    envelope::{Envelope, SealedAgent, SealedTool},
    event::Entry,
    failure::{EffectState, Failure, FailureKind},
    fork::Kept,
    goal::{Approval, ApprovalMode, PlannerSpec, RunSpec},
    id::{RunId, StepId, ToolName},
    input::{
        Asker, AttemptOutcome, AttemptReply, Command, CommandKind, Input, PlanReply, Proposal, Readiness,
        ReplanReply, Resolution, ReviewReply, Verdicts,
    },
    payload::Output,
    plan::{CompiledPlan, Plan},
    policy::{ReplanDecision, ReplanPolicy},
    review::{Judgement, ReviewOutcome},
    run::{Decision, Rejection, Run, StepState},
    time::Timestamp,
    tool::Effect,
    view::Status,
};
use serde_json::{Value, json};

pub(crate) use said::said;

/// When every run of the tests is submitted.
pub(crate) const START: Timestamp = Timestamp(1_700_000_000_000_000);

pub(crate) fn run_id() -> RunId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
}

pub(crate) fn id(step: &str) -> StepId {
    step.parse().unwrap()
}

/// The tools that every envelope of the tests holds.
pub(crate) fn tools() -> BTreeMap<ToolName, SealedTool> {
    let sealed = |name: &str, effect: Effect, verify: Option<&str>| {
        let tool = SealedTool {
            digest: Digest::of_bytes(name.as_bytes()),
            effect,
            capabilities: vec!["pool".into()],
            gated: false,
            verify: verify.map(Into::into),
            timeout: None,
        };
        (ToolName::from(name), tool)
    };
    BTreeMap::from([
        sealed("read", Effect::Read, None),
        sealed("put", Effect::Idempotent, None),
        sealed("send", Effect::Irreversible, None),
        sealed("pay", Effect::Irreversible, Some("check_pay")),
        sealed("check_pay", Effect::Read, None),
    ])
}

/// A spec that asks nobody.
pub(crate) fn spec() -> RunSpec {
    RunSpec {
        project: "test".to_owned(),
        goal: "try it".to_owned(),
        params: serde_json::Map::new(),
        planner: PlannerSpec::Custom { name: "test".to_owned() },
        guidance: None,
        approval: Approval { mode: ApprovalMode::Auto, ..Approval::default() },
        review: None,
        replan: ReplanPolicy::default(),
        limits: foreplan_core::budget::Limits::default(),
        group: None,
        key: None,
        origin: None,
        parent: None,
    }
}

/// Compiles a plan; `document` is a whole plan, or its list of steps.
pub(crate) fn compiled(document: &Value) -> Arc<CompiledPlan> {
    let mut document = if document.is_array() { json!({ "steps": document }) } else { document.clone() };
    document["format"] = json!(1);
    let plan: Plan = serde_json::from_value(document).unwrap();
    Arc::new(CompiledPlan::compile(Arc::new(plan)).unwrap())
}

fn agents(plan: &CompiledPlan) -> BTreeMap<StepId, SealedAgent> {
    let agents = plan.steps().iter().filter(|step| step.agent.is_some());
    let sealed = SealedAgent { capability: "writers".into(), digest: Digest([9; 32]) };
    agents.map(|step| (step.id.clone(), sealed.clone())).collect()
}

pub(crate) fn envelope(plan: &CompiledPlan, spec: &RunSpec) -> Envelope {
    Envelope {
        plan: plan.digest(),
        params: spec.params.clone(),
        tools: tools(),
        agents: agents(plan),
        limits: spec.limits.clone(),
    }
}

pub(crate) fn failure(kind: FailureKind, code: &str) -> Failure {
    Failure::new(kind, code, "it broke")
}

/// A failure of a tool that may pass.
pub(crate) fn broken() -> Failure {
    failure(FailureKind::Tool, "broken")
}

/// A failure that another attempt cannot help.
pub(crate) fn hopeless() -> Failure {
    broken().retryable(false)
}

/// A run under test, with its journal.
pub(crate) struct Harness {
    pub(crate) run: Run,
    pub(crate) now: Timestamp,
    pub(crate) entries: Vec<Entry>,
    /// Verdicts on steps that are not simply ready.
    pub(crate) verdicts: HashMap<String, Readiness>,
    shadow: Run,
    commands: u128,
}

impl Harness {
    /// Submits a run and stops before its plan.
    pub(crate) fn submit(spec: RunSpec) -> (Self, Decision) {
        Self::submit_with(spec, Vec::new())
    }

    /// Submits a run that takes results over, and stops before its plan.
    pub(crate) fn submit_with(spec: RunSpec, kept: Vec<Kept>) -> (Self, Decision) {
        let cause = Input::Submit { spec: Arc::new(spec), by: "ann".to_owned(), kept };
        let (run, decision) = Run::submit(run_id(), START, &cause).unwrap();
        let entry = Run::entry(0, run.at(), cause, decision.events.clone());
        let shadow = Run::replay(run_id(), [&entry]).unwrap();
        assert_eq!(shadow, run);
        let entries = vec![entry];
        (Self { run, now: START, entries, verdicts: HashMap::new(), shadow, commands: 0 }, decision)
    }

    /// Submits a run and proposes its plan.
    pub(crate) fn planned(spec: RunSpec, plan: &Value) -> (Self, Vec<String>) {
        let (mut harness, _) = Self::submit(spec);
        let said = harness.plan(1, plan);
        (harness, said)
    }

    /// Starts a run of a plan that nobody needs to approve, up to its first attempts.
    pub(crate) fn started(spec: RunSpec, plan: &Value) -> (Self, Vec<String>) {
        let (mut harness, _) = Self::planned(spec, plan);
        let said = harness.go();
        (harness, said)
    }

    /// Hands an input in, checks that folding its entry gives the same state, and returns the
    /// decision.
    pub(crate) fn try_handle(&mut self, input: Input) -> Result<Decision, Rejection> {
        let seq = self.run.seq();
        let before = self.run.clone();
        let decision = match self.run.handle(self.now, &input) {
            Ok(decision) => decision,
            Err(rejection) => {
                assert_eq!(self.run, before, "a rejection changes nothing");
                return Err(rejection);
            }
        };
        if decision.events.is_empty() {
            assert_eq!(self.run, before, "what is not recorded changes nothing");
            return Ok(decision);
        }
        let entry = Run::entry(seq, self.run.at(), input, decision.events.clone());
        self.shadow.fold(&entry);
        assert_eq!(self.shadow, self.run, "folding gives the live state");
        self.entries.push(entry);
        if !self.run.status().is_ended() {
            self.sends_again(&decision.actions);
        }
        Ok(decision)
    }

    /// Checks that requests that follow from a decision can be told from the journal alone, should whoever
    /// made it be gone.
    fn sends_again(&self, actions: &[Action]) {
        let unheard = self.shadow.unheard(self.run.at());
        for action in actions.iter().filter(|action| matches!(action, Action::RunStep(_))) {
            assert!(unheard.contains(action), "{action:?} is not among {unheard:?}");
        }
    }

    /// Holds the run, or goes on with it: of that the journal knows nothing.
    pub(crate) fn hold(&mut self, is_held: bool) {
        for run in [&mut self.run, &mut self.shadow] {
            if is_held { run.hold() } else { run.unhold() }
        }
    }

    pub(crate) fn handle(&mut self, input: Input) -> Vec<String> {
        said(&self.try_handle(input).unwrap())
    }

    pub(crate) fn advance(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
    }

    /// Goes on to the next point in time that the run asks for.
    pub(crate) fn wake(&mut self) -> Vec<String> {
        self.now = self.now.max(self.run.next_wake().unwrap());
        self.handle(Input::Wake)
    }

    pub(crate) fn proposal(&self, plan: &Value) -> Proposal {
        let plan = compiled(plan);
        let envelope = Arc::new(envelope(&plan, self.run.spec()).into());
        Proposal::Valid { plan, envelope, findings: Vec::new() }
    }

    pub(crate) fn plan(&mut self, request: u32, plan: &Value) -> Vec<String> {
        let proposal = self.proposal(plan);
        self.planner(request, proposal)
    }

    pub(crate) fn planner(&mut self, request: u32, proposal: Proposal) -> Vec<String> {
        let by = "test".to_owned();
        self.handle(Input::Planned(PlanReply {
            request,
            by,
            proposal,
            usage: foreplan_core::budget::Usage::default(),
            calls: Vec::new(),
        }))
    }

    /// Answers for every step that waits for a verdict.
    pub(crate) fn go(&mut self) -> Vec<String> {
        let waiting = self.run.steps().iter().filter(|s| s.state == StepState::Evaluating);
        let ready: Vec<StepId> = waiting.map(|s| s.id.clone()).collect();
        let ready = self.ready(&ready);
        self.handle(Input::Evaluated { ready })
    }

    fn ready(&self, steps: &[StepId]) -> Vec<(StepId, Readiness)> {
        let verdict = |step: &StepId| {
            if let Some(verdict) = self.verdicts.get(step.as_str()) {
                return verdict.clone();
            }
            let list = self.run.definition(step.as_str()).and_then(|s| s.for_each.as_ref());
            list.map_or(Readiness::Go, |f| Readiness::Items(f.list.as_array().map_or(0, Vec::len) as u32))
        };
        steps.iter().map(|step| (step.clone(), verdict(step))).collect()
    }

    /// Makes a worker's reply, with the verdicts on what it unlocks.
    pub(crate) fn reply(&self, step: &str, attempt: u32, outcome: AttemptOutcome) -> AttemptReply {
        let ready = match &outcome {
            AttemptOutcome::Output(_) if self.run.awaits(step, attempt) => {
                self.ready(&self.run.unlocked_by(step))
            }
            _ => Vec::new(),
        };
        AttemptReply {
            step: id(step),
            attempt,
            outcome,
            worker: "w1".to_owned(),
            claim: None,
            input: Some(Digest::of_bytes(step.as_bytes()).into()),
            started_at: self.now,
            ended_at: self.now,
            usage: foreplan_core::budget::Usage::default(),
            calls: Vec::new(),
            verdicts: Verdicts { ready, ..Verdicts::default() },
        }
    }

    pub(crate) fn ok(&mut self, step: &str, attempt: u32) -> Vec<String> {
        self.ok_with(step, attempt, json!({ "of": step }))
    }

    pub(crate) fn ok_with(&mut self, step: &str, attempt: u32, output: Value) -> Vec<String> {
        let reply = self.reply(step, attempt, AttemptOutcome::Output(Output::inline(output)));
        self.handle(Input::Result(reply))
    }

    /// Returns an output that a gate of the step refuses.
    pub(crate) fn refused(&mut self, step: &str, attempt: u32, gate: Failure) -> Vec<String> {
        let mut reply = self.reply(step, attempt, AttemptOutcome::Output(Output::inline(json!(0))));
        reply.verdicts = Verdicts { gate: Some(gate), ..Verdicts::default() };
        self.handle(Input::Result(reply))
    }

    pub(crate) fn fails(&mut self, step: &str, attempt: u32, failure: Failure) -> Vec<String> {
        let reply = self.reply(step, attempt, AttemptOutcome::Failure(failure));
        self.handle(Input::Result(reply))
    }

    /// A worker with this name fails an attempt.
    pub(crate) fn fails_at(
        &mut self,
        worker: &str,
        step: &str,
        attempt: u32,
        failure: Failure,
    ) -> Vec<String> {
        let reply = self.reply(step, attempt, AttemptOutcome::Failure(failure));
        self.handle(Input::Result(AttemptReply { worker: worker.to_owned(), ..reply }))
    }

    /// Answers a review: with reasons, it refuses.
    pub(crate) fn review(&mut self, review: u32, reasons: &[&str]) -> Vec<String> {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        let judgement = Judgement { accepts: reasons.is_empty(), reasons };
        self.reviewer(review, ReviewOutcome::Judgement(judgement))
    }

    pub(crate) fn reviewer(&mut self, review: u32, outcome: ReviewOutcome) -> Vec<String> {
        let unlocked = self.run.output_in_review(review).map(|(step, _)| self.run.unlocked_by(step.as_str()));
        let ready = self.ready(&unlocked.filter(|_| outcome.accepts()).unwrap_or_default());
        let usage = foreplan_core::budget::Usage { model_calls: 1, ..Default::default() };
        let verdicts = Verdicts { ready, ..Verdicts::default() };
        let by = "judge".to_owned();
        self.handle(Input::Reviewed(ReviewReply { review, by, outcome, usage, calls: Vec::new(), verdicts }))
    }

    /// Has a child run say where it stands.
    pub(crate) fn child(&mut self, step: &str, attempt: u32, waits: bool) -> Vec<String> {
        self.handle(Input::Child { step: id(step), attempt, waits })
    }

    pub(crate) fn permit(&mut self, step: &str, attempt: u32) -> Vec<String> {
        self.permit_of(None, step, attempt)
    }

    /// A worker with this name asks for a permit.
    pub(crate) fn permit_of(&mut self, worker: Option<&str>, step: &str, attempt: u32) -> Vec<String> {
        let asker = Asker { worker: worker.map(str::to_owned), claim: None };
        self.permit_to(&asker, step, attempt)
    }

    pub(crate) fn permit_to(&mut self, asker: &Asker, step: &str, attempt: u32) -> Vec<String> {
        self.handle(Input::Permit { step: id(step), attempt, call: None, asker: asker.clone() })
    }

    pub(crate) fn takeover(&mut self) -> Vec<String> {
        self.handle(Input::Takeover { by: "p2".to_owned() })
    }

    /// Answers the open replan request.
    pub(crate) fn decide(&mut self, decision: ReplanDecision, plan: Option<&Value>) -> Vec<String> {
        let proposal = plan.map(|plan| self.proposal(plan));
        self.replanner(decision, proposal)
    }

    pub(crate) fn replanner(&mut self, decision: ReplanDecision, proposal: Option<Proposal>) -> Vec<String> {
        let basis = self.basis().expect("a replan request is open");
        self.handle(Input::Replanned(ReplanReply {
            basis,
            by: "test".to_owned(),
            reason: "why not".to_owned(),
            decision,
            proposal,
            rule: None,
            usage: foreplan_core::budget::Usage::default(),
            calls: Vec::new(),
        }))
    }

    /// Patches: the resulting plan is what counts here, so the patch itself is empty.
    pub(crate) fn patch(&mut self, plan: &Value) -> Vec<String> {
        self.decide(ReplanDecision::Patch(foreplan_core::policy::Patch::default()), Some(plan))
    }

    /// Returns the basis that an answer to the open replan request must name.
    pub(crate) fn basis(&self) -> Option<u64> {
        self.run.outstanding().iter().find_map(|action| match action {
            Action::RequestReplan { basis, .. } => Some(*basis),
            _ => None,
        })
    }

    pub(crate) fn try_command(&mut self, kind: CommandKind) -> Result<Vec<String>, Rejection> {
        self.try_command_by("ann", kind)
    }

    pub(crate) fn try_command_by(&mut self, by: &str, kind: CommandKind) -> Result<Vec<String>, Rejection> {
        self.commands += 1;
        let id = uuid::Uuid::from_u128(self.commands);
        let command = Command { id, by: by.to_owned(), kind };
        self.try_handle(Input::Command(command)).map(|decision| said(&decision))
    }

    pub(crate) fn command(&mut self, kind: CommandKind) -> Vec<String> {
        self.try_command(kind).unwrap()
    }

    pub(crate) fn approve(&mut self) -> Vec<String> {
        let digest = self.run.proposed().unwrap().envelope_digest;
        self.command(CommandKind::Approve { step: None, digest })
    }

    pub(crate) fn answer(&mut self, step: &str, value: Value) -> Vec<String> {
        let verdicts = Verdicts { ready: self.ready(&self.run.unlocked_by(step)), ..Verdicts::default() };
        self.command(CommandKind::Answer { step: id(step), value: Arc::new(value), verdicts })
    }

    pub(crate) fn resolve(&mut self, step: &str, resolution: Resolution) -> Vec<String> {
        let ready = match resolution {
            Resolution::Happened(_) => self.ready(&self.run.unlocked_by(step)),
            Resolution::NotHappened | Resolution::Fail => Vec::new(),
        };
        let verdicts = Verdicts { ready, ..Verdicts::default() };
        self.command(CommandKind::Resolve { step: id(step), resolution, verdicts })
    }

    pub(crate) fn cancel(&mut self) -> Vec<String> {
        self.command(CommandKind::Cancel { reason: None })
    }

    pub(crate) fn retry(&mut self, from: Option<&str>) -> Vec<String> {
        self.command(CommandKind::Retry { from: from.map(id) })
    }

    pub(crate) fn edit(&mut self, parent: u32, plan: &Value) -> Vec<String> {
        let proposal = self.proposal(plan);
        self.command(CommandKind::Edit { parent, proposal })
    }

    /// Sets one param anew.
    pub(crate) fn revise(&mut self, name: &str, value: Value) -> Vec<String> {
        let params = [(name.to_owned(), value)].into_iter().collect();
        self.command(CommandKind::Revise { goal: None, produce: None, params })
    }

    pub(crate) fn status(&self) -> Status {
        self.run.status()
    }

    pub(crate) fn state(&self, step: &str) -> &StepState {
        &self.run.step(step).unwrap().state
    }

    pub(crate) fn is_done(&self, step: &str) -> bool {
        matches!(self.state(step), StepState::Succeeded(_))
    }

    pub(crate) fn output(&self, step: &str) -> Option<Value> {
        match self.state(step) {
            StepState::Succeeded(output) => Some(output.to_value()),
            _ => None,
        }
    }
}

/// A failure after which the effect is known to be done, or known not to be.
pub(crate) fn with_effect(effect: EffectState) -> Failure {
    broken().effect(effect)
}

/// What a verify tool answers.
pub(crate) fn happened(happened: bool) -> Value {
    json!({ "happened": happened, "output": { "by": "verify" } })
}
