//! The table `events`: the files of the lake and what is not in it yet.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{DFSchema, Result},
    config::TableParquetOptions,
    datasource::TableType,
    logical_expr::{Expr, TableProviderFilterPushDown, utils::conjunction},
    physical_expr::PhysicalExpr,
    physical_plan::{ExecutionPlan, streaming::StreamingTableExec, union::UnionExec},
};

use super::{Snapshot, fresh::Fresh};
use crate::{
    lake::{
        Day,
        rows::{all_fields, schema},
        scan::Scan,
    },
    store::{LakeFile, Position},
};

/// All entries of a snapshot.
#[derive(Debug)]
pub(super) struct Events {
    snapshot: Arc<Snapshot>,
    schema: SchemaRef,
    only: Option<Position>,
}

impl Events {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshot,
            schema: schema(&all_fields()),
            only: None,
        }
    }

    /// Only those of the run that ends before `past`.
    pub(super) fn of_run(snapshot: Arc<Snapshot>, past: Position) -> Self {
        Self {
            only: Some(past),
            ..Self::new(snapshot)
        }
    }

    fn files(&self) -> Vec<(LakeFile, Day)> {
        let runs = self.snapshot.runs().iter();
        let runs = runs.filter(|run| self.only.is_none_or(|past| run.past == past));
        let files = runs.flat_map(|run| run.files.iter().map(|file| (file.clone(), run.day)));
        files.collect()
    }

    fn fresh(&self, projection: Option<&Vec<usize>>) -> Result<Arc<dyn ExecutionPlan>> {
        let mut fields = all_fields();
        if let Some(projection) = projection {
            fields = projection.iter().map(|place| fields[*place]).collect();
        }
        let schema = schema(&fields);
        let fresh = Arc::new(Fresh::new(Arc::clone(&self.snapshot), fields));
        let plan = StreamingTableExec::try_new(schema, vec![fresh], None, [], false, None)?;
        Ok(Arc::new(plan))
    }

    fn predicate(&self, state: &dyn Session, filters: &[Expr]) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
        conjunction(filters.to_vec())
            .map(|filter| state.create_physical_expr(filter, &schema))
            .transpose()
    }
}

#[async_trait]
impl TableProvider for Events {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters leave out files, row groups and pages, by what is known of them; each row is looked at once more afterwards.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.files();
        let is_empty = files.is_empty();
        let options = TableParquetOptions {
            global: state.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let lake = Scan {
            groups: vec![files],
            projection: projection.cloned(),
            predicate: self.predicate(state, filters)?,
            ordering: None,
            limit,
        };
        match self.only {
            Some(_) => lake.plan(&options),
            None if is_empty => self.fresh(projection),
            None => UnionExec::try_new(vec![lake.plan(&options)?, self.fresh(projection)?]),
        }
    }
}
