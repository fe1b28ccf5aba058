//! What is known of a run. Everything here follows from the events.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    action::Trigger,
    budget::{StepMax, Usage},
    digest::Digest,
    envelope::{SealedEnvelope, SealedTool},
    event::{ReviewOf, RunFailure},
    failure::Failure,
    finding::Finding,
    fork::Kept,
    goal::RunSpec,
    id::{RunId, StepId, ToolName},
    input::{Asker, PlanAnswer},
    map::IdMap,
    payload::Output,
    plan::{CompiledPlan, Step, StepKind},
    review::ReviewOutcome,
    time::Timestamp,
    view::Status,
};

/// A run: its plan, its steps, and what it waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub(super) id: RunId,
    pub(super) spec: Arc<RunSpec>,
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    pub(super) created_at: Timestamp,
    pub(super) end: Option<End>,
    pub(super) paused: Option<String>,
    /// The plan request that has no answer yet, and why it was made.
    pub(super) plan_request: Option<(u32, Option<Arc<Trigger>>)>,
    pub(super) plan_requests: u32,
    /// Why the replanner has the planner asked again.
    pub(super) replan_reason: Option<String>,
    /// What the planner asked and nobody has answered.
    pub(super) plan_question: Option<PlanQuestion>,
    pub(super) plan_answers: Vec<PlanAnswer>,
    pub(super) proposed: Option<Proposed>,
    /// The newest version that was proposed.
    pub(super) proposals: u32,
    pub(super) versions: Vec<PlanVersion>,
    /// By position in the plan in force; items of `for_each` steps follow.
    pub(super) steps: Vec<StepRun>,
    /// Positions of items.
    pub(super) items: IdMap<StepId, u32>,
    /// The position of the step that moved last.
    pub(super) moved: u32,
    /// Steps whose dependencies are done and of which the shell has not said whether they can start.
    pub(super) evaluating: BTreeSet<u32>,
    /// Those that joined `evaluating` since the last entry. Empty between entries.
    pub(super) fresh: Vec<u32>,
    /// Steps that can start when there is room.
    pub(super) queue: VecDeque<u32>,
    pub(super) in_flight: u32,
    pub(super) backing_off: u32,
    /// Steps that wait for a person.
    pub(super) waits: BTreeSet<u32>,
    /// Steps of the plan that are not settled.
    pub(super) open: u32,
    /// Failed steps that no replan has been asked about yet.
    pub(super) failures: VecDeque<StepId>,
    pub(super) replan: Option<Replan>,
    pub(super) replans_used: u32,
    pub(super) rule_uses: BTreeMap<u32, u32>,
    pub(super) replans_of: HashMap<StepId, u32>,
    /// How many reviews were asked for.
    pub(super) reviews: u32,
    /// Those that have no answer yet.
    pub(super) reviews_open: BTreeMap<u32, ReviewOf>,
    pub(super) judgements: Vec<Judged>,
    pub(super) timers: BTreeSet<(Timestamp, Timer)>,
    /// Attempts of steps that left the plan, and of assumptions: numbers never start again.
    pub(super) retired: HashMap<StepId, u32>,
    /// Results of earlier versions that may stand again.
    pub(super) previous: HashMap<StepId, Previous>,
    /// What the run that this one was forked from cannot undo.
    pub(super) done_calls: Vec<Kept>,
    /// Whether params changed since the version in force was adopted.
    pub(super) params_changed: bool,
    pub(super) failed_tools: BTreeSet<ToolName>,
    /// Attempts that were permitted, at any time.
    pub(super) permits: HashSet<(StepId, u32)>,
    /// Those of `permits` whose result is on record.
    pub(super) answered: HashSet<(StepId, u32)>,
    /// Items of earlier expansions that the next one keeps.
    pub(super) earlier_items: HashMap<StepId, EarlierItem>,
    pub(super) commands: HashSet<uuid::Uuid>,
    pub(super) usage: Usage,
    /// What attempts in flight may use, by step, and all of it.
    pub(super) reservations: HashMap<StepId, StepMax>,
    pub(super) reserved: StepMax,
    /// Whether `usage` holds what the cause of this entry used. False between entries.
    pub(super) usage_counted: bool,
    /// Active time up to `active_since`.
    pub(super) active: Duration,
    pub(super) active_since: Option<Timestamp>,
    pub(super) since: Timestamp,
    pub(super) last_status: Status,
    /// Whether the process that carries the run is about to end. Not on record.
    pub(super) is_held: bool,
}

