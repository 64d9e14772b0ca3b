//! Rows for people: a table whose texts cannot do anything to a terminal.

use std::fmt::Write as _;

use arrow::{
    array::RecordBatch,
    error::ArrowError,
    util::display::{ArrayFormatter, FormatOptions},
};
use sensor_proto::text::is_harmful;

/// Widest column in characters; what is longer is cut.
const WIDTH_MAX: usize = 80;

/// The rows as a table with a line for the names of columns.
///
/// # Errors
/// If a value cannot be shown, in Arrow's words.
pub fn table(batches: &[RecordBatch]) -> Result<String, ArrowError> {
    let Some(first) = batches.first() else {
        return Ok(String::new());
    };
    let schema = first.schema();
    let mut lines = vec![
        schema
            .fields()
            .iter()
            .map(|field| shown(field.name()))
            .collect::<Vec<_>>(),
    ];
    let options = FormatOptions::default();
    for batch in batches {
        let columns = batch.columns().iter();
        let columns: Vec<_> = columns
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            lines.push(
                columns
                    .iter()
                    .map(|column| shown(&column.value(row).to_string()))
                    .collect(),
            );
        }
    }
    Ok(aligned(&lines))
}

/// Lines of cells, aligned, without what could do anything to a terminal.
#[must_use]
pub fn columns(lines: &[Vec<String>]) -> String {
    let lines: Vec<Vec<String>> = lines
        .iter()
        .map(|line| line.iter().map(|cell| shown(cell)).collect())
        .collect();
    aligned(&lines)
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let before = text.len();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        text.truncate(before + text[before..].trim_end().len());
        text.push('\n');
    }
    text
}

/// On one line, harmless, and not too long.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == WIDTH_MAX {
            shown.push('…');
            break;
        }
        if is_harmful(character) {
            let _ = write!(shown, "{}", character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray, UInt64Array};

    use super::*;

    #[test]
    fn a_table_is_aligned_and_harmless() {
        let names: ArrayRef = Arc::new(StringArray::from(vec![
            Some("/bin/sh"),
            Some("a\u{1b}[2Jb"),
            None,
        ]));
        let counts: ArrayRef = Arc::new(UInt64Array::from(vec![1, 20, 300]));
        let rows = RecordBatch::try_from_iter([("executable", names), ("count", counts)]).expect("rows");
        insta::assert_snapshot!(table(&[rows]).expect("shows"), @r"
        executable   count
        /bin/sh      1
        a\u{1b}[2Jb  20
                     300
        ");
    }
}
