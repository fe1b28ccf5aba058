//! Each step, the assumptions, and the result, against the inventory and the limits.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    CheckContext, ITEMS_MAX, Kind,
    input::{Outputs, Scope},
    literal::{Behind, Markers, Misfit, misfits},
    schema::{Node, Types, nearest, parts, types, understood},
};
use crate::{
    budget::{GOAL_DEPTH_MAX, StepMax},
    expr::{self, Cel, Marker, marker},
    finding::Finding,
    id::ToolName,
    plan::{Assumption, CompiledPlan, FORMAT, ForEach, Plan, Step, StepKind, SubGoal},
    tool::{Effect, Inventory, ToolDescriptor},
};

/// Most misfits of one input that are told: more of the same help nobody.
const MISFITS_MAX: usize = 8;

/// Checks everything that concerns one place of the plan only.
pub(super) fn check(
    plan: &Plan,
    compiled: Option<&CompiledPlan>,
    context: &CheckContext<'_>,
    findings: &mut Vec<Finding>,
) {
    let outputs = Outputs::new(plan, context.inventory);
    let mut checker = Checker { plan, compiled, context, outputs: &outputs, validators: HashMap::new() };
    for (at, step) in plan.steps.iter().enumerate() {
        let found = checker.step(at, step);
        findings.extend(found.into_iter().map(|finding| finding.at(&step.id)));
    }
    for (at, assumption) in plan.assumptions.iter().enumerate() {
        findings.extend(checker.assumption(assumption, &format!("assumptions[{at}]")));
    }
    findings.extend(checker.result());
    findings.extend(checker.done_when());
}

/// Checks a step that will stand in a plan which is not there yet. Without `with_input`, its input
/// is that of a step nobody knows.
pub(super) fn alone(step: Step, with_input: bool, context: &CheckContext<'_>) -> Vec<Finding> {
    let plan = Plan {
        format: FORMAT,
        schema: None,
        goal: String::new(),
        rationale: None,
        assumptions: Vec::new(),
        steps: vec![step],
        done_when: None,
        result: None,
    };
    let outputs = Outputs::new(&plan, context.inventory);
    let mut checker =
        Checker { plan: &plan, compiled: None, context, outputs: &outputs, validators: HashMap::new() };
    let step = &plan.steps[0];
    if with_input { checker.step(0, step) } else { checker.itself(0, step) }
}

struct Checker<'a> {
    plan: &'a Plan,
    compiled: Option<&'a CompiledPlan>,
    context: &'a CheckContext<'a>,
    outputs: &'a Outputs<'a>,
    /// By tool: the validator of its input, where it says more than is understood here.
    validators: HashMap<&'a str, Option<jsonschema::Validator>>,
}

impl<'a> Checker<'a> {
    fn step(&mut self, at: usize, step: &'a Step) -> Vec<Finding> {
        let mut findings = self.itself(at, step);
        self.values(at, step, &mut findings);
        findings
    }

    /// Checks a step without what flows into it.
    fn itself(&self, at: usize, step: &'a Step) -> Vec<Finding> {
        let mut findings = Vec::new();
        let context = self.context;
        match step.kind() {
            Some(StepKind::Tool(name)) => match self.outputs.tool(at) {
                Some(tool) => served(step, tool, context.inventory, &mut findings),
                None => findings.push(unknown_tool(name.as_str(), context.inventory).field("tool")),
            },
            Some(StepKind::Agent(agent)) => {
                servable(Kind::Agent, "agent", context, &mut findings);
                for (at, tool) in agent.tools.iter().enumerate() {
                    if context.inventory.get(tool.as_str()).is_none() {
                        let field = format!("agent.tools[{at}]");
                        findings.push(unknown_tool(tool.as_str(), context.inventory).field(field));
                    }
                }
                if findings.is_empty() {
                    agent_served(step, context.inventory, &mut findings);
                }
                budget(step, context, &mut findings);
            }
            Some(StepKind::Goal(goal)) => {
                servable(Kind::Goal, "goal", context, &mut findings);
                self::goal(step, goal, context, &mut findings);
                if step.budget.is_some() {
                    budget(step, context, &mut findings);
                }
            }
            Some(StepKind::Human(_)) => servable(Kind::Human, "human", context, &mut findings),
            None => {}
        }
        attempts(step, context, &mut findings);
        reviewed(step, context, &mut findings);
        schema(step.output.as_deref(), "output", &mut findings);
        schema(step.human.as_ref().and_then(|h| h.answer.as_ref()), "human.answer", &mut findings);
        findings
    }

