use bytes::Bytes;
use eidetica_dag::*;
use serde::*;
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {}
pub struct FilterBudget;
impl FilterBudget {
    pub fn for_tips(_: usize) -> Self {
        Self
    }
}
pub struct FilterMatcher;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct FilterError;
impl Filter {
    pub fn build<V: DagView + ?Sized>(
        _: &V,
        _: [u8; 8],
        _: FilterBudget,
    ) -> Result<Self, V::Error> {
        Ok(Self {})
    }
    pub fn matcher(&self) -> Result<FilterMatcher, FilterError> {
        Ok(FilterMatcher)
    }
}
impl FilterMatcher {
    pub fn contains(&self, _: &EntryId, _: u32) -> bool {
        false
    }
}
