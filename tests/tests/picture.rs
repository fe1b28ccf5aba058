//! The pictures in `docs/audit.md`: those of a real run over NATS, and still as such a run looks.
//!
//! `FOREPLAN_PICTURE=1` writes them anew (`just picture`).

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use foreplan_testkit::Normalizer;
use foreplan_tests::{Deployment, Jaeger, Project, arranged, serve, wait_until};
use serde_json::Value;

/// Stands before the tree in the page.
const BEFORE: &str = "as `--spans` prints it:\n\n```text\n";

/// The height of a row, in pixels.
const ROW: f64 = 22.0;
/// The width of the names, on the left.
const NAMES: f64 = 330.0;
/// The width of the bars, on the right.
const BARS: f64 = 640.0;
/// What stays empty around all.
const MARGIN: f64 = 12.0;

/// The colour of names, and that of names and edges of what went wrong.
const INK: &str = "#212529";
const RED: &str = "#e03131";

/// The status code of a span of something that went wrong.
const ERROR: i64 = 2;

/// Services and their colours, in the order of the legend.
const COLOURS: [(&str, &str); 5] = [
    ("foreplan-tracker", "#4c6ef5"),
    ("foreplan-planner", "#12b886"),
    ("foreplan-replanner", "#f76707"),
    ("foreplan-executor-ci", "#868e96"),
    ("foreplan-executor-ops", "#ae3ec9"),
];

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Carries the release with version 1.4.3 out over NATS, by three services and two pools.
fn release() -> (Project, Deployment) {
    let jaeger = Jaeger::start();
    let deployment = Deployment::start();
    let traced = |project: Project| match &jaeger {
        Some(jaeger) => {
            deployment.of(project).with_env("OTEL_EXPORTER_OTLP_ENDPOINT", &jaeger.otlp("127.0.0.1"))
        }
        None => deployment.of(project),
    };
    let idle = ["planner", "replanner", "tracker"].map(|role| {
        let folder = traced(Project::empty());
        let serving = serve(&folder, &["--roles", role]);
        (folder, serving)
    });
    let project = deployment.of(Project::example("release-checklist"));
    let pools = ["ci", "ops"].map(|pool| serve(&project, &["--roles", "executor", "--capability", pool]));
    let waiting = project.foreplan(&["run", "--param", "version=1.4.3"]);
    assert_eq!(waiting.code, 3, "{waiting:?}");
    project.approve();
    if let Some(jaeger) = &jaeger {
        wait_until("Jaeger holds what the journal has", || {
            project.foreplan(&["audit", "last", "--verify", "--jaeger", &jaeger.query()]).code == 0
        });
    }
    drop((idle, pools));
    (project, deployment)
}

