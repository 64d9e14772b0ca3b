//! Expressions of consumers, in the Common Expression Language. Their variables are the columns of the lake, so that one vocabulary serves
//! queries and subscriptions.
//!
//! Bounded by what is let in: a text of limited length and depth, without macros that go through lists, without functions that
//! take long. Evaluating is then linear in the expression and the texts of the entry.

use std::borrow::Cow;

use cel::{Context, IdedExpr, Program, Value, common::ast::Expr};
use sensor_proto::v1::{Entry, Process, entry};

use crate::lake::{COLUMNS, Cell, Column, Row, Source, column};

/// Longest expression in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 1024;

/// Deepest nesting of brackets and choices: the parser and the interpreter call themselves for each.
const DEPTH_MAX: usize = 24;

/// Functions that may be called, operators aside.
const FUNCTIONS: [&str; 5] = ["contains", "startsWith", "endsWith", "size", "string"];

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// It is too long.
    #[error("the expression has {0} bytes, more than {EXPRESSION_BYTES_MAX}")]
    TooLong(usize),
    /// It is nested too deep.
    #[error("the expression is nested deeper than {DEPTH_MAX} at character {0}")]
    TooDeep(usize),
    /// It is no CEL.
    #[error("the expression cannot be read, line {line}, column {column}: {message}")]
    Syntax {
        /// From 1.
        line: isize,
        /// From 1.
        column: isize,
        /// What is wrong there.
        message: String,
    },
    /// It refers to what is not there.
    #[error("the expression refers to \"{name}\"; there are {}", names())]
    Unknown {
        /// What it refers to, escaped and cut.
        name: String,
    },
    /// It calls a function that may not be.
    #[error("the expression calls \"{name}\"; there are {}", FUNCTIONS.join(", "))]
    Function {
        /// The function, escaped and cut.
        name: String,
    },
    /// It goes through a list.
    #[error("the expression goes through a list (all, exists, map, filter), and no column is one")]
    Macro,
}

/// An expression that is true or not of an entry.
pub struct Expression {
    program: Program,
    variables: Vec<Variable>,
    context: Context<'static>,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expression")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug)]
enum Variable {
    Column(&'static Column),
    Class,
}

impl Expression {
    /// Reads an expression, and refuses what cannot be meant or would cost too much.
    ///
    /// # Errors
    /// With what is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(ExpressionError::TooLong(text.len()));
        }
        check_depth(text)?;
        let program = Program::compile(text).map_err(|errors| syntax(&errors))?;
        if has_macro(program.expression()) {
            return Err(ExpressionError::Macro);
        }
        let variables = variables(&program)?;
        check_functions(&program)?;
        Ok(Self {
            program,
            variables,
            context: Context::default(),
        })
    }

    /// Whether it is true of an entry. What cannot be worked out, such as a comparison of a text with what the entry does not have, is not. Losses
    /// pass always, as they pass filters: a reader must know what it did not get.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        if matches!(entry.body, Some(entry::Body::Loss(_))) {
            return true;
        }
        let row = Row::new(&entry.host, entry);
        let mut context = self.context.new_inner_scope();
        for variable in &self.variables {
            let (name, cell) = variable.of(&row);
            context.add_variable_from_value(name, value(cell));
        }
        matches!(self.program.execute(&context), Ok(Value::Bool(true)))
    }
}

impl Variable {
    fn of<'a>(self, row: &Row<'a>) -> (&'static str, Cell<'a>) {
        let column = match self {
            Self::Class => return ("class", Cell::Text(Cow::Borrowed(row.class().name()))),
            Self::Column(column) => column,
        };
        let cell = match column.source {
            Source::Entry(get) => get(row),
            Source::Process(get) => process(row).map_or(Cell::Null, get),
            Source::Position | Source::Encoded | Source::EncodedProcess => Cell::Null,
        };
        (column.name, cell)
    }
}

/// The process that an entry is about.
fn process<'a>(row: &Row<'a>) -> Option<&'a Process> {
    match &row.entry.body {
        Some(entry::Body::Incident(incident)) => incident.process.as_ref(),
        _ => row.event?.process.as_ref(),
    }
}

/// Numbers are integers with a sign, whatever the column: `uid == 0` is what people write.
fn value(cell: Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => Value::String(text.into_owned().into()),
        Cell::Number(number) => Value::Int(i64::try_from(number).unwrap_or(i64::MAX)),
        Cell::Signed(number) => Value::Int(number),
        Cell::Real(number) => Value::Float(number),
        Cell::Flag(flag) => Value::Bool(flag),
    }
}

/// Brackets that are open at once, and choices, outside of texts.
fn check_depth(text: &str) -> Result<(), ExpressionError> {
    let (mut depth, mut choices, mut quote) = (0_usize, 0_usize, None);
    let mut characters = text.chars().enumerate();
    while let Some((at, character)) = characters.next() {
        match (quote, character) {
            (Some(_), '\\') => _ = characters.next(),
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, '?' | '!' | '-') => choices += 1,
            (None, _) => {}
        }
        if depth + choices > DEPTH_MAX {
            return Err(ExpressionError::TooDeep(at + 1));
        }
    }
    Ok(())
}

fn syntax(errors: &cel::ParseErrors) -> ExpressionError {
    let first = errors.errors.first();
    let (line, column) = first.map_or((1, 1), |error| error.pos);
    ExpressionError::Syntax {
        line,
        column,
        message: first.map_or_else(String::new, |error| shown(&error.msg)),
    }
}

