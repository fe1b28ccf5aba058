//! The inventory as a person reads it.

use std::fmt::Write as _;

use foreplan_core::tool::{Effect, Inventory, ToolDescriptor};
use foreplan_tools::declare::Listing;
use serde_json::Value;

use super::{Cell, Look, table};
use crate::cli::paint::{Tone, clean, count, cut};

/// Returns all tools: name, effect, input and output, who serves it, digest.
#[must_use]
pub fn inventory(look: &Look, inventory: &Inventory) -> String {
    let mut rows = vec![
        ["TOOL", "EFFECT", "INPUT → OUTPUT", "SERVED BY", "DIGEST"]
            .map(|title| Cell::toned(look.paint, Tone::Dim, title))
            .to_vec(),
    ];
    for tool in inventory.tools() {
        let served: Vec<&str> = tool.capabilities.iter().map(|c| c.as_str()).collect();
        let served = if served.is_empty() { "nobody".to_owned() } else { served.join(", ") };
        rows.push(vec![
            Cell::toned(look.paint, Tone::Strong, tool.name.as_str()),
            Cell::painted(look.paint.effect(tool.effect), 14),
            Cell::new(&cut(&signature(tool), 60)),
            Cell::new(&served),
            Cell::toned(look.paint, Tone::Dim, &format!("sha256:{}", tool.digest.short())),
        ]);
    }
    let mut text = table(&rows);
    let _ = writeln!(text, "\n{}", count(rows.len() - 1, "tool"));
    text
}

/// Returns what to paste into the project file: the effect of every tool of every MCP server, as the
/// server hints at it. The hints are marked as such; what has none is irreversible.
#[must_use]
pub fn suggestion(servers: &[Listing]) -> String {
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "# {}: hints of the server, which nobody has checked", clean(&server.server));
        let _ = writeln!(text, "[tools.mcp.effects]");
        let width = server.tools.iter().map(|tool| toml_key(&tool.name).len()).max().unwrap_or_default();
        for tool in &server.tools {
            let effect = tool.hint.unwrap_or(Effect::Irreversible);
            let note = match (tool.is_declared, tool.hint) {
                (true, _) => "  # declared already",
                (false, Some(_)) => "  # hint",
                (false, None) => "  # no hint",
            };
            let _ = writeln!(text, "{:width$} = \"{}\"{note}", toml_key(&tool.name), effect.as_str());
        }
        text.push('\n');
    }
    text
}

/// Returns a key of a TOML table, quoted where it must be.
fn toml_key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if is_bare { name.to_owned() } else { toml::Value::from(name).to_string() }
}

/// Returns one tool with everything that planners and people know of it.
#[must_use]
pub fn one(look: &Look, tool: &ToolDescriptor) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", look.paint.paint(Tone::Strong, &clean(tool.name.as_str())));
    if !tool.description.is_empty() {
        let _ = writeln!(text, "{}", clean(&tool.description));
    }
    text.push('\n');
    let served: Vec<&str> = tool.capabilities.iter().map(|c| c.as_str()).collect();
    let mut rows = vec![
        vec![Cell::new("effect"), Cell::painted(look.paint.effect(tool.effect), 14)],
        vec![Cell::new("served by"), Cell::new(&served.join(", "))],
        vec![Cell::new("cost"), Cell::new(&tool.cost.to_string())],
        vec![Cell::new("digest"), Cell::new(&tool.digest.to_string())],
    ];
    if !tool.writes.is_empty() {
        rows.push(vec![Cell::new("writes"), Cell::new(&tool.writes.join(", "))]);
    }
    if let Some(verify) = &tool.verify {
        rows.push(vec![Cell::new("verified by"), Cell::new(verify.as_str())]);
    }
    text.push_str(&table(&rows));
    let _ = writeln!(text, "\ninput\n{}", super::indent(&super::value(&tool.input), "  "));
    let _ = write!(text, "output\n{}", super::indent(&super::value(&tool.output), "  "));
    text
}

fn signature(tool: &ToolDescriptor) -> String {
    format!("{} → {}", fields(&tool.input), fields(&tool.output))
}

/// Returns the fields of an object schema, `?` behind those that may be absent.
fn fields(schema: &Value) -> String {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        let kind = schema.get("type").and_then(Value::as_str).unwrap_or("any");
        return if kind == "object" { "()".to_owned() } else { kind.to_owned() };
    };
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|r| r == name));
    let names: Vec<String> = properties
        .keys()
        .map(|name| if is_required(name) { name.clone() } else { format!("{name}?") })
        .collect();
    format!("({})", names.join(", "))
}
