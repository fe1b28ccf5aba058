//! What a template names, read off its syntax tree. The engine's own analysis stops at subscripts
//! and slices, and a step's id may need one: `steps["my-step"]`.

use minijinja::machinery::{
    self,
    ast::{CallArg, Expr, Stmt},
};

use super::{
    path::{Path, Segment},
    template::TemplateError,
};

/// What the engine brings along under a name.
#[derive(Clone, Copy)]
pub(super) enum Builtin {
    Function,
    Filter,
    Test,
}

/// Returns the places that a template looks at; `knows` says what the engine brings along.
pub(super) fn names(source: &str, knows: impl Fn(Builtin, &str) -> bool) -> Result<Vec<Path>, TemplateError> {
    let tree = machinery::parse(source, "template", minijinja::syntax::SyntaxConfig::default())?;
    let mut walk = Walk { out: Vec::new(), scopes: vec![Vec::new()], problem: None, knows: &knows };
    walk.stmt(&tree);
    match walk.problem {
        None => Ok(walk.out),
        Some(reason) => Err(TemplateError { line: None, reason }),
    }
}

struct Walk<'a, 'g> {
    out: Vec<Path>,
    scopes: Vec<Vec<&'a str>>,
    problem: Option<String>,
    knows: &'g dyn Fn(Builtin, &str) -> bool,
}

