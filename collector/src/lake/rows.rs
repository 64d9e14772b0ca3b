//! Rows made of entries: for files of the lake, and for questions about what is not in the lake yet.
//!
//! A process is looked at once, however many entries are about it: columns of processes are made of the distinct ones and then
//! taken by index, which copies 16 bytes for a text of any length.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BinaryViewBuilder, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder,
        RecordBatch, RecordBatchOptions, StringBuilder, StringViewBuilder, TimestampNanosecondBuilder,
        UInt32Array, UInt32Builder, UInt64Builder,
    },
    compute::take,
    datatypes::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use prost::{DecodeError, Message as _};
use sensor_proto::v1::{Batch, Entry, Process, entry};

use super::{
    Cell, Class, Column, Day, Kind, Row,
    column::Source,
    entry::take_process,
    table::{COLUMNS, TEXT_BYTES_MAX},
};
use crate::store::{Position, StoredBatch};

/// A column of a table of rows.
#[derive(Clone, Copy, Debug)]
pub enum Field {
    /// One that files have.
    Column(&'static Column),
    /// The class, which is in the path of a file.
    Class,
    /// The day of arrival, which is in the path of a file.
    Day,
}

impl Field {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Column(column) => column.name,
            Self::Class => "class",
            Self::Day => "day",
        }
    }

    fn arrow(self) -> ArrowField {
        let kind = match self {
            Self::Column(column) => arrow_type(column.kind),
            Self::Class => DataType::Utf8,
            Self::Day => DataType::Date32,
        };
        ArrowField::new(self.name(), kind, !matches!(self, Self::Class | Self::Day))
    }
}

/// The columns of files of `class`.
#[must_use]
pub fn file_fields(class: Class) -> Vec<Field> {
    let columns = COLUMNS.iter().filter(|column| column.is_in(class));
    columns.map(Field::Column).collect()
}

/// The columns of the table `events`: those of all files, then class and day.
#[must_use]
pub fn all_fields() -> Vec<Field> {
    let columns = COLUMNS.iter().map(Field::Column);
    columns.chain([Field::Class, Field::Day]).collect()
}

/// Their names and types.
#[must_use]
pub fn schema(fields: &[Field]) -> SchemaRef {
    let fields: Vec<_> = fields.iter().map(|field| field.arrow()).collect();
    Arc::new(Schema::new(fields))
}

fn arrow_type(kind: Kind) -> DataType {
    match kind {
        Kind::Text => DataType::Utf8View,
        Kind::Number => DataType::UInt32,
        Kind::Long => DataType::UInt64,
        Kind::Signed => DataType::Int64,
        Kind::Real => DataType::Float64,
        Kind::Flag => DataType::Boolean,
        Kind::Time => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        Kind::Bytes => DataType::BinaryView,
    }
}

/// How entries are spread over tables.
#[derive(Clone, Debug)]
pub enum Layout {
    /// One for each class, as files have them.
    ByClass,
    /// One for all, with these columns.
    Together(Vec<Field>),
}

/// Tables in the making.
#[derive(Debug)]
pub struct Builder {
    layout: Layout,
    parts: Vec<Part>,
    processes: Processes,
    hosts: Vec<String>,
    rows: usize,
}

/// A table that is made.
#[derive(Debug)]
pub struct Table {
    /// Of what its entries are; of anything, where they are together.
    pub class: Option<Class>,
    /// It.
    pub rows: RecordBatch,
}

#[derive(Debug)]
struct Part {
    class: Option<Class>,
    fields: Vec<(Field, Values)>,
    processes: Vec<Option<u32>>,
    /// Host, by its number, and time of each row.
    order: Vec<(u32, u64)>,
}

/// The distinct processes of the rows.
#[derive(Debug, Default)]
struct Processes {
    known: HashMap<Vec<u8>, u32>,
    all: Vec<Process>,
}

