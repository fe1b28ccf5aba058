//! What is measured: plans of steps that do next to nothing, and what must come out of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use foreplan::{Builder, Outcome, System};
use foreplan_core::{
    budget::Limits,
    failure::Failure,
    goal::{PlannerSpec, RunSpec},
    plan::Plan,
    tool::Effect,
    view::{Status, StepStatus},
};
use foreplan_tools::{Specialist, Tool};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::floor;

/// How long a step of `latency` takes.
const LATENCY: Duration = Duration::from_millis(50);

/// Layers of three steps, each step of which uses all of the layer before, if nothing else is said.
pub(crate) const LAYERS: usize = 4;

/// Most layers: what their last steps add up to is still a number that JSON has exactly.
pub(crate) const LAYERS_MAX: usize = 30;

/// Which workload.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Chain,
    Fan,
    Many,
    Latency,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Chain, Self::Fan, Self::Many, Self::Latency];

    pub(crate) fn parse(name: &str) -> anyhow::Result<Self> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| anyhow::anyhow!("`{name}` is no workload: chain, fan, many or latency"))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Fan => "fan",
            Self::Many => "many",
            Self::Latency => "latency",
        }
    }

    /// Returns the size that the figures to reach are stated for.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Chain => 100,
            Self::Fan | Self::Many => 1_000,
            Self::Latency => 1,
        }
    }
}

/// One step's input: which step it is, and the values it adds up.
#[derive(Deserialize, JsonSchema)]
struct Input {
    at: usize,
    values: Vec<u64>,
}

/// One step's output: one more than its values add up to.
#[derive(Serialize, JsonSchema)]
struct Sum {
    n: u64,
}

/// A plan, and how often it is run at once.
pub(crate) struct Workload {
    /// Runs at once.
    pub(crate) runs: usize,
    /// Workers of the one pool.
    pub(crate) concurrency: usize,
    kind: Kind,
    layers: usize,
    plan: Arc<Plan>,
    expected: Value,
    calls: Arc<[AtomicUsize]>,
    /// When the steps of a chain were called.
    times: Arc<Mutex<Vec<Instant>>>,
}

impl Workload {
    pub(crate) fn new(kind: Kind, size: usize, layers: usize) -> Self {
        let (runs, (steps, result, expected)) = match kind {
            Kind::Chain => (1, chain(size)),
            Kind::Fan => (1, fan(size)),
            Kind::Many | Kind::Latency => (size, layered(layers)),
        };
        let calls = steps.iter().map(|_| AtomicUsize::new(0)).collect();
        let plan = json!({"format": 1, "steps": steps, "result": result});
        let plan = serde_json::from_value(plan).map(Arc::new);
        let plan = plan.unwrap_or_else(|error| panic!("the workload's plan is wrong: {error}"));
        let concurrency = if kind == Kind::Latency { 3 * size } else { 4 };
        Self { runs, concurrency, kind, layers, plan, expected, calls, times: Arc::default() }
    }

    /// Says how many workers the pool has.
    pub(crate) fn with_concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Returns the steps of one round.
    pub(crate) fn steps(&self) -> usize {
        self.plan.steps.len() * self.runs
    }

    /// Returns how long a round takes at least, if its steps take any time: its longest chain of tools, as
    /// long as they take by themselves.
    pub(crate) async fn critical_path(&self) -> Option<Duration> {
        match self.kind {
            Kind::Latency => Some(floor::tool_takes(LATENCY).await * self.layers as u32),
            Kind::Chain | Kind::Fan | Kind::Many => None,
        }
    }

    /// Returns a system that only lacks its store.
    pub(crate) fn builder(&self) -> Builder {
        let (tools, pools) = self.means();
        let builder = System::builder().project("bench").tools(tools).planner(self.planner());
        pools.into_iter().fold(builder.limits(self.limits()), Builder::specialist)
    }

    /// Returns what a run is made of.
    pub(crate) fn spec(&self) -> RunSpec {
        let spec = json!({"project": "bench", "goal": "Measure", "planner": self.planner(), "limits": self.limits()});
        serde_json::from_value(spec).unwrap_or_else(|error| panic!("the workload's run is wrong: {error}"))
    }

    /// Returns the tool, and the pool that has it.
    pub(crate) fn means(&self) -> (Vec<Tool>, Vec<Specialist>) {
        let pool = Specialist {
            capability: "bench".into(),
            tools: vec!["add".into()],
            concurrency: self.concurrency,
            agent: None,
        };
        (vec![self.tool()], vec![pool])
    }

