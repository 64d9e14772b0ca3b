//! The table `events`: the files of the lake and what is not in it yet.

use std::{any::Any, sync::Arc};

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
use crate::lake::{
    rows::{all_fields, schema},
    scan::Scan,
};

/// All entries of a snapshot.
#[derive(Debug)]
pub(super) struct Events {
    snapshot: Arc<Snapshot>,
    schema: SchemaRef,
}

impl Events {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshot,
            schema: schema(&all_fields()),
        }
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
    fn as_any(&self) -> &dyn Any {
        self
    }

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
        let mut fields = all_fields();
        if let Some(projection) = projection {
            fields = projection.iter().map(|place| fields[*place]).collect();
        }
        let fresh = Fresh::new(Arc::clone(&self.snapshot), fields);
        let fresh = StreamingTableExec::try_new(
            Arc::clone(datafusion::physical_plan::streaming::PartitionStream::schema(
                &fresh,
            )),
            vec![Arc::new(fresh)],
            None,
            [],
            false,
            None,
        )?;
        let files = self.snapshot.runs().iter().flat_map(|run| {
            let day = run.day;
            run.files.iter().map(move |file| (file.clone(), day))
        });
        let files: Vec<_> = files.collect();
        if files.is_empty() {
            return Ok(Arc::new(fresh));
        }
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
        UnionExec::try_new(vec![lake.plan(&options)?, Arc::new(fresh)])
    }
}