    /// Checks what flows into a step.
    fn values(&mut self, at: usize, step: &'a Step, findings: &mut Vec<Finding>) {
        static ANYTHING: Value = Value::Bool(true);
        let mut scope = Scope::new(self.outputs, self.context.params);
        if let Some(for_each) = &step.for_each {
            list(for_each, self.outputs.tool(at), &mut scope, findings);
        }
        if let Some(human) = &step.human {
            scope.template(&human.question, "human.question");
        }
        self.conditions(at, step, &mut scope);
        let tool = self.outputs.tool(at);
        let wants = tool.map_or(&ANYTHING, |tool| &tool.input);
        let found = misfits(&step.input, "input", Node::new(wants), &mut scope);
        let plain = found.is_empty();
        told(found, findings);
        findings.append(&mut scope.findings);
        if !scope.unknown.is_empty() {
            let places = few(&scope.unknown);
            let message = format!("whether {places} fits the tool's input shows only when the step runs");
            findings.push(Finding::advice("unchecked_input", message));
        }
        if let Some(tool) = tool.filter(|_| plain) {
            self.rest(tool, &step.input, findings);
        }
        if let (Some(tool), Some(output)) = (tool, &step.output)
            && let super::Fits::CannotFit(reason) = super::fits(&tool.output, output)
        {
            let message = format!("no output of `{}` can fit: it {reason}", tool.name);
            findings.push(Finding::error("output_schema", message).field("output"));
        }
    }

    fn conditions(&self, at: usize, step: &Step, scope: &mut Scope<'a, '_>) {
        let node = self.compiled.map(|compiled| compiled.node(at as u32));
        condition("when", step.when.as_deref(), node.and_then(|n| n.when.as_ref()), scope);
        scope.output = self.outputs.attempt(at);
        condition("expect", step.expect.as_deref(), node.and_then(|n| n.expect.as_ref()), scope);
    }

    /// Has an input without markers validated by all that its schema says.
    fn rest(&mut self, tool: &'a ToolDescriptor, input: &Value, findings: &mut Vec<Finding>) {
        if has_markers(input) {
            return;
        }
        let validator = self.validators.entry(tool.name.as_str()).or_insert_with(|| {
            if understood(&tool.input) { None } else { jsonschema::validator_for(&tool.input).ok() }
        });
        let Some(validator) = validator else { return };
        for error in validator.iter_errors(input).take(MISFITS_MAX) {
            let place = error.instance_path().to_string().replace('/', ".");
            findings.push(Finding::error("input", error.to_string()).field(format!("input{place}")));
        }
    }

    fn assumption(&mut self, assumption: &'a Assumption, place: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let at = |field: &str| format!("{place}.{field}");
        if let Err(errors) = expr::value_references(&assumption.input, &at("input"), &["params"]) {
            findings.extend(errors);
        } else if let Ok(references) = expr::value_references(&assumption.input, &at("input"), &["params"]) {
            findings.extend(references.into_iter().map(|r| too_early(&r.step).field(r.field)));
        }
        match expr::condition(&assumption.expect, &at("expect"), &["output", "params"]) {
            Ok((_, references)) => {
                findings.extend(references.into_iter().map(|r| too_early(&r.step).field(r.field)));
            }
            Err(errors) => findings.extend(errors),
        }
        let Some(tool) = self.context.inventory.get(assumption.tool.as_str()) else {
            findings.push(unknown_tool(assumption.tool.as_str(), self.context.inventory).field(at("tool")));
            return findings;
        };
        if tool.effect != Effect::Read {
            let message = format!(
                "`{}` is {}; an assumption is checked before approval, so its tool must only read",
                tool.name,
                tool.effect.as_str()
            );
            findings.push(Finding::error("assumption_effect", message).field(at("tool")));
        }
        let mut scope = Scope::new(self.outputs, self.context.params);
        told(misfits(&assumption.input, &at("input"), Node::new(&tool.input), &mut scope), &mut findings);
        scope.output = vec![Node::new(&tool.output)];
        condition(&at("expect"), Some(&assumption.expect), None, &mut scope);
        findings.append(&mut scope.findings);
        findings
    }

