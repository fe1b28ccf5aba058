//! What a CEL expression names, read off its syntax tree.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::path::{Path, Segment};

/// The types of CEL, which an expression may name bare: `type(x) == int`.
const TYPE_NAMES: [&str; 10] =
    ["bool", "bytes", "double", "dyn", "int", "list", "map", "null_type", "string", "uint"];

/// What an expression names.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Every variable with the way into it, as far as that is written with constants.
    pub paths: Vec<Path>,
    /// The places that `has` asks for.
    pub tested: Vec<Path>,
    /// Every function and method that is called.
    pub functions: Vec<String>,
    /// Whether a comprehension runs inside another's loop.
    pub nested: bool,
}

/// Returns what an expression names.
pub(super) fn names(expr: &IdedExpr) -> Names {
    let mut walk = Walk { out: Names::default(), bound: Vec::new(), loops: 0 };
    walk.expr(expr);
    walk.out
}

struct Walk<'e> {
    out: Names,
    bound: Vec<&'e str>,
    loops: usize,
}

impl<'e> Walk<'e> {
    fn expr(&mut self, expr: &'e IdedExpr) {
        if let Some(path) = static_path(expr) {
            if matches!(&expr.expr, Expr::Select(select) if select.test) {
                self.out.tested.push(path.clone());
            }
            return self.path(path);
        }
        match &expr.expr {
            Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
            Expr::Call(call) => {
                self.function(&call.func_name);
                for inner in call.target.as_deref().into_iter().chain(&call.args) {
                    self.expr(inner);
                }
            }
            Expr::Select(select) => self.expr(&select.operand),
            Expr::List(list) => list.elements.iter().for_each(|e| self.expr(e)),
            Expr::Map(map) => map.entries.iter().for_each(|e| self.entry(&e.expr)),
            Expr::Struct(fields) => fields.entries.iter().for_each(|e| self.entry(&e.expr)),
            Expr::Comprehension(comp) => {
                self.expr(&comp.iter_range);
                self.expr(&comp.accu_init);
                self.out.nested |= self.loops > 0;
                self.loops += 1;
                let outer = self.bound.len();
                self.bound.extend([comp.iter_var.as_str(), comp.accu_var.as_str()]);
                self.bound.extend(comp.iter_var2.as_deref());
                self.expr(&comp.loop_cond);
                self.expr(&comp.loop_step);
                self.expr(&comp.result);
                self.bound.truncate(outer);
                self.loops -= 1;
            }
        }
    }

    fn entry(&mut self, entry: &'e EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => self.expr(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.expr(&entry.key);
                self.expr(&entry.value);
            }
        }
    }

    fn path(&mut self, path: Path) {
        let bare_type = path.segments.is_empty() && TYPE_NAMES.contains(&path.root.as_str());
        let local = path.root.starts_with('@') || self.bound.contains(&path.root.as_str());
        if !bare_type && !local && !self.out.paths.contains(&path) {
            self.out.paths.push(path);
        }
    }

    fn function(&mut self, name: &str) {
        let operator = name.starts_with('@') || !name.contains(|c: char| c.is_ascii_alphanumeric());
        if !operator && !self.out.functions.iter().any(|f| f == name) {
            self.out.functions.push(name.to_owned());
        }
    }
}

/// Returns the place that an expression names with constants only: `a.b["c"][0]`.
fn static_path(expr: &IdedExpr) -> Option<Path> {
    match &expr.expr {
        Expr::Ident(name) => {
            Some(Path { root: name.trim_start_matches('.').to_owned(), segments: Vec::new() })
        }
        Expr::Select(select) => {
            let mut path = static_path(&select.operand)?;
            path.segments.push(Segment::Field(select.field.clone()));
            Some(path)
        }
        Expr::Call(call) if call.func_name == operators::INDEX && call.target.is_none() => {
            let [operand, index] = call.args.as_slice() else { return None };
            let segment = match &index.expr {
                Expr::Literal(LiteralValue::String(key)) => Segment::Field(key.inner().to_owned()),
                Expr::Literal(LiteralValue::Int(at)) => Segment::Index(usize::try_from(*at.inner()).ok()?),
                _ => return None,
            };
            let mut path = static_path(operand)?;
            path.segments.push(segment);
            Some(path)
        }
        _ => None,
    }
}
