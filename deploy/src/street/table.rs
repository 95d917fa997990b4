//! Rows and cells of a CSV file, and what is said about a wrong one.

use std::io;

use csv::{ReaderBuilder, StringRecord, Trim};
use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const TIME: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");

/// Why a file does not describe a street.
#[derive(Debug, thiserror::Error)]
pub enum StreetError {
    /// The file cannot be read, or is not UTF-8.
    #[error("{file} cannot be read: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The first line does not name the columns.
    #[error("{file}, line 1: the columns are \"{found}\", expected \"{expected}\"")]
    Header {
        /// The file.
        file: String,
        /// Its first line.
        found: String,
        /// What it must be.
        expected: String,
    },
    /// A row has too few or too many cells, or is no CSV.
    #[error("{file}, line {line}: {found}, expected the {expected} cells of the first line")]
    Shape {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: u64,
        /// What was found.
        found: String,
        /// How many cells there must be.
        expected: usize,
    },
    /// A cell holds what it must not.
    #[error("{file}, line {line}, {column} \"{value}\": expected {expected}")]
    Cell {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: u64,
        /// The column's name.
        column: &'static str,
        /// What the cell holds.
        value: String,
        /// What it must hold.
        expected: String,
    },
    /// The base load has no step if it has no second row.
    #[error("{file} has {rows} rows: expected at least 2, since their distance is the step")]
    TooShort {
        /// The file.
        file: String,
        /// How many rows it has.
        rows: usize,
    },
}

/// One row, whose cells are named.
pub(super) struct Row<'a> {
    file: &'a str,
    columns: &'static [&'static str],
    record: StringRecord,
    line: u64,
}

/// Reads a whole table whose first line must name exactly these columns.
pub(super) fn rows<'a>(
    file: &'a str,
    text: &str,
    columns: &'static [&'static str],
) -> Result<Vec<Row<'a>>, StreetError> {
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).trim(Trim::All).from_reader(text.as_bytes());
    let mut rows = Vec::new();
    let mut headed = false;
    for record in reader.records() {
        let shape = |line, found| StreetError::Shape { file: file.to_owned(), line, found, expected: columns.len() };
        let record = record.map_err(|error| {
            shape(error.position().map_or(0, csv::Position::line), format!("no row of a table ({error})"))
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        if !headed {
            check_header(file, &record, columns)?;
            headed = true;
        } else if record.len() == columns.len() {
            rows.push(Row { file, columns, record, line });
        } else {
            return Err(shape(line, format!("{} cells", record.len())));
        }
    }
    if !headed {
        check_header(file, &StringRecord::new(), columns)?;
    }
    Ok(rows)
}

fn check_header(file: &str, found: &StringRecord, columns: &[&str]) -> Result<(), StreetError> {
    if found.iter().eq(columns.iter().copied()) {
        return Ok(());
    }
    let found = found.iter().collect::<Vec<_>>().join(",");
    Err(StreetError::Header { file: file.to_owned(), found, expected: columns.join(",") })
}

impl Row<'_> {
    pub(super) fn text(&self, column: &'static str) -> &str {
        let place = self.columns.iter().position(|name| *name == column);
        place.and_then(|place| self.record.get(place)).unwrap_or_default()
    }

    /// This row is refused because of that cell.
    pub(super) fn refuse(&self, column: &'static str, expected: impl Into<String>) -> StreetError {
        StreetError::Cell {
            file: self.file.to_owned(),
            line: self.line,
            column,
            value: self.text(column).to_owned(),
            expected: expected.into(),
        }
    }

    pub(super) fn time(&self, column: &'static str) -> Result<PrimitiveDateTime, StreetError> {
        PrimitiveDateTime::parse(self.text(column), TIME)
            .map_err(|_| self.refuse(column, "a local time such as 2016-10-07T14:15:00"))
    }

    /// A whole number of at least `least` and at most `most`.
    pub(super) fn number(&self, column: &'static str, least: u64, most: u64) -> Result<u64, StreetError> {
        let number = self.text(column).parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| self.refuse(column, format!("a whole number from {least} to {most}")))
    }
}

/// A time as the files write it.
pub(super) fn written(time: PrimitiveDateTime) -> String {
    time.format(TIME).unwrap_or_else(|_| time.to_string())
}
