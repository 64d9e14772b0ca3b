//! Expressions of consumers, in the Common Expression Language. Their variables are the columns of the lake, so that one vocabulary serves
//! queries and subscriptions.
//!
//! Bounded by what is let in: a text of limited length and depth, without macros that go through lists, without functions that
//! take long. Evaluating is then linear in the expression and the texts of the entry.

use std::borrow::Cow;

use cel::{
    Context, Program, Value,
    common::ast::Expr,
};
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
#[derive(Debug)]
pub struct Expression {
    program: Program,
    variables: Vec<Variable>,
    context: Context<'static>,
}

#[derive(Clone, Copy, Debug)]
enum Variable {
    Column(&'static Column),
    Class,
}
