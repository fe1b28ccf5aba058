//! Progress while a run goes on: a tree that is drawn in place on a terminal, plain lines in a
//! pipe, JSON lines for programs.

use std::{collections::BTreeMap, time::Duration};

use foreplan_core::{
    id::{RunId, StepId},
    view::StepStatus,
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{
    lines::ProgressLine,
    output::Output,
    paint::clean,
    render::{
        Look,
        progress::{self, Line},
    },
};

/// How often what is drawn in place is drawn again.
const TICK: Duration = Duration::from_millis(120);

/// How many running steps are drawn at once, so that a wide plan fits a screen.
const ROWS_MAX: usize = 12;

/// Shows progress.
#[derive(Debug)]
pub(crate) struct Live {
    look: Look,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Json,
    Plain,
    Tree(Tree),
}

#[derive(Debug)]
struct Tree {
    colored: bool,
    all: MultiProgress,
    bar: ProgressBar,
    running: BTreeMap<StepId, ProgressBar>,
}

impl Live {
    /// Chooses the form that the output asks for.
    #[must_use]
    pub(crate) fn new(output: &Output) -> Self {
        let look = output.look_stderr();
        let form = if output.is_json() {
            Form::Json
        } else if output.is_live() {
            Form::Tree(Tree::new(look.paint.is_colored()))
        } else {
            Form::Plain
        };
        Self { look, form }
    }

    /// Shows something that happened.
    pub(crate) fn show(&mut self, output: &mut Output, run: RunId, line: &Line) {
        match &mut self.form {
            Form::Json => output.line(&ProgressLine {
                run,
                at: line.at,
                step: line.step.clone(),
                status: line.status,
                message: line.message.clone(),
            }),
            Form::Plain => output.note(&progress::line(&self.look, line)),
            Form::Tree(tree) => tree.show(&self.look, line),
        }
    }

    /// Shows how far the run is.
    pub(crate) fn counted(&mut self, done: usize, all: usize) {
        if let Form::Tree(tree) = &self.form {
            tree.bar.set_length(all as u64);
            tree.bar.set_position(done as u64);
        }
    }

    /// Takes away what is drawn in place, before something else is printed.
    pub(crate) fn clear(&mut self) {
        if let Form::Tree(tree) = &mut self.form {
            for (_, row) in std::mem::take(&mut tree.running) {
                row.finish_and_clear();
            }
            tree.bar.finish_and_clear();
        }
    }
}

impl Tree {
    fn new(colored: bool) -> Self {
        let all = MultiProgress::new();
        let bar = all.add(ProgressBar::new(0));
        let template = if colored {
            "  {bar:24.cyan/dim} {pos}/{len} steps  {elapsed:.dim}"
        } else {
            "  {bar:24} {pos}/{len} steps  {elapsed}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━━╌"));
        }
        bar.enable_steady_tick(TICK);
        Self { colored, all, bar, running: BTreeMap::new() }
    }

    fn show(&mut self, look: &Look, line: &Line) {
        if let (Some(step), Some(status)) = (&line.step, line.status) {
            if status == StepStatus::Running {
                self.start(step, &line.message);
                return;
            }
            if let Some(row) = self.running.remove(step) {
                row.finish_and_clear();
                self.all.remove(&row);
            }
        }
        // A terminal that cannot be written to shows nothing; the record has it all.
        let _ = self.all.println(progress::line(look, line));
    }

    fn start(&mut self, step: &StepId, message: &str) {
        let text = clean(&format!("{step}  {message}")).trim_end().to_owned();
        if let Some(row) = self.running.get(step) {
            return row.set_message(text);
        }
        if self.running.len() >= ROWS_MAX {
            return;
        }
        let row = self.all.insert_before(&self.bar, ProgressBar::new_spinner());
        let template = if self.colored {
            "  {spinner:.cyan} running     {msg}  {elapsed:.dim}"
        } else {
            "  {spinner} running     {msg}  {elapsed}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            row.set_style(style);
        }
        row.set_message(text);
        row.enable_steady_tick(TICK);
        self.running.insert(step.clone(), row);
    }
}
