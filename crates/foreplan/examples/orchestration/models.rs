//! One task of twelve tool calls, done by a plan and by a step-by-step agent, with a model server that
//! takes its time.
//!
//! Three surveys that can be made at once, then one call that combines them, three times over. The
//! step-by-step agent is an agent step that may call both tools; what it costs beyond its model's and
//! its tools' own time is the overhead of the loop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use foreplan::{Outcome, System};
use foreplan_core::{
    call::Purpose,
    digest::Digest,
    event::{Entry, Event},
    failure::Failure,
    goal::PlannerSpec,
    tool::Effect,
    view::Status,
};
use foreplan_model::{Api, Client, Config, Configs, Key, Message, Models as _, Request};
use foreplan_testkit::{Asked, ModelServer, Reply};
use foreplan_tools::{AgentSpec, Specialist, Tool};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::floor;

/// How long the model takes for an answer.
const ANSWER: Duration = Duration::from_millis(20);

/// What can be surveyed at once.
const REGIONS: [(&str, u64); 3] = [("north", 7), ("south", 11), ("west", 13)];

/// How often the regions are surveyed, each time from the total of the time before.
const PERIODS: usize = 3;

/// Questions that measure what one takes by itself.
const BARE: usize = 21;

const MODEL: &str = "test/m";

const GOAL: &str = "Survey the regions north, south and west three times, each time from the combined total of \
                    the time before, the first time from 0, and tell the last total";

/// How the task is done.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Way {
    Plan,
    React,
    ReactParallel,
}

impl Way {
    pub(crate) const ALL: [(&str, Self); 3] =
        [("plan", Self::Plan), ("react", Self::React), ("react-parallel", Self::ReactParallel)];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, way)| *way == self).map_or("", |(name, _)| name)
    }

    /// Returns how many tools are called one after another.
    fn layers(self) -> u32 {
        let layers = 2 * PERIODS;
        if self == Self::React { (PERIODS * (REGIONS.len() + 1)) as u32 } else { layers as u32 }
    }

    /// Returns how many tools the model asks for in one answer.
    fn calls_at_once(self) -> usize {
        if self == Self::ReactParallel { REGIONS.len() } else { 1 }
    }
}

#[derive(Deserialize, JsonSchema)]
struct Survey {
    region: String,
    from: u64,
}

#[derive(Deserialize, JsonSchema)]
struct Three {
    north: u64,
    south: u64,
    west: u64,
}

#[derive(Serialize, JsonSchema)]
struct Total {
    n: u64,
}

/// A call of the task: the tool, and its input once the calls before it are known.
struct Wanted {
    tool: &'static str,
    input: Value,
}