impl Run {
    pub(super) fn new(id: RunId, spec: Arc<RunSpec>, now: Timestamp) -> Self {
        Self {
            id,
            spec,
            seq: 0,
            at: now,
            created_at: now,
            end: None,
            paused: None,
            plan_request: None,
            plan_requests: 0,
            replan_reason: None,
            plan_question: None,
            plan_answers: Vec::new(),
            proposed: None,
            proposals: 0,
            versions: Vec::new(),
            steps: Vec::new(),
            items: IdMap::default(),
            moved: 0,
            evaluating: BTreeSet::new(),
            fresh: Vec::new(),
            queue: VecDeque::new(),
            in_flight: 0,
            backing_off: 0,
            waits: BTreeSet::new(),
            open: 0,
            failures: VecDeque::new(),
            replan: None,
            replans_used: 0,
            rule_uses: BTreeMap::new(),
            replans_of: HashMap::new(),
            reviews: 0,
            reviews_open: BTreeMap::new(),
            judgements: Vec::new(),
            timers: BTreeSet::new(),
            retired: HashMap::new(),
            previous: HashMap::new(),
            done_calls: Vec::new(),
            params_changed: false,
            failed_tools: BTreeSet::new(),
            permits: HashSet::new(),
            answered: HashSet::new(),
            earlier_items: HashMap::new(),
            commands: HashSet::new(),
            usage: Usage::default(),
            reservations: HashMap::new(),
            reserved: StepMax::default(),
            usage_counted: false,
            active: Duration::ZERO,
            active_since: None,
            since: now,
            last_status: Status::Planning,
            is_held: false,
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct End {
    pub(super) status: Status,
    pub(super) at: Timestamp,
    pub(super) failure: Option<RunFailure>,
    pub(super) reason: Option<String>,
}

/// A planner's question, in the place of the plan that was requested.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlanQuestion {
    pub(super) question: String,
    pub(super) since: Timestamp,
    /// Why the plan was requested.
    pub(super) trigger: Option<Arc<Trigger>>,
}

/// A plan that is checked and not yet in force.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposed {
    pub(super) version: PlanVersion,
    /// Assumptions that are being looked at: attempt by pseudo step.
    pub(super) checks: BTreeMap<StepId, CheckRun>,
    /// What `check` advises about it.
    pub(super) findings: Vec<Finding>,
    pub(super) review: PlanReview,
    /// Set while a person is asked.
    pub(super) asked_at: Option<Timestamp>,
}

/// Where the review of a proposed plan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlanReview {
    /// Nobody was asked.
    None,
    /// There is no answer yet.
    Open { review: u32, deadline: Timestamp },
    /// The reviewer answered, or did not in time.
    Done { accepts: bool },
}

/// What came of a review.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    pub(super) review: u32,
    pub(super) of: ReviewOf,
    pub(super) by: String,
    pub(super) at: Timestamp,
    pub(super) outcome: ReviewOutcome,
}

/// An assumption that is being looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CheckRun {
    pub(super) attempt: u32,
    pub(super) deadline: Timestamp,
}

/// A version of the plan, adopted or proposed.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanVersion {
    /// Counts from 1.
    pub version: u32,
    /// The version that it replaced.
    pub parent: Option<u32>,
    /// The plan.
    pub plan: Arc<CompiledPlan>,
    /// What its approval covers.
    pub envelope: Arc<SealedEnvelope>,
    /// The envelope's digest.
    pub envelope_digest: Digest,
    /// Why it was made: `goal`, `step_failed`, `goal_revised`, `edited`.
    pub trigger: String,
    /// The step that it was made about.
    pub step: Option<StepId>,
    /// What was decided: `plan`, `patch`, `new_plan`, `full_replan`, `edit`.
    pub decision: String,
    /// Who made it.
    pub by: String,
    /// Why, in words.
    pub reason: String,
    /// Who approved it, if anybody was asked.
    pub approved_by: Option<String>,
    /// When it came into force.
    pub adopted_at: Option<Timestamp>,
}

impl PlanVersion {
    /// Returns the tool that a step calls, or the one that verifies it, as it is sealed.
    pub(super) fn call_of(&self, step: &Step, verify: bool) -> Option<(&ToolName, &SealedTool)> {
        let Some(StepKind::Tool(own)) = step.kind() else { return None };
        let (own, sealed) = self.envelope.tools.get_key_value(own)?;
        if !verify {
            return Some((own, sealed));
        }
        self.envelope.tools.get_key_value(sealed.verify.as_ref()?)
    }
}

/// A request to the replanner that has no answer yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Replan {
    pub(super) basis: u64,
    pub(super) trigger: Arc<Trigger>,
}

/// A result of an earlier plan version.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Previous {
    pub(super) definition: Digest,
    pub(super) tool: Option<Digest>,
    /// The digests of the results that it refers to.
    pub(super) refs: Vec<(StepId, Digest)>,
    pub(super) mentions_params: bool,
    pub(super) step: StepRun,
}

/// An item of a `for_each` that was expanded before.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EarlierItem {
    pub(super) item: StepRun,
    /// Whether its irreversible call happened or may have: it is kept whatever changes around it.
    pub(super) is_spent: bool,
}