    fn planner(&self) -> PlannerSpec {
        PlannerSpec::Runbook { plan: Arc::clone(&self.plan) }
    }

    fn limits(&self) -> Limits {
        let steps = u32::try_from(self.plan.steps.len()).unwrap_or(u32::MAX);
        Limits {
            steps: steps.max(Limits::default().steps),
            in_flight: steps.max(Limits::default().in_flight),
            ..Limits::default()
        }
    }

    /// Forgets when steps were called.
    pub(crate) fn forget_times(&self) {
        self.times.lock().clear();
    }

    /// Returns the median and the 99th percentile of the microseconds from one step of a chain to the
    /// next, in the last round.
    pub(crate) fn times_between_us(&self) -> Option<(f64, f64)> {
        let times = self.times.lock();
        let pairs = times.windows(2);
        let mut between: Vec<f64> = pairs.map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e6).collect();
        between.sort_by(f64::total_cmp);
        Some((*between.get(between.len() / 2)?, *between.get(between.len() * 99 / 100)?))
    }

    fn tool(&self) -> Tool {
        let calls = Arc::clone(&self.calls);
        let takes = if self.kind == Kind::Latency { LATENCY } else { Duration::ZERO };
        let times = (self.kind == Kind::Chain).then(|| Arc::clone(&self.times));
        Tool::function("add", "Adds one to a sum", Effect::Read, move |input: Input| {
            calls[input.at].fetch_add(1, Ordering::Relaxed);
            if let Some(times) = &times {
                times.lock().push(Instant::now());
            }
            async move {
                floor::work(takes).await;
                Ok::<_, Failure>(Sum { n: input.values.iter().sum::<u64>() + 1 })
            }
        })
    }

    /// Returns the first thing that is not as it must be after this many rounds, if calls are counted.
    pub(crate) fn wrong(&self, outcomes: &[Outcome], rounds: Option<usize>) -> Option<String> {
        for outcome in outcomes {
            if outcome.status != Status::Succeeded {
                return Some(format!("{} is {}: {:?}", outcome.run, outcome.status.as_str(), outcome.reason));
            }
            if outcome.result.as_ref() != Some(&self.expected) {
                return Some(format!("{} returned {:?}, not {}", outcome.run, outcome.result, self.expected));
            }
            let once = |step: &&foreplan_core::view::StepView| {
                step.status == StepStatus::Succeeded && step.attempts == 1
            };
            if outcome.steps.iter().filter(once).count() != self.plan.steps.len() {
                return Some(format!("a step of {} did not succeed at once", outcome.run));
            }
        }
        let calls = rounds? * self.runs;
        let off = self.calls.iter().position(|counted| counted.load(Ordering::Relaxed) != calls);
        off.map(|at| format!("step {at} was not called {calls} times"))
    }
}

type Parts = (Vec<Value>, Value, Value);

fn step(at: usize, needs: &[usize]) -> Value {
    let values: Vec<Value> = needs.iter().map(|need| reference(*need)).collect();
    json!({"id": format!("s{at}"), "title": format!("Step {at}"), "tool": "add",
        "input": {"at": at, "values": values}})
}

fn reference(at: usize) -> Value {
    json!({"$ref": format!("s{at}.n")})
}

fn chain(length: usize) -> Parts {
    let steps = (0..length).map(|at| step(at, at.checked_sub(1).as_slice())).collect();
    (steps, reference(length - 1), json!(length))
}

fn fan(width: usize) -> Parts {
    let middle: Vec<usize> = (1..=width).collect();
    let mut steps = vec![step(0, &[])];
    steps.extend(middle.iter().map(|at| step(*at, &[0])));
    steps.push(step(width + 1, &middle));
    (steps, reference(width + 1), json!(2 * width + 1))
}

fn layered(layers: usize) -> Parts {
    let before = |at: usize| (at / 3).checked_sub(1).map(|layer| [layer * 3, layer * 3 + 1, layer * 3 + 2]);
    let steps = (0..layers * 3).map(|at| step(at, before(at).as_ref().map_or(&[], |b| b.as_slice())));
    let last = layers * 3 - 3;
    let n = (1..layers).fold(1_u64, |n, _| 3 * n + 1);
    (steps.collect(), json!([reference(last), reference(last + 1), reference(last + 2)]), json!([n, n, n]))
}