    fn result(&self) -> Vec<Finding> {
        static ANYTHING: Value = Value::Bool(true);
        let Some(result) = &self.plan.result else { return Vec::new() };
        let references = match expr::value_references(result, "result", &["params"]) {
            Ok(references) => references,
            Err(errors) => return errors,
        };
        let mut findings = Vec::new();
        for reference in references.iter().filter(|r| self.outputs.of(&r.step).is_none()) {
            let ids = self.plan.steps.iter().map(|step| step.id.as_str());
            let hint =
                nearest(&reference.step, ids).map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
            let message =
                format!("there is no step `{}`, so the result cannot be reached{hint}", reference.step);
            findings.push(Finding::error("unknown_step", message).field(&reference.field));
        }
        let mut scope = Scope::new(self.outputs, self.context.params);
        misfits(result, "result", Node::new(&ANYTHING), &mut scope);
        findings.append(&mut scope.findings);
        findings
    }

    fn done_when(&self) -> Vec<Finding> {
        let mut scope = Scope::new(self.outputs, self.context.params);
        let cel = self.compiled.and_then(CompiledPlan::done_when);
        condition("done_when", self.plan.done_when.as_deref(), cel, &mut scope);
        scope.findings
    }
}

/// Looks at what a condition names; whether it parses, compiling says.
fn condition(field: &str, source: Option<&str>, cel: Option<&Cel>, scope: &mut Scope<'_, '_>) {
    let parsed;
    let cel = match (cel, source) {
        (Some(cel), _) => cel,
        (None, Some(source)) => match Cel::parse(source) {
            Ok(cel) => {
                parsed = cel;
                &parsed
            }
            Err(_) => return,
        },
        (None, None) => return,
    };
    cel.assumed_paths().for_each(|path| scope.names(&path, field));
}

fn list<'a>(
    for_each: &ForEach,
    tool: Option<&ToolDescriptor>,
    scope: &mut Scope<'a, '_>,
    findings: &mut Vec<Finding>,
) {
    if for_each.max == 0 || for_each.max > ITEMS_MAX {
        let message = format!("`max` is {}, and must be from 1 to {ITEMS_MAX}", for_each.max);
        findings.push(Finding::error("for_each", message).field("for_each.max"));
    }
    if for_each.max_parallel == Some(0) {
        let message = "`max_parallel` is 0, so no item could ever run; leave it out or give at least 1";
        findings.push(Finding::error("for_each", message).field("for_each.max_parallel"));
    }
    let mut items = Vec::new();
    match &for_each.list {
        Value::Array(list) if list.len() > for_each.max as usize => {
            let message =
                format!("the list has {} items, and {} are allowed; raise `max`", list.len(), for_each.max);
            findings.push(Finding::error("for_each", message).field("for_each.in"));
        }
        Value::Array(_) => {
            told(misfits(&for_each.list, "for_each.in", Node::new(&Value::Bool(true)), scope), findings);
        }
        Value::Object(fields) => match marker(fields) {
            Ok(Marker::Ref { path, default }) => {
                if let Ok(path) = path.parse()
                    && let Behind::Schemas(nodes) = scope.reference(&path, default, "for_each.in")
                {
                    let fuel = super::schema::Fuel::new();
                    let parts = parts(&nodes, &fuel);
                    let has = types(&parts, &fuel);
                    if has.and(Types::ARRAY) == Types::NONE {
                        findings.push(no_list(&has.words()));
                    }
                    items = parts.iter().filter_map(|part| part.item(0)).collect();
                }
            }
            Ok(Marker::Literal(Value::Array(_))) | Err(_) => {}
            Ok(Marker::Template(_)) => findings.push(no_list("a text")),
            Ok(Marker::Literal(other)) => findings.push(no_list(&Types::of(other).words())),
            Ok(Marker::None) => findings.push(no_list("an object")),
        },
        other => findings.push(no_list(&Types::of(other).words())),
    }
    scope.item = Some(items);
    if let Some(tool) = tool.filter(|tool| tool.effect == Effect::Irreversible) {
        let message =
            format!("`{}` is irreversible and may be called up to {} times", tool.name, for_each.max);
        findings.push(Finding::advice("irreversible_items", message).field("for_each.max"));
    }
}

