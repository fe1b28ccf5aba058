//! Names of spans and attributes.
//!
//! Those that begin with `gen_ai` follow the GenAI semantic conventions of OpenTelemetry, which have a
//! repository of their own and are still in development. Those that begin with `foreplan` are this
//! project's.

/// The conventions that the names come from.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev";

/// The instrumentation scope of audit spans. Its version counts the forms of the trace: another form
/// has other bytes.
pub const SCOPE: (&str, &str) = ("foreplan.audit", "1");

/// The instrumentation scope of spans for debugging.
pub const DEBUG_SCOPE: &str = "foreplan.debug";

/// The instrumentation scope of metrics.
pub const METRICS_SCOPE: (&str, &str) = ("foreplan.metrics", "1");

/// Resource: which agent it was.
pub const SERVICE_NAME: &str = "service.name";
/// Resource: which process it was. Metrics have it; audit spans are the same for all.
pub const SERVICE_INSTANCE: &str = "service.instance.id";
/// What kind of thing went wrong.
pub const ERROR_TYPE: &str = "error.type";

/// What was done: one of the operations below.
pub const OPERATION: &str = "gen_ai.operation.name";
/// A run.
pub const INVOKE_WORKFLOW: &str = "invoke_workflow";
/// An attempt of a step.
pub const INVOKE_AGENT: &str = "invoke_agent";
/// A call of a model.
pub const CHAT: &str = "chat";
/// A call of a tool.
pub const EXECUTE_TOOL: &str = "execute_tool";

/// The project.
pub const WORKFLOW_NAME: &str = "gen_ai.workflow.name";
/// The capability.
pub const AGENT_NAME: &str = "gen_ai.agent.name";
/// The run.
pub const CONVERSATION_ID: &str = "gen_ai.conversation.id";
/// The tool.
pub const TOOL_NAME: &str = "gen_ai.tool.name";
/// Content: what a tool was given.
pub const TOOL_ARGUMENTS: &str = "gen_ai.tool.call.arguments";
/// Content: what a tool returned.
pub const TOOL_RESULT: &str = "gen_ai.tool.call.result";
/// Content: what a model answered.
pub const OUTPUT_MESSAGES: &str = "gen_ai.output.messages";
/// The provider of a model.
pub const PROVIDER: &str = "gen_ai.provider.name";
/// The model that was asked.
pub const REQUEST_MODEL: &str = "gen_ai.request.model";
/// The model that answered.
pub const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// Why a model stopped.
pub const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
/// Tokens sent.
pub const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// Tokens sent that the provider had in its cache.
pub const CACHED_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
/// Tokens received.
pub const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Tokens received that were reasoning.
pub const REASONING_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";

/// The run.
pub const RUN: &str = "foreplan.run";
/// The run that a run was forked from.
pub const ORIGIN_RUN: &str = "foreplan.origin.run";
/// The entry of the other run, or of this one, from which a fork began.
pub const ORIGIN_SEQ: &str = "foreplan.origin.entry";
/// A run that was forked from this one.
pub const FORK_RUN: &str = "foreplan.fork.run";
/// The plan version that a span belongs to.
pub const PLAN_VERSION: &str = "foreplan.plan.version";
/// The digest of a plan.
pub const PLAN_DIGEST: &str = "foreplan.plan.digest";
/// What an approval names.
pub const ENVELOPE_DIGEST: &str = "foreplan.envelope.digest";
/// How many steps a plan has.
pub const PLAN_STEPS: &str = "foreplan.plan.steps";
/// Why something was made or decided.
pub const TRIGGER: &str = "foreplan.trigger";
/// What was decided.
pub const DECISION: &str = "foreplan.decision";
/// Who decided, asked, answered or approved.
pub const BY: &str = "foreplan.by";
/// Which rule answered, counted from 0.
pub const RULE: &str = "foreplan.rule";
/// How it came out.
pub const OUTCOME: &str = "foreplan.outcome";
/// The run that carries out a step of this one.
pub const CHILD_RUN: &str = "foreplan.child_run";
/// The run whose step this one carries out.
pub const PARENT_RUN: &str = "foreplan.parent_run";
/// A step.
pub const STEP: &str = "foreplan.step";
/// An attempt of a step.
pub const ATTEMPT: &str = "foreplan.attempt";
/// Whether an attempt asks the `verify` tool.
pub const VERIFY: &str = "foreplan.verify";
/// A worker.
pub const WORKER: &str = "foreplan.worker";
/// What a call does to the world.
pub const EFFECT: &str = "foreplan.effect";
/// The digest of a tool.
pub const TOOL_DIGEST: &str = "foreplan.tool.digest";
/// The digest of an input.
pub const INPUT_DIGEST: &str = "foreplan.input.digest";
/// The digest of an output.
pub const OUTPUT_DIGEST: &str = "foreplan.output.digest";
/// The digest of a prompt's template.
pub const PROMPT_DIGEST: &str = "foreplan.prompt.digest";
/// The digest of a request to a model.
pub const REQUEST_DIGEST: &str = "foreplan.request.digest";
/// What a model was asked for.
pub const PURPOSE: &str = "foreplan.purpose";
/// How often a model was asked again.
pub const RETRIES: &str = "foreplan.retries";
/// A failure's stable word.
pub const FAILURE_CODE: &str = "foreplan.failure.code";
/// Calls to models.
pub const MODEL_CALLS: &str = "foreplan.usage.model_calls";
/// Calls to tools.
pub const TOOL_CALLS: &str = "foreplan.usage.tool_calls";
/// Micro-dollars.
pub const COST: &str = "foreplan.usage.cost_microusd";
/// What waits for an approval.
pub const GATE: &str = "foreplan.gate";
/// What must be approved.
pub const GATE_DIGEST: &str = "foreplan.gate.digest";
/// The entry that began what a span shows.
pub const SEQ_FIRST: &str = "foreplan.journal.first";
/// The entry that ended it.
pub const SEQ_LAST: &str = "foreplan.journal.last";
/// The hash of the entry that ended it.
pub const HASH: &str = "foreplan.journal.hash";
/// What a link leads to.
pub const LINK: &str = "foreplan.link";
/// Content: what a run is for.
pub const GOAL: &str = "foreplan.goal";
/// Content: what a person answered.
pub const ANSWER: &str = "foreplan.answer";
/// Content: why, in words.
pub const REASON: &str = "foreplan.reason";