/// A step of the plan in force, or an item of a `for_each`.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRun {
    /// The step's or item's id.
    pub id: StepId,
    /// Where it stands.
    pub state: StepState,
    /// The `for_each` step and the index, for an item.
    pub parent: Option<(u32, u32)>,
    /// Attempts so far, over the whole run.
    pub attempts: u32,
    /// Attempts that may still be started.
    pub allowance: u32,
    /// Workers lost since the last allowance was granted.
    pub workers_lost: u32,
    /// Permits in a row that came too late, while nothing stood in their way.
    pub permits_late: u32,
    /// Since when no worker takes it.
    pub unserved_since: Option<Timestamp>,
    /// The attempt that may have had an irreversible effect that nobody has denied.
    pub permit: Option<u32>,
    /// Who has the permit.
    pub holder: Asker,
    /// Irreversible calls that the attempt which runs was permitted, inside an agent step.
    pub permitted_calls: u32,
    /// Whether a person approved the step.
    pub approved: bool,
    /// The plan version in which it last ran.
    pub plan_version: u32,
    /// The worker of the last attempt.
    pub worker: Option<String>,
    /// When the last attempt began.
    pub started_at: Option<Timestamp>,
    /// When the last attempt ended.
    pub ended_at: Option<Timestamp>,
    /// Why the last attempt failed.
    pub failure: Option<Failure>,
}

impl StepRun {
    pub(super) fn new(
        id: StepId,
        parent: Option<(u32, u32)>,
        attempts: u32,
        allowance: u32,
        version: u32,
    ) -> Self {
        Self {
            id,
            state: StepState::Blocked { missing: 0 },
            parent,
            attempts,
            allowance,
            workers_lost: 0,
            permits_late: 0,
            unserved_since: None,
            permit: None,
            holder: Asker::default(),
            permitted_calls: 0,
            approved: false,
            plan_version: version,
            worker: None,
            started_at: None,
            ended_at: None,
            failure: None,
        }
    }

    /// Returns whether a call of the step, were it irreversible, cannot be made again.
    pub(super) fn is_spent(&self) -> bool {
        self.permit.is_some() || matches!(self.state, StepState::Succeeded(_))
    }
}

/// Where a step stands.
#[derive(Clone, Debug, PartialEq)]
pub enum StepState {
    /// Some dependencies are not settled.
    Blocked {
        /// How many.
        missing: u32,
    },
    /// The shell finds out whether it can start.
    Evaluating,
    /// A person must approve it.
    AwaitingApproval {
        /// Since when.
        since: Timestamp,
    },
    /// A person must answer.
    Asking {
        /// Since when.
        since: Timestamp,
        /// The question of a replanner or of `then = "ask"`; absent: the step's own.
        question: Option<String>,
    },
    /// It starts when there is room.
    Queued,
    /// An attempt runs.
    Running {
        /// Which.
        attempt: u32,
        /// When its worker counts as lost.
        deadline: Timestamp,
        /// Whether it asks the `verify` tool about an earlier attempt.
        verify: bool,
    },
    /// A child run carries it out.
    Child {
        /// Which attempt.
        attempt: u32,
        /// Since when the child run waits for a person, if it does.
        waits: Option<Timestamp>,
    },
    /// An attempt returned, and a reviewer judges what.
    Reviewing {
        /// The attempt.
        attempt: u32,
        /// Which review.
        review: u32,
        /// When the reviewer counts as lost.
        deadline: Timestamp,
        /// What the attempt returned.
        output: Output,
    },
    /// It is tried again later.
    Backoff {
        /// When.
        until: Timestamp,
    },
    /// A person must say what became of an irreversible call.
    Unknown {
        /// Since when.
        since: Timestamp,
    },
    /// Its items run.
    Expanded {
        /// How many items are not settled.
        left: u32,
        /// The position of the first item.
        first: u32,
        /// How many items there are.
        items: u32,
        /// How many of them have been looked at, in their order.
        queued: u32,
        /// How many of them are begun and not settled.
        active: u32,
    },
    /// It is done.
    Succeeded(Output),
    /// An attempt failed; what follows is decided in the same entry.
    Faltered,
    /// It failed for good.
    Failed,
    /// It was not needed.
    Skipped {
        /// Why.
        reason: String,
    },
    /// The end of the run made it unnecessary.
    Superseded,
}

impl StepState {
    /// Returns whether the steps that wait for it may go on.
    #[must_use]
    pub fn satisfies(&self) -> bool {
        matches!(self, Self::Succeeded(_) | Self::Skipped { .. })
    }
}

/// What a run wants to be woken for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// An attempt's worker counts as lost.
    Attempt(StepId, u32),
    /// A step is tried again.
    Retry(StepId),
    /// A reviewer counts as lost.
    Review(u32),
    /// An approval of the plan was not given in time.
    Approval,
    /// A step's approval or answer was not given in time.
    StepWait(StepId),
    /// The run has been active for too long.
    WallTime,
    /// The run has existed for too long.
    Deadline,
}