fn has_macro(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Comprehension(_) => true,
        Expr::Call(call) => call.target.as_deref().is_some_and(has_macro) || call.args.iter().any(has_macro),
        Expr::List(list) => list.elements.iter().any(has_macro),
        Expr::Select(select) => has_macro(&select.operand),
        // Maps and messages have no use here, and what is in them is not looked at.
        Expr::Map(_) | Expr::Struct(_) => true,
        _ => false,
    }
}

fn variables(program: &Program) -> Result<Vec<Variable>, ExpressionError> {
    let references = program.references();
    let mut names = references.variables();
    names.sort_unstable();
    let variable = |name: &str| match name {
        "class" => Ok(Variable::Class),
        name => match column(name).filter(|column| is_variable(column)) {
            Some(column) => Ok(Variable::Column(column)),
            None => Err(ExpressionError::Unknown { name: shown(name) }),
        },
    };
    names.into_iter().map(variable).collect()
}

fn check_functions(program: &Program) -> Result<(), ExpressionError> {
    let references = program.references();
    let mut names = references.functions();
    names.sort_unstable();
    let is_operator = |name: &str| !name.starts_with(|first: char| first.is_ascii_alphabetic());
    match names
        .into_iter()
        .find(|name| !is_operator(name) && !FUNCTIONS.contains(name))
    {
        Some(name) => Err(ExpressionError::Function { name: shown(name) }),
        None => Ok(()),
    }
}

fn is_variable(column: &Column) -> bool {
    matches!(column.source, Source::Entry(_) | Source::Process(_))
}

fn names() -> String {
    let columns = COLUMNS.iter().filter(|column| is_variable(column));
    let names: Vec<_> = columns.map(|column| column.name).chain(["class"]).collect();
    names.join(", ")
}

fn shown(text: &str) -> String {
    text.escape_debug().take(200).collect()
}

#[cfg(test)]
mod tests {
    use sensor_proto::v1::{Event, Exec, Loss, event};

    use super::*;

    fn exec() -> Entry {
        let process = Process {
            executable: "/tmp/x".into(),
            args: vec!["x".into(), "-v".into()],
            uid: 0,
            ..Process::default()
        };
        let event = Event {
            process: Some(process),
            body: Some(event::Body::Exec(Exec::default())),
            ..Event::default()
        };
        Entry {
            host: "web1".into(),
            body: Some(entry::Body::Event(event)),
        }
    }

    #[test]
    fn columns_are_variables() {
        for (text, expected) in [
            (r#"executable.startsWith("/tmp/")"#, true),
            (r#"executable.startsWith("/tmp/") && uid == 0"#, true),
            (r#"executable == "/tmp/x" && uid > 0"#, false),
            (
                r#"signal == "exec" && class == "process" && host == "web1""#,
                true,
            ),
            (r#"host in ["web1", "web2"]"#, true),
            (r#"arguments.contains(" -v")"#, true),
            ("login_uid == null", true),
            ("login_uid == 1000", false),
            (r#"remote_address == "192.0.2.1""#, false),
            ("size(executable) == 6", true),
            ("!(uid == 0)", false),
            ("1 + 1", false),
            ("uid / 0 == 1", false),
        ] {
            let expression = Expression::parse(text).expect(text);
            assert_eq!(expression.matches(&exec()), expected, "{text}");
        }
    }

    #[test]
    fn losses_pass() {
        let loss = Entry {
            body: Some(entry::Body::Loss(Loss::default())),
            ..Entry::default()
        };
        assert!(Expression::parse("false").expect("reads").matches(&loss));
    }

    #[test]
    fn what_cannot_be_meant_or_costs_too_much_is_refused_with_its_place() {
        let error = |text: &str| match Expression::parse(text) {
            Err(error) => {
                let text = error.to_string();
                text.split("; there are position")
                    .next()
                    .unwrap_or(&text)
                    .to_owned()
            }
            Ok(_) => panic!("{text} is taken"),
        };
        assert!(matches!(
            Expression::parse("uid == 0 &&& 1"),
            Err(ExpressionError::Syntax {
                line: 1,
                column: 9..=14,
                ..
            })
        ));
        assert!(error("pathh == \"x\"").starts_with("the expression refers to \"pathh\"; there are host,"));
        assert_eq!(
            error("path.matches(\"x\")"),
            "the expression calls \"matches\"; there are contains, startsWith, endsWith, size, string"
        );
        assert_eq!(
            Expression::parse("[1, 2].all(x, x > 0)").err(),
            Some(ExpressionError::Macro)
        );
        assert_eq!(
            Expression::parse("{\"a\": 1}.a == 1").err(),
            Some(ExpressionError::Macro)
        );
        assert_eq!(
            Expression::parse(&"(".repeat(500)).err(),
            Some(ExpressionError::TooDeep(25))
        );
        assert_eq!(
            Expression::parse(&"!".repeat(500)).err(),
            Some(ExpressionError::TooDeep(25))
        );
        assert_eq!(
            Expression::parse(&"a".repeat(1025)).err(),
            Some(ExpressionError::TooLong(1025))
        );
        let text = format!("\"{}\" == host", "(".repeat(100));
        assert!(Expression::parse(&text).is_ok(), "brackets in a text are none");
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in ".{0,200}") {
            if let Ok(expression) = Expression::parse(&text) {
                let _ = expression.matches(&exec());
            }
        }

        #[test]
        fn nothing_like_an_expression_panics(words in proptest::collection::vec("(uid|host|==|\\(|\\)|&&|!|-|\\?|:|\\[|\\]|1|\"x\"|\\.|,| |size|in|\\+|%|9223372036854775807)", 0..30)) {
            if let Ok(expression) = Expression::parse(&words.concat()) {
                let _ = expression.matches(&exec());
            }
        }
    }
}