/// Measures one way; `tool` is how long each tool takes.
pub(crate) async fn measure(way: Way, tool: Duration, rounds: usize) -> anyhow::Result<Value> {
    let server = ModelServer::start().await;
    server.answer(move |asked| Some(answer(way, asked).after(ANSWER)));
    let called = Arc::new(AtomicUsize::new(0));
    let client = client(&server);
    let way_there = bare_way(&client, &server).await?;
    let tool_takes = floor::tool_takes(tool).await;
    let system = system(way, client, tool, &called).await?;
    let (mut measured, mut plannings) = (Vec::new(), Vec::new());
    let mut last = None;
    for round in 0..=rounds {
        let (began, worked) = (Instant::now(), server.worked());
        let outcome = system.run(GOAL).await?;
        if round > 0 {
            measured.push((began.elapsed(), server.worked() - worked));
            plannings.push(planning(&system.entries(outcome.run).await?));
        }
        check(&outcome)?;
        last = Some(outcome);
    }
    system.shutdown().await;
    let runs = rounds + 1;
    let calls: usize = PERIODS * (REGIONS.len() + 1);
    ensure!(called.load(Ordering::Relaxed) == runs * calls, "a tool was not called as often as it must be");
    let asked = server.asked().split_off(BARE);
    let tokens: u64 = asked.iter().map(Asked::tokens).sum();
    let schemas: u64 = asked.iter().map(Asked::schema_tokens).sum();
    measured.sort();
    let (wall, model_takes) = measured[measured.len() / 2];
    let turns = asked.len() / runs;
    let tools_take = tool_takes * way.layers();
    let least = model_takes + way_there * turns as u32 + tools_take;
    let (wall_s, least) = (wall.as_secs_f64(), least.as_secs_f64());
    plannings.sort();
    let planning_s = plannings[plannings.len() / 2].as_secs_f64();
    let is_planned = way == Way::Plan;
    Ok(json!({
        "workload": "models", "mode": way.name(), "wall_s": wall_s, "steps": calls, "ok": true,
        "model_calls": turns, "prompt_tokens": tokens / runs as u64,
        "of_these_schemas_of_answers": schemas / runs as u64,
        "journaled_model_calls": last.map(|outcome| outcome.usage.model_calls),
        "least_s": least, "over_least": wall_s / least - 1.0,
        "planning_s": is_planned.then_some(planning_s),
        "over_planning_and_tools": is_planned.then(|| wall_s / (planning_s + tools_take.as_secs_f64()) - 1.0),
        "overhead_ms_per_model_call": (wall_s - least) * 1e3 / turns as f64,
        "settings": {
            "rounds": rounds, "answer_ms": ANSWER.as_millis() as u64, "tool_ms": tool.as_millis() as u64,
            "measured": {
                "model_ms_per_call": model_takes.as_secs_f64() * 1e3 / turns as f64,
                "way_to_the_model_ms": way_there.as_secs_f64() * 1e3,
                "tool_ms": tool_takes.as_secs_f64() * 1e3,
            },
        },
    }))
}

/// Returns how long a run was planned: from when it was accepted until its plan was adopted.
fn planning(entries: &[Arc<Entry>]) -> Duration {
    let adopted = |entry: &&Arc<Entry>| entry.events.iter().any(|e| matches!(e, Event::PlanAdopted { .. }));
    let times = entries.first().zip(entries.iter().find(adopted)).map(|(from, to)| (from.at, to.at));
    times.map_or(Duration::ZERO, |(from, to)| to.since(from))
}

async fn system(
    way: Way,
    client: Client,
    takes: Duration,
    called: &Arc<AtomicUsize>,
) -> anyhow::Result<System> {
    let pool = Specialist {
        capability: "bench".into(),
        tools: vec!["survey".into(), "combine".into()],
        concurrency: REGIONS.len(),
        agent: Some(AgentSpec { model: MODEL.into(), instructions: None }),
    };
    let planner = match way {
        Way::Plan => PlannerSpec::Model { model: MODEL.to_owned() },
        Way::React | Way::ReactParallel => {
            PlannerSpec::Runbook { plan: Arc::new(serde_json::from_value(loop_of_one_step())?) }
        }
    };
    let system = System::builder()
        .project("bench")
        .tools(tools(takes, called))
        .specialist(pool)
        .models(Arc::new(client))
        .planner(planner);
    Ok(system.build().await?)
}

fn client(server: &ModelServer) -> Client {
    let config = Config {
        api: Some(Api::Openai),
        base_url: Some(server.base_url()),
        key: Key::Given("sk-bench".to_owned()),
        ..Config::default()
    };
    Client::new(Configs::from([(MODEL.to_owned(), config)]), Arc::new(|_: &str| None))
}

/// Returns how long the way to the model and back takes by itself: a question, without the time that the
/// model takes for it.
async fn bare_way(client: &Client, server: &ModelServer) -> anyhow::Result<Duration> {
    let model = client.model(MODEL)?;
    let request = Arc::new(Request {
        purpose: Purpose::Act,
        prompt: Digest::of_bytes(b"bare"),
        system: String::new(),
        messages: vec![Message::User { text: GOAL.to_owned() }],
        tools: Vec::new(),
        output: None,
        max_output_tokens: None,
    });
    let mut took = Vec::with_capacity(BARE);
    for _ in 0..BARE {
        let (began, worked) = (Instant::now(), server.worked());
        model.chat(Arc::clone(&request)).await?;
        took.push(began.elapsed().saturating_sub(server.worked() - worked));
    }
    ensure!(server.asked().len() == BARE, "a question was asked twice");
    took.sort();
    Ok(took[BARE / 2])
}