#[test]
fn the_pictures_of_the_audit_trail_are_those_of_a_run_over_nats() {
    let (project, _deployment) = release();
    let shown = project.foreplan(&["audit", "last", "--spans"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert_eq!(project.foreplan(&["audit", "last", "-o", "trace.json"]).code, 0);
    let rows = rows(&serde_json::from_str(&project.read("trace.json")).expect("a trace"));
    let (page, drawing) = (docs().join("audit.md"), docs().join("audit.svg"));
    let text = std::fs::read_to_string(&page).expect("the page");
    let (before, rest) = text.split_once(BEFORE).expect("the page has the tree");
    let (tree, after) = rest.split_once("```").expect("the tree ends");
    if std::env::var("FOREPLAN_PICTURE").is_ok_and(|v| v == "1") {
        std::fs::write(&page, format!("{before}{BEFORE}{}\n```{after}", shown.stdout.trim_end()))
            .expect("the page is written");
        std::fs::write(&drawing, drawn(&rows)).expect("the drawing is written");
        return;
    }
    let plain = |tree: &str| arranged(tree.trim_end(), &mut Normalizer::new());
    assert_eq!(plain(tree), plain(&shown.stdout), "run `just picture`");
    let drawing = std::fs::read_to_string(drawing).expect("the drawing");
    for row in &rows {
        assert!(drawing.contains(&row.caption()), "`{}` is not drawn: run `just picture`", row.caption());
    }
}

/// A span, where it stands in the drawing.
struct Row {
    depth: usize,
    name: String,
    step: Option<String>,
    attempt: Option<String>,
    is_error: bool,
    service: String,
    start: u64,
    end: u64,
}

impl Row {
    fn label(&self) -> String {
        let mut label = self.name.clone();
        for part in [&self.step, &self.attempt].into_iter().flatten() {
            let _ = write!(label, " · {part}");
        }
        label
    }

    /// Returns its name as it is drawn: in red if what it stands for went wrong.
    fn caption(&self) -> String {
        format!("fill=\"{}\">{}<", if self.is_error { RED } else { INK }, self.label())
    }
}

/// Returns the spans of a trace, each behind its parent, in the order in which they began.
fn rows(trace: &Value) -> Vec<Row> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut spans = Vec::new();
    for resource in list(trace, "resourceSpans") {
        let service = attribute(&resource["resource"], "service.name").expect("a service");
        for scope in list(&resource, "scopeSpans") {
            spans.extend(list(&scope, "spans").into_iter().map(|span| (service.clone(), span)));
        }
    }
    spans.sort_by_key(|(_, span)| (nanos(span, "startTimeUnixNano"), span["name"].to_string()));
    let mut rows = Vec::new();
    under("", 0, &spans, &mut rows);
    assert_eq!(rows.len(), spans.len(), "every span has its parent");
    rows
}

fn under(parent: &str, depth: usize, spans: &[(String, Value)], rows: &mut Vec<Row>) {
    for (service, span) in spans {
        if span["parentSpanId"].as_str().unwrap_or_default() != parent {
            continue;
        }
        rows.push(Row {
            depth,
            name: span["name"].as_str().expect("a name").to_owned(),
            step: attribute(span, "foreplan.step"),
            attempt: attribute(span, "foreplan.attempt"),
            is_error: span["status"]["code"] == ERROR,
            service: service.clone(),
            start: nanos(span, "startTimeUnixNano"),
            end: nanos(span, "endTimeUnixNano"),
        });
        under(span["spanId"].as_str().expect("an id"), depth + 1, spans, rows);
    }
}

fn nanos(span: &Value, key: &str) -> u64 {
    span[key].as_str().and_then(|text| text.parse().ok()).expect("a time")
}

fn attribute(of: &Value, key: &str) -> Option<String> {
    let found = of["attributes"].as_array()?.iter().find(|a| a["key"] == key)?;
    let value = &found["value"];
    let text = value["stringValue"].as_str().or_else(|| value["intValue"].as_str());
    text.map(str::to_owned).or_else(|| value["intValue"].as_i64().map(|number| number.to_string()))
}

/// Draws spans as bars over time, as pages for traces do.
fn drawn(rows: &[Row]) -> String {
    let begin = rows.iter().map(|row| row.start).min().unwrap_or(0);
    let whole = rows.iter().map(|row| row.end).max().unwrap_or(0).saturating_sub(begin).max(1) as f64;
    let (width, height) = (NAMES + BARS + 2.0 * MARGIN, ROW * (rows.len() as f64 + 2.0) + MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (at, (service, colour)) in COLOURS.iter().enumerate() {
        let x = MARGIN + at as f64 * 180.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"8\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{}\" y=\"17\">{service}</text>",
            x + 15.0
        );
    }
    for (at, row) in rows.iter().enumerate() {
        let y = ROW * (at as f64 + 1.5);
        let x = MARGIN + NAMES + (row.start - begin) as f64 / whole * BARS;
        let length = ((row.end - row.start) as f64 / whole * BARS).max(2.0);
        let colour = COLOURS.iter().find(|(service, _)| *service == row.service);
        let colour = colour.unwrap_or_else(|| panic!("{} has no colour", row.service)).1;
        let edge = if row.is_error { format!(" stroke=\"{RED}\" stroke-width=\"2\"") } else { String::new() };
        let (indent, baseline) = (MARGIN + 12.0 * row.depth as f64, y + 11.0);
        let _ = writeln!(
            svg,
            "<text x=\"{indent}\" y=\"{baseline}\" {}/text>\
             <rect x=\"{x:.1}\" y=\"{y}\" width=\"{length:.1}\" height=\"14\" rx=\"2\" fill=\"{colour}\"{edge}/>",
            row.caption()
        );
    }
    svg + "</svg>\n"
}
