//! Files of the lake as a plan of DataFusion's, by the names that the list has.

use std::{path::Path, sync::Arc};

use arrow::datatypes::{DataType, Field as ArrowField, SchemaRef};
use datafusion::{
    catalog::memory::DataSourceExec,
    common::{Result, ScalarValue},
    config::TableParquetOptions,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource},
        table_schema::TableSchema,
    },
    execution::{object_store::ObjectStoreUrl, runtime_env::RuntimeEnv},
    object_store::{ObjectStore, local::LocalFileSystem},
    physical_expr::{LexOrdering, PhysicalExpr},
    physical_plan::ExecutionPlan,
};

use super::{
    COLUMNS, Class, Day,
    file::make_folder,
    rows::{Field, schema},
};
use crate::store::LakeFile;

/// By which the place of the lake is known to DataFusion. Nothing else is.
const URL: &str = "lake://local/";

/// What to read.
pub(crate) struct Scan {
    /// The files, in groups that are read one beside the other.
    pub(crate) groups: Vec<Vec<(LakeFile, Day)>>,
    /// Columns, by their place in [`all_fields`](super::rows::all_fields).
    pub(crate) projection: Option<Vec<usize>>,
    /// What rows must be like; some that are not may come all the same.
    pub(crate) predicate: Option<Arc<dyn PhysicalExpr>>,
    /// The order of rows in each file.
    pub(crate) ordering: Option<LexOrdering>,
    /// Rows that are enough.
    pub(crate) limit: Option<usize>,
}

/// Makes the lake's folder known.
pub(crate) fn register(runtime: &RuntimeEnv, lake: &Path) -> Result<()> {
    make_folder(lake)?;
    register_store(runtime, Arc::new(LocalFileSystem::new_with_prefix(lake)?))
}

/// Makes a store known that has the lake in it.
pub(crate) fn register_store(runtime: &RuntimeEnv, store: Arc<dyn ObjectStore>) -> Result<()> {
    runtime.register_object_store(ObjectStoreUrl::parse(URL)?.as_ref(), store);
    Ok(())
}

impl Scan {
    /// The plan.
    pub(crate) fn plan(self, options: &TableParquetOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let mut source = ParquetSource::new(table_schema()).with_table_parquet_options(options.clone());
        if let Some(predicate) = self.predicate {
            source = source.with_predicate(predicate);
        }
        let groups = self.groups.into_iter().map(|files| {
            let files = files.into_iter().map(|(file, day)| partitioned(&file, day));
            FileGroup::new(files.collect())
        });
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::parse(URL)?, Arc::new(source))
            .with_file_groups(groups.collect())
            .with_projection_indices(self.projection)?
            .with_output_ordering(self.ordering.into_iter().collect())
            .with_limit(self.limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

fn table_schema() -> TableSchema {
    TableSchema::builder(file_schema())
        .with_table_partition_cols(vec![
            Arc::new(ArrowField::new(Field::Class.name(), DataType::Utf8, false)),
            Arc::new(ArrowField::new(Field::Day.name(), DataType::Date32, false)),
        ])
        .build()
}

/// All columns that any file has. What a file lacks is null.
fn file_schema() -> SchemaRef {
    let fields: Vec<_> = COLUMNS.iter().map(Field::Column).collect();
    schema(&fields)
}

fn partitioned(file: &LakeFile, day: Day) -> PartitionedFile {
    let mut partitioned = PartitionedFile::new(file.name.clone(), file.bytes);
    partitioned.partition_values = vec![
        ScalarValue::Utf8(Some(file.class.name().to_owned())),
        ScalarValue::Date32(Some(day.0)),
    ];
    partitioned
}

/// The place of a column of files in a scan of all.
pub(crate) fn place(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|column| column.name == name)
}

/// The places of the columns that files of `class` have.
pub(crate) fn places(class: Class) -> Vec<usize> {
    let columns = COLUMNS.iter().enumerate();
    columns
        .filter(|(_, column)| column.is_in(class))
        .map(|(place, _)| place)
        .collect()
}