impl Builder {
    /// Without rows.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        let mut builder = Self {
            layout,
            parts: Vec::new(),
            processes: Processes::default(),
            hosts: Vec::new(),
            rows: 0,
        };
        if let Layout::Together(fields) = &builder.layout {
            builder.parts.push(Part::new(None, fields.clone()));
        }
        builder
    }

    /// Rows so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a row for each entry of a batch at or after `from`.
    ///
    /// # Errors
    /// If the batch cannot be read. Then none of it is added.
    pub fn push(&mut self, stored: &StoredBatch, from: Position) -> Result<(), DecodeError> {
        let batch = Batch::decode(&*stored.body)?;
        let host = self.host(&stored.host);
        let known: Vec<u32> = batch
            .processes
            .into_iter()
            .map(|process| self.processes.number(process))
            .collect();
        for (position, entry) in (stored.position.0..).zip(batch.entries) {
            if position >= from.0 {
                self.push_entry(Position(position), host, stored, entry, &known);
            }
        }
        Ok(())
    }

    fn push_entry(
        &mut self,
        position: Position,
        host: u32,
        stored: &StoredBatch,
        mut entry: Entry,
        known: &[u32],
    ) {
        entry.host.clear();
        let process = self.process_of(&mut entry, known);
        let row = Row::new(&stored.host, &entry);
        let class = row.class();
        let part = self.part(class);
        let part = &mut self.parts[part];
        part.processes.push(process);
        part.order.push((host, row.time_ns()));
        for (field, values) in &mut part.fields {
            match field {
                Field::Class => values.push_text(class.name()),
                Field::Day => values.push_day(stored.day()),
                Field::Column(column) => match column.source {
                    Source::Process(_) | Source::EncodedProcess => {}
                    Source::Entry(get) => values.push(get(&row)),
                    Source::Position => values.push(Cell::Number(position.0)),
                    Source::Encoded => values.push_bytes(&entry.encode_to_vec()),
                },
            }
        }
        self.rows += 1;
    }

    /// The number of the process that an entry is about. Afterwards an event refers to process 1, if to any.
    fn process_of(&mut self, entry: &mut Entry, known: &[u32]) -> Option<u32> {
        if let Some(process) = take_process(entry) {
            return Some(self.processes.number(process));
        }
        let inner = match &mut entry.body {
            Some(entry::Body::Event(event)) => {
                let index = (event.process_ref as usize).checked_sub(1)?;
                event.process_ref = 1;
                return known.get(index).copied();
            }
            Some(entry::Body::Signal(signal)) => {
                signal.event.as_ref().and_then(|event| event.process.as_ref())
            }
            Some(entry::Body::Incident(incident)) => incident.process.as_ref(),
            _ => None,
        };
        inner.map(|process| self.processes.number(process.clone()))
    }

    fn host(&mut self, name: &str) -> u32 {
        let found = self.hosts.iter().rposition(|host| host == name);
        let number = found.unwrap_or_else(|| {
            self.hosts.push(name.to_owned());
            self.hosts.len() - 1
        });
        number as u32
    }

    fn part(&mut self, class: Class) -> usize {
        if matches!(self.layout, Layout::Together(_)) {
            return 0;
        }
        let found = self.parts.iter().position(|part| part.class == Some(class));
        found.unwrap_or_else(|| {
            self.parts.push(Part::new(Some(class), file_fields(class)));
            self.parts.len() - 1
        })
    }

    /// The tables. Those by class are sorted by host and time.
    ///
    /// # Errors
    /// If there is no memory for a column, in Arrow's words.
    pub fn finish(self) -> Result<Vec<Table>, ArrowError> {
        let ranks = matches!(self.layout, Layout::ByClass).then(|| ranks(&self.hosts));
        let processes = &self.processes;
        self.parts
            .into_iter()
            .map(|part| part.finish(processes, ranks.as_deref()))
            .collect()
    }
}

/// For each host its place in the order of names.
fn ranks(hosts: &[String]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..hosts.len() as u32).collect();
    order.sort_unstable_by_key(|host| &hosts[*host as usize]);
    let mut ranks = vec![0; hosts.len()];
    for (rank, host) in order.into_iter().enumerate() {
        ranks[host as usize] = rank as u32;
    }
    ranks
}

impl Part {
    fn new(class: Option<Class>, fields: Vec<Field>) -> Self {
        let fields = fields
            .into_iter()
            .map(|field| (field, Values::new(field)))
            .collect();
        Self {
            class,
            fields,
            processes: Vec::new(),
            order: Vec::new(),
        }
    }