fn tools(takes: Duration, called: &Arc<AtomicUsize>) -> [Tool; 2] {
    let counted = Arc::clone(called);
    let survey =
        Tool::function("survey", "Survey a region from a figure", Effect::Read, move |input: Survey| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                floor::work(takes).await;
                let found = REGIONS.iter().find(|(region, _)| *region == input.region);
                Ok::<_, Failure>(Total { n: input.from + found.map_or(0, |(_, more)| *more) })
            }
        });
    let counted = Arc::clone(called);
    let combine = Tool::function("combine", "Combine three figures", Effect::Read, move |input: Three| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            floor::work(takes).await;
            Ok::<_, Failure>(Total { n: input.north + input.south + input.west })
        }
    });
    [survey, combine]
}

/// The whole task as one agent step: a step-by-step agent.
fn loop_of_one_step() -> Value {
    json!({"format": 1, "result": {"$ref": "all.n"}, "steps": [{
        "id": "all", "title": "Do it all",
        "agent": {"instructions": GOAL, "tools": ["survey", "combine"]},
        "output": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false},
        "budget": {"iterations": 20},
    }]})
}

fn answer(way: Way, asked: &Asked) -> Reply {
    if way == Way::Plan {
        return Reply::json(&plan());
    }
    let (layers, last) = task();
    let size = way.calls_at_once();
    let mut turns = layers.iter().flat_map(|layer| layer.chunks(size));
    match turns.nth(asked.turns()) {
        None => Reply::json(&json!({"n": last})),
        Some(calls) => {
            let first = Reply::call(calls[0].tool, calls[0].input.clone());
            calls[1..].iter().fold(first, |reply, call| reply.and_call(call.tool, call.input.clone()))
        }
    }
}

/// Returns the calls, those of a layer independent of each other, and the last total.
fn task() -> (Vec<Vec<Wanted>>, u64) {
    let mut total = 0;
    let mut layers = Vec::new();
    for _ in 0..PERIODS {
        let survey = |(region, _): &(&str, u64)| Wanted {
            tool: "survey",
            input: json!({"region": region, "from": total}),
        };
        layers.push(REGIONS.iter().map(survey).collect());
        let input = REGIONS.iter().map(|(region, more)| ((*region).to_owned(), json!(total + more)));
        layers.push(vec![Wanted { tool: "combine", input: Value::Object(input.collect()) }]);
        total = REGIONS.iter().map(|(_, more)| total + more).sum();
    }
    (layers, total)
}

/// The task as a model plans it.
fn plan() -> Value {
    let step = |id: String, tool: &str, input: Value| json!({"id": id, "title": id, "do": {"tool": tool, "input": input}, "needs": [], "when": null, "for_each": null, "expect": null});
    let mut steps = Vec::new();
    for period in 1..=PERIODS {
        let from = match period {
            1 => json!({"value": 0}),
            _ => json!({"ref": format!("total{}.n", period - 1)}),
        };
        for (region, _) in REGIONS {
            let input = json!({"region": {"value": region}, "from": from});
            steps.push(step(format!("{region}{period}"), "survey", input));
        }
        let figures = REGIONS
            .iter()
            .map(|(region, _)| ((*region).to_owned(), json!({"ref": format!("{region}{period}.n")})));
        steps.push(step(format!("total{period}"), "combine", Value::Object(figures.collect())));
    }
    let result = json!({"ref": format!("total{PERIODS}.n")});
    json!({"answer": {"kind": "plan", "rationale": "each time needs the total before", "steps": steps, "result": result}})
}

fn check(outcome: &Outcome) -> anyhow::Result<()> {
    let (_, last) = task();
    ensure!(outcome.status == Status::Succeeded, "{:?} {:?}", outcome.status, outcome.reason);
    ensure!(outcome.result == Some(json!(last)), "the result is {:?}, not {last}", outcome.result);
    Ok(())
}