impl<'a> Walk<'a, '_> {
    fn stmt(&mut self, stmt: &'a Stmt<'a>) {
        match stmt {
            Stmt::Template(s) => self.stmts(&s.children),
            Stmt::EmitExpr(s) => self.expr(&s.expr),
            Stmt::EmitRaw(_) => {}
            Stmt::ForLoop(s) => {
                self.expr(&s.iter);
                self.scoped(|walk| {
                    walk.bind("loop");
                    walk.target(&s.target);
                    walk.maybe(s.filter_expr.as_ref());
                    walk.stmts(&s.body);
                });
                self.scoped(|walk| walk.stmts(&s.else_body));
            }
            Stmt::IfCond(s) => {
                // The engine gives a branch no scope of its own.
                self.expr(&s.expr);
                self.stmts(&s.true_body);
                self.stmts(&s.false_body);
            }
            Stmt::WithBlock(s) => self.scoped(|walk| {
                for (target, value) in &s.assignments {
                    walk.expr(value);
                    walk.target(target);
                }
                walk.stmts(&s.body);
            }),
            Stmt::Set(s) => {
                self.expr(&s.expr);
                self.target(&s.target);
            }
            Stmt::SetBlock(s) => {
                self.maybe(s.filter.as_ref());
                self.scoped(|walk| walk.stmts(&s.body));
                self.target(&s.target);
            }
            Stmt::AutoEscape(s) => {
                self.expr(&s.enabled);
                self.scoped(|walk| walk.stmts(&s.body));
            }
            Stmt::FilterBlock(s) => {
                self.expr(&s.filter);
                self.scoped(|walk| walk.stmts(&s.body));
            }
            Stmt::Macro(s) => {
                self.bind(s.name);
                self.function(&s.args, &s.defaults, &s.body);
            }
            Stmt::CallBlock(s) => {
                self.call(&s.call.expr, &s.call.args);
                self.function(&s.macro_decl.args, &s.macro_decl.defaults, &s.macro_decl.body);
            }
            Stmt::Do(s) => self.call(&s.call.expr, &s.call.args),
            Stmt::Block(_) | Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_) => {
                self.refuse("blocks, imports, includes and extends need other templates, and there are none");
            }
        }
    }

    fn stmts(&mut self, stmts: &'a [Stmt<'a>]) {
        stmts.iter().for_each(|stmt| self.stmt(stmt));
    }

    fn function(&mut self, args: &'a [Expr<'a>], defaults: &'a [Expr<'a>], body: &'a [Stmt<'a>]) {
        defaults.iter().for_each(|default| self.expr(default));
        self.scoped(|walk| {
            walk.bind("caller");
            args.iter().for_each(|arg| walk.target(arg));
            walk.stmts(body);
        });
    }

    fn expr(&mut self, expr: &'a Expr<'a>) {
        if let Some(path) = static_path(expr) {
            return self.place(path);
        }
        match expr {
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(e) => {
                self.expr(&e.expr);
                [&e.start, &e.stop, &e.step].into_iter().for_each(|part| self.maybe(part.as_ref()));
            }
            Expr::UnaryOp(e) => self.expr(&e.expr),
            Expr::BinOp(e) => {
                self.expr(&e.left);
                self.expr(&e.right);
            }
            Expr::Compare(e) => {
                self.expr(&e.expr);
                e.ops.iter().for_each(|op| self.expr(&op.expr));
            }
            Expr::IfExpr(e) => {
                self.expr(&e.test_expr);
                self.expr(&e.true_expr);
                self.maybe(e.false_expr.as_ref());
            }
            Expr::Filter(e) => {
                if !(self.knows)(Builtin::Filter, e.name) {
                    self.refuse(&format!("there is no filter `{}`", e.name));
                }
                self.maybe(e.expr.as_ref());
                self.args(&e.args);
            }
            Expr::Test(e) => {
                if !(self.knows)(Builtin::Test, e.name) {
                    self.refuse(&format!("there is no test `{}`", e.name));
                }
                self.expr(&e.expr);
                self.args(&e.args);
            }
            Expr::GetAttr(e) => self.expr(&e.expr),
            Expr::GetItem(e) => {
                self.expr(&e.expr);
                self.expr(&e.subscript_expr);
            }
            Expr::Call(e) => self.call(&e.expr, &e.args),
            Expr::List(e) => e.items.iter().for_each(|item| self.expr(item)),
            Expr::Tuple(e) => e.items.iter().for_each(|item| self.expr(item)),
            Expr::Map(e) => e.keys.iter().chain(&e.values).for_each(|part| self.expr(part)),
        }
    }

    fn call(&mut self, callee: &'a Expr<'a>, args: &'a [CallArg<'a>]) {
        match callee {
            Expr::Var(var) if (self.knows)(Builtin::Function, var.id) => {}
            // A method: the value is used as a whole.
            Expr::GetAttr(method) => self.expr(&method.expr),
            other => self.expr(other),
        }
        self.args(args);
    }

    fn args(&mut self, args: &'a [CallArg<'a>]) {
        for arg in args {
            match arg {
                CallArg::Pos(e) | CallArg::Kwarg(_, e) | CallArg::PosSplat(e) | CallArg::KwargSplat(e) => {
                    self.expr(e);
                }
            }
        }
    }

    fn maybe(&mut self, expr: Option<&'a Expr<'a>>) {
        expr.into_iter().for_each(|e| self.expr(e));
    }

    fn target(&mut self, target: &'a Expr<'a>) {
        match target {
            Expr::Var(var) => self.bind(var.id),
            Expr::List(list) => list.items.iter().for_each(|item| self.target(item)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.target(item)),
            other => self.expr(other),
        }
    }

    fn bind(&mut self, name: &'a str) {
        self.scopes.last_mut().into_iter().for_each(|scope| scope.push(name));
    }

    fn scoped(&mut self, inside: impl FnOnce(&mut Self)) {
        self.scopes.push(Vec::new());
        inside(self);
        self.scopes.pop();
    }

    fn place(&mut self, mut path: Path) {
        if self.scopes.iter().flatten().any(|name| *name == path.root) {
            return;
        }
        if path.root == "steps" {
            if !matches!(path.segments.first(), Some(Segment::Field(_))) {
                return self
                    .refuse("`steps` needs the name of one step: `steps.load` or `steps[\"my-step\"]`");
            }
            if let Segment::Field(step) = path.segments.remove(0) {
                path.root = step;
            }
        }
        if !self.out.contains(&path) {
            self.out.push(path);
        }
    }

    fn refuse(&mut self, reason: &str) {
        self.problem.get_or_insert_with(|| reason.to_owned());
    }
}

/// Returns the place that an expression names with constants only: `a.b["c"][0]`.
fn static_path(expr: &Expr<'_>) -> Option<Path> {
    match expr {
        Expr::Var(var) => Some(Path { root: var.id.to_owned(), segments: Vec::new() }),
        Expr::GetAttr(e) => {
            let mut path = static_path(&e.expr)?;
            path.segments.push(Segment::Field(e.name.to_owned()));
            Some(path)
        }
        Expr::GetItem(e) => {
            let Expr::Const(key) = &e.subscript_expr else { return None };
            let segment = match key.value.as_str() {
                Some(name) => Segment::Field(name.to_owned()),
                None => Segment::Index(key.value.as_usize()?),
            };
            let mut path = static_path(&e.expr)?;
            path.segments.push(segment);
            Some(path)
        }
        _ => None,
    }
}