    fn finish(self, processes: &Processes, ranks: Option<&[u32]>) -> Result<Table, ArrowError> {
        let order = ranks.map(|ranks| sorted(&self.order, ranks));
        let keys = match &order {
            Some(order) => order
                .values()
                .iter()
                .map(|row| self.processes[*row as usize])
                .collect::<UInt32Array>(),
            None => UInt32Array::from(self.processes),
        };
        let fields: Vec<Field> = self.fields.iter().map(|(field, _)| *field).collect();
        let mut columns = Vec::with_capacity(self.fields.len());
        for (field, values) in self.fields {
            let of_process = match field {
                Field::Column(column) => processes.column(column),
                _ => None,
            };
            columns.push(match (of_process, &order) {
                (Some(distinct), _) => take(&distinct, &keys, None)?,
                (None, Some(order)) => take(&values.finish(), order, None)?,
                (None, None) => values.finish(),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(keys.len()));
        let rows = RecordBatch::try_new_with_options(schema(&fields), columns, &options)?;
        Ok(Table {
            class: self.class,
            rows,
        })
    }
}

/// The rows by host and time, and otherwise as they came.
fn sorted(rows: &[(u32, u64)], ranks: &[u32]) -> UInt32Array {
    let mut order: Vec<u32> = (0..rows.len() as u32).collect();
    order.sort_by_key(|row| {
        let (host, time) = rows[*row as usize];
        (ranks[host as usize], time)
    });
    UInt32Array::from(order)
}

impl Processes {
    fn number(&mut self, process: Process) -> u32 {
        let Self { known, all } = self;
        *known.entry(process.encode_to_vec()).or_insert_with(|| {
            all.push(process);
            (all.len() - 1) as u32
        })
    }

    /// The values of a column of processes, one for each; nothing for other columns.
    fn column(&self, column: &'static Column) -> Option<ArrayRef> {
        let mut values = Values::new(Field::Column(column));
        match column.source {
            Source::Process(get) => self.all.iter().for_each(|process| values.push(get(process))),
            Source::EncodedProcess => self
                .all
                .iter()
                .for_each(|process| values.push_bytes(&process.encode_to_vec())),
            Source::Entry(_) | Source::Position | Source::Encoded => return None,
        }
        Some(values.finish())
    }
}

/// Values of one column. What is not of its type becomes null: a test looks for that, nothing else does.
#[derive(Debug)]
enum Values {
    Text(StringViewBuilder),
    Plain(StringBuilder),
    Number(UInt32Builder),
    Long(UInt64Builder),
    Signed(Int64Builder),
    Real(Float64Builder),
    Flag(BooleanBuilder),
    Time(TimestampNanosecondBuilder),
    Bytes(BinaryViewBuilder),
    Day(Date32Builder),
}

impl Values {
    fn new(field: Field) -> Self {
        let column = match field {
            Field::Column(column) => column,
            Field::Class => return Self::Plain(StringBuilder::new()),
            Field::Day => return Self::Day(Date32Builder::new()),
        };
        match column.kind {
            Kind::Text => Self::Text(StringViewBuilder::new()),
            Kind::Number => Self::Number(UInt32Builder::new()),
            Kind::Long => Self::Long(UInt64Builder::new()),
            Kind::Signed => Self::Signed(Int64Builder::new()),
            Kind::Real => Self::Real(Float64Builder::new()),
            Kind::Flag => Self::Flag(BooleanBuilder::new()),
            Kind::Time => Self::Time(TimestampNanosecondBuilder::new().with_timezone("UTC")),
            Kind::Bytes => Self::Bytes(BinaryViewBuilder::new()),
        }
    }

    fn push(&mut self, cell: Cell<'_>) {
        match self {
            Self::Text(values) => values.append_option(match &cell {
                Cell::Text(text) => Some(cut(text)),
                _ => None,
            }),
            Self::Number(values) => {
                values.append_option(number(&cell).and_then(|number| u32::try_from(number).ok()))
            }
            Self::Long(values) => values.append_option(number(&cell)),
            Self::Time(values) => {
                values.append_option(number(&cell).and_then(|number| i64::try_from(number).ok()))
            }
            Self::Signed(values) => values.append_option(match cell {
                Cell::Signed(number) => Some(number),
                _ => None,
            }),
            Self::Real(values) => values.append_option(match cell {
                Cell::Real(number) => Some(number),
                _ => None,
            }),
            Self::Flag(values) => values.append_option(match cell {
                Cell::Flag(flag) => Some(flag),
                _ => None,
            }),
            Self::Bytes(values) => values.append_null(),
            Self::Plain(values) => values.append_null(),
            Self::Day(values) => values.append_null(),
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        if let Self::Bytes(values) = self {
            values.append_value(bytes);
        }
    }

    fn push_text(&mut self, text: &str) {
        if let Self::Plain(values) = self {
            values.append_value(text);
        }
    }

    fn push_day(&mut self, day: Day) {
        if let Self::Day(values) = self {
            values.append_value(day.0);
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut values) => Arc::new(values.finish()),
            Self::Plain(mut values) => Arc::new(values.finish()),
            Self::Number(mut values) => Arc::new(values.finish()),
            Self::Long(mut values) => Arc::new(values.finish()),
            Self::Signed(mut values) => Arc::new(values.finish()),
            Self::Real(mut values) => Arc::new(values.finish()),
            Self::Flag(mut values) => Arc::new(values.finish()),
            Self::Time(mut values) => Arc::new(values.finish()),
            Self::Bytes(mut values) => Arc::new(values.finish()),
            Self::Day(mut values) => Arc::new(values.finish()),
        }
    }
}

fn number(cell: &Cell<'_>) -> Option<u64> {
    match cell {
        Cell::Number(number) => Some(*number),
        _ => None,
    }
}

/// At most [`TEXT_BYTES_MAX`] of a text, whole characters.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