fn no_list(what: &str) -> Finding {
    Finding::error("for_each", format!("`in` is {what}, and a list is wanted")).field("for_each.in")
}

fn told(found: Vec<Misfit>, findings: &mut Vec<Finding>) {
    let more = found.len().saturating_sub(MISFITS_MAX);
    for Misfit { place, reason } in found.into_iter().take(MISFITS_MAX) {
        findings.push(Finding::error("input", reason).field(place));
    }
    if more > 0 {
        findings.push(Finding::error("input", format!("{more} more places do not fit")).field("input"));
    }
}

fn few(names: &[String]) -> String {
    const FEW: usize = 3;
    let shown = names[..names.len().min(FEW)].join(", ");
    if names.len() > FEW { format!("{shown} and {} more", names.len() - FEW) } else { shown }
}

fn unknown_tool(name: &str, inventory: &Inventory) -> Finding {
    let hint = match nearest(name, inventory.tools().map(|tool| tool.name.as_str())) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => "; `foreplan tools` lists those that there are".to_owned(),
    };
    Finding::error("unknown_tool", format!("there is no tool `{name}`{hint}"))
}

fn too_early(step: &str) -> Finding {
    let message = format!("`{step}` is no param; assumptions are checked before any step runs");
    Finding::error("assumption_reference", message)
}

fn served(step: &Step, tool: &ToolDescriptor, inventory: &Inventory, findings: &mut Vec<Finding>) {
    match &step.capability {
        None if tool.capabilities.is_empty() => {
            let message = format!("no capability serves `{}`; add it to a specialist's tools", tool.name);
            findings.push(Finding::error("unserved", message).field("tool"));
        }
        Some(wanted) if !tool.capabilities.contains(wanted) => {
            let message = if inventory.serves(wanted.as_str()) {
                let serving: Vec<&str> = tool.capabilities.iter().map(|c| c.as_str()).collect();
                format!("`{wanted}` does not serve `{}`; served by: {}", tool.name, serving.join(", "))
            } else {
                format!("nobody serves the capability `{wanted}`; start or configure a specialist for it")
            };
            findings.push(Finding::error("unserved", message).field("capability"));
        }
        None | Some(_) => {}
    }
    if let Some(verify) = &tool.verify {
        let effect = inventory.get(verify.as_str()).map(|tool| tool.effect);
        if effect != Some(Effect::Read) {
            let message =
                format!("`{}` is verified by `{verify}`, which is no read tool of the inventory", tool.name);
            findings.push(Finding::error("verify_tool", message).field("tool"));
        }
    }
}

/// Says why no specialist carries out an agent step, if none does.
fn agent_served(step: &Step, inventory: &Inventory, findings: &mut Vec<Finding>) {
    if inventory.agent_for(step).is_some() {
        return;
    }
    let known: Vec<&str> = inventory.agents().map(|agent| agent.capability.as_str()).collect();
    let message = match (&step.capability, known.is_empty()) {
        (_, true) => {
            "no specialist has a model, so nobody carries out agent steps; give one a `model`".to_owned()
        }
        (Some(wanted), _) if !known.contains(&wanted.as_str()) => {
            format!("the specialist `{wanted}` has no model; those that have: {}", known.join(", "))
        }
        (Some(wanted), _) => {
            let is_served = |tool: &&ToolName| {
                inventory.get(tool.as_str()).is_some_and(|tool| tool.capabilities.contains(wanted))
            };
            let tools = step.agent.iter().flat_map(|agent| &agent.tools);
            let missing: Vec<&str> = tools.filter(|tool| !is_served(tool)).map(ToolName::as_str).collect();
            format!("the specialist `{wanted}` does not have these tools of the step: {}", missing.join(", "))
        }
        (None, _) => format!(
            "no specialist with a model serves every tool of the step; there are: {}",
            known.join(", ")
        ),
    };
    findings.push(Finding::error("unserved", message).field("agent"));
}

