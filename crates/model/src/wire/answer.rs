//! The answers of planning models, as they come: read leniently, translated, and checked after.

use serde::Deserialize;
use serde_json::Value;

/// What a planner answers.
#[derive(Clone, Debug, PartialEq)]
pub enum PlanAnswer {
    /// A plan.
    Plan(PlanForm),
    /// No tool can do it.
    Impossible {
        /// Why.
        reason: String,
    },
    /// A person must say something first.
    Question {
        /// What is asked.
        question: String,
    },
}

impl PlanAnswer {
    /// Reads an answer: as the form asks for it, or bare. A plan is also known by its steps.
    ///
    /// # Errors
    ///
    /// Why it is none, for the model to read.
    pub fn read(value: Value) -> Result<Self, String> {
        let inner = unwrapped(value, "answer");
        let kind = inner.get("kind").and_then(Value::as_str).unwrap_or_default();
        let text = |name: &str| {
            let text = inner.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
            text.map(str::to_owned).ok_or_else(|| format!("answer.{name}: a text is wanted"))
        };
        match kind {
            "impossible" => Ok(Self::Impossible { reason: text("reason")? }),
            "question" => Ok(Self::Question { question: text("question")? }),
            "plan" => located(inner, "answer").map(Self::Plan),
            "" if inner.get("steps").is_some() => located(inner, "answer").map(Self::Plan),
            other => Err(format!("answer.kind: `{other}` is none of `plan`, `impossible` and `question`")),
        }
    }
}

/// A plan as a model writes it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PlanForm {
    /// Why these steps.
    pub rationale: Option<String>,
    /// Steps of the plan in force that stay as they are.
    pub keep: Vec<String>,
    /// The steps.
    pub steps: Vec<StepForm>,
    /// The run's result.
    pub result: Option<Value>,
}

/// A step as a model writes it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct StepForm {
    /// Its id.
    pub id: String,
    /// What it does.
    pub title: Option<String>,
    /// What it must show.
    pub outcome: Option<String>,
    /// Steps that come first.
    pub needs: Option<Vec<String>>,
    /// CEL.
    pub when: Option<String>,
    /// For each item of a list.
    pub for_each: Option<EachForm>,
    /// CEL.
    pub expect: Option<String>,
    /// What it does.
    #[serde(rename = "do")]
    pub work: Option<WorkForm>,
    /// What it does, from a model that does not keep it apart.
    #[serde(flatten)]
    pub flat: WorkForm,
}

impl StepForm {
    /// Returns what the step does, and nothing of it afterwards.
    pub(super) fn take_work(&mut self) -> WorkForm {
        self.work.take().unwrap_or_else(|| std::mem::take(&mut self.flat))
    }
}

/// What a step does, as a model writes it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct WorkForm {
    /// The pool.
    pub capability: Option<String>,
    /// A tool's name.
    pub tool: Option<String>,
    /// A loop of a model.
    pub agent: Option<AgentForm>,
    /// A question to a person.
    pub human: Option<HumanForm>,
    /// A goal of its own.
    pub goal: Option<String>,
    /// The input: by field, or as JSON text.
    pub input: Option<Value>,
}

/// A list that a step runs over.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EachForm {
    /// The list.
    #[serde(rename = "in")]
    pub list: Value,
    /// The most items.
    #[serde(default)]
    pub max: Option<u32>,
}

/// An agent step's own part.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct AgentForm {
    /// What the model is told.
    pub instructions: String,
    /// The tools that it may call.
    #[serde(default)]
    pub tools: Vec<String>,
    /// JSON Schema of the output: as text, or as it is.
    #[serde(default)]
    pub output: Option<Value>,
}

/// A human step's own part.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct HumanForm {
    /// The question.
    pub question: String,
    /// JSON Schema of the answer: as text, or as it is.
    #[serde(default)]
    pub answer: Option<Value>,
}

/// What a replanner answers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DecisionForm {
    /// The step is tried again.
    Retry {
        /// Why.
        reason: String,
        /// The step with other inputs, if they change.
        #[serde(default)]
        step: Option<Box<StepForm>>,
    },
    /// The step counts as skipped.
    Skip {
        /// Why.
        reason: String,
    },
    /// The plan changes around the step.
    Patch {
        /// Why.
        reason: String,
        /// Steps to add.
        #[serde(default)]
        insert: Vec<InsertForm>,
        /// Steps to put in the place of those with their ids.
        #[serde(default)]
        replace: Vec<StepForm>,
        /// Steps to take out.
        #[serde(default)]
        drop: Vec<String>,
    },
    /// Another plan.
    NewPlan {
        /// Why.
        reason: String,
        /// The plan.
        #[serde(flatten)]
        plan: PlanForm,
    },
    /// The run ends as failed.
    Fail {
        /// Why.
        reason: String,
    },
    /// A person is asked.
    Ask {
        /// Why.
        reason: String,
        /// What is asked.
        question: String,
    },
}

/// A step that a patch adds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct InsertForm {
    /// The step.
    pub step: StepForm,
    /// The steps that wait for it.
    #[serde(default)]
    pub before: Vec<String>,
}

impl DecisionForm {
    /// Reads a decision: as the form asks for it, or bare.
    ///
    /// # Errors
    ///
    /// Why it is none, for the model to read.
    pub fn read(value: Value) -> Result<Self, String> {
        located(unwrapped(value, "decision"), "decision")
    }
}

fn unwrapped(mut value: Value, root: &str) -> Value {
    value.get_mut(root).filter(|inner| inner.is_object()).map(Value::take).unwrap_or(value)
}

fn located<T: for<'de> Deserialize<'de>>(value: Value, root: &str) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { root.to_owned() } else { format!("{root}.{path}") };
        format!("{place}: {}", error.inner())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_with_and_without_the_field_around_it() {
        let answer = json!({"kind": "impossible", "reason": "no printer"});
        for value in [answer.clone(), json!({"answer": answer})] {
            assert_eq!(
                PlanAnswer::read(value),
                Ok(PlanAnswer::Impossible { reason: "no printer".to_owned() })
            );
        }
        assert!(matches!(PlanAnswer::read(json!({"steps": []})), Ok(PlanAnswer::Plan(_))));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let read = |value: Value| PlanAnswer::read(value).unwrap_err();
        assert_eq!(
            read(json!({"answer": {"kind": "dance"}})),
            "answer.kind: `dance` is none of `plan`, `impossible` and `question`"
        );
        assert_eq!(read(json!({"kind": "question", "question": " "})), "answer.question: a text is wanted");
        let step = json!({"kind": "plan", "steps": [{"id": 7}]});
        assert!(read(step).starts_with("answer.steps[0].id: "));
        assert!(read(json!([1])).starts_with("answer.kind: "));
    }

    #[test]
    fn a_decision_has_its_kind_and_its_reason() {
        let decision = json!({"decision": {"kind": "new_plan", "reason": "r", "keep": ["a"], "steps": [], "result": null}});
        let Ok(DecisionForm::NewPlan { reason, plan }) = DecisionForm::read(decision) else {
            panic!("no decision")
        };
        assert_eq!((reason.as_str(), plan.keep), ("r", vec!["a".to_owned()]));
        assert!(DecisionForm::read(json!({"kind": "skip"})).is_err());
    }
}