fn budget(step: &Step, context: &CheckContext<'_>, findings: &mut Vec<Finding>) {
    let asked = StepMax::of(step);
    let limits = context.limits;
    let over = [
        ("budget.iterations", u64::from(asked.model_calls), u64::from(limits.model_calls), "model_calls"),
        ("budget.tokens", asked.tokens, limits.tokens, "tokens"),
        ("budget.cost_microusd", asked.cost_microusd, limits.cost_microusd, "cost_microusd"),
    ];
    for (field, asked, most, limit) in over {
        if asked == 0 || asked > most {
            let message =
                format!("the step may use {asked} {limit}, and the run from 1 to {most} (`limits.{limit}`)");
            findings.push(Finding::error("budget", message).field(field));
        }
    }
}

fn servable(kind: Kind, word: &str, context: &CheckContext<'_>, findings: &mut Vec<Finding>) {
    if !context.executable.contains(&kind) {
        let message = format!("not servable: no executor for {word} steps in this build");
        findings.push(Finding::error("not_servable", message).field(word));
    }
}

/// Reports a goal that nobody can plan, or that lies too deep.
fn goal(step: &Step, goal: &SubGoal, context: &CheckContext<'_>, findings: &mut Vec<Finding>) {
    if goal.text.trim().is_empty() {
        findings.push(Finding::error("no_goal", "say what the goal is").field("goal.text"));
    }
    if context.limits.depth == 0 {
        let message = format!(
            "goals may lie {GOAL_DEPTH_MAX} deep at most, and fewer if `limits.depth` says so; plan its \
             steps here"
        );
        findings.push(Finding::error("too_deep", message).field("goal"));
    }
    if context.planner.of_goal(goal).is_none() {
        let message = format!(
            "the `{}` planner cannot plan it by its text: name the artifacts that it must `produce`",
            context.planner.name()
        );
        findings.push(Finding::error("no_planner", message).field("goal.produce"));
    }
    if !step.input.is_object() {
        let message = "the input of a goal is its params: an object with a field for each";
        findings.push(Finding::error("input_schema", message).field("input"));
    }
}

/// Reports a review that nobody would make: the step must not pass for want of a reviewer.
fn reviewed(step: &Step, context: &CheckContext<'_>, findings: &mut Vec<Finding>) {
    if step.review && context.review.is_none() {
        let message = "the step asks for a review, and the run has no reviewer; name one as `model` in \
                       `[review]`, or drop `review`";
        findings.push(Finding::error("no_reviewer", message).field("review"));
    }
    if step.review && step.human.is_some() {
        let message = "a person's answer is not reviewed; drop `review`";
        findings.push(Finding::advice("review_of_person", message).field("review"));
    }
}

fn attempts(step: &Step, context: &CheckContext<'_>, findings: &mut Vec<Finding>) {
    let (asked, most) = (step.on_failure.attempts, context.limits.attempts);
    if asked == 0 || asked > most {
        let message =
            format!("{asked} attempts are asked for, and 1 to {most} are allowed (`limits.attempts`)");
        findings.push(Finding::error("attempts", message).field("on_failure.attempts"));
    }
    if step.timeout.is_some_and(|timeout| timeout.is_zero()) {
        let message = "no attempt ends within no time; give a longer timeout or leave it out";
        findings.push(Finding::error("timeout", message).field("timeout"));
    }
}

fn schema(schema: Option<&Value>, field: &str, findings: &mut Vec<Finding>) {
    if let Some(error) = schema.and_then(|schema| jsonschema::validator_for(schema).err()) {
        findings.push(Finding::error("schema", format!("is no JSON Schema: {error}")).field(field));
    }
}

fn has_markers(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| key.starts_with('$') || has_markers(value)),
        Value::Array(items) => items.iter().any(has_markers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
